"""Running a model over frames of files, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from unip.data.sampling.frames import Frame, Frames
from unip.segmentation.inference import Inference, decoded
from unip.segmentation.model import Segmenter


def segment_frames(
    segmenter: Segmenter, frames: Frames, *, workers: int | str = 0, **settings: Any
) -> Iterator[tuple[Frame, Tensor]]:
    """Yield each frame with its logits, none for a damaged one; ``settings`` are those of :class:`Inference`."""
    inference = Inference(segmenter, **settings)
    for group in inference.groups(decoded(frames, workers)):
        yield from inference.run(group)
