"""What an exported file is compared with: the model in torch, on arrays instead of files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.images.decoding import to_image8
from unip.data.images.nodata import without_nodata
from unip.data.sampling.frames import fit_short_side, rgb
from unip.deployment.export.metadata import ExportMetadata, GoldenFrame
from unip.deployment.export.runners import Outputs, as_input
from unip.segmentation.heads import resize
from unip.segmentation.model import Segmenter
from unip.segmentation.reliability import confidence_of


@torch.no_grad()
def reference_logits(segmenter: Segmenter, frame: npt.NDArray[Any]) -> Tensor:
    """Return the logits that ``unip predict --window whole`` has for a file with these samples.

    Args:
        segmenter: On the CPU, in evaluation mode.
        frame: ``(H, W)`` uint8, uint16, int32 or float32, or ``(H, W, 3)`` uint8.

    Returns:
        float32 ``(C, H, W)``.
    """
    conversion = segmenter.spec.conversion
    samples = frame if conversion.nodata is None else without_nodata(frame, conversion.nodata)
    image = to_image8(samples, conversion)
    pixels = rgb(fit_short_side(image, segmenter.spec.short_side))
    return resize(segmenter(pixels[None]), (image.shape[0], image.shape[1]))[0]


class ReferenceRunner:
    """The model in torch in place of a file: it takes and gives what the file's graph does.

    Args:
        segmenter: On the CPU, in evaluation mode.
        metadata: Of the file.
    """

    def __init__(self, segmenter: Segmenter, metadata: ExportMetadata) -> None:
        self.segmenter, self.metadata = segmenter, metadata
        self.golden: list[GoldenFrame] = []

    def outputs(self, frame: npt.NDArray[Any]) -> Outputs:
        """Segment a frame as the graph takes it."""
        logits = reference_logits(self.segmenter, as_input(frame, self.metadata))
        confidence = confidence_of(logits, self.metadata.temperature)
        return Outputs(logits.numpy().argmax(0).astype(np.uint8), confidence.numpy(), logits.numpy())
