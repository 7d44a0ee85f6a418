"""What runs the windows of a large frame in torch, and holds the logits of a strip on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.sampling.frames import rgb
from unip.deployment.engine import Wanted
from unip.deployment.inputs import Given
from unip.deployment.strips import Grid, Image8, segment_in_strips
from unip.segmentation.inference import Inference
from unip.segmentation.settings import sees_whole

Finish = Callable[[Tensor, Wanted], tuple[Any, Any, Any]]


class TorchStrips:
    """A :class:`unip.deployment.strips.Backend` on torch; to be used in inference mode.

    Args:
        inference: The model, ready to run.
        finish: Makes ids, confidence and probabilities of logits.
    """

    def __init__(self, inference: Inference, finish: Finish) -> None:
        self.inference, self.finish = inference, finish

    def zeros(self, shape: tuple[int, ...]) -> Tensor:
        """Return float32 zeros on the device."""
        return torch.zeros(shape, device=self.inference.device)

    def put(self, values: npt.NDArray[Any]) -> Tensor:
        """Return an array on the device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.inference.device)

    def run(self, windows: Sequence[Image8]) -> Iterator[Tensor]:
        """Yield the logits ``(C, h, w)`` of windows, which run in batches."""
        together = self.inference.together
        for first in range(0, len(windows), together):
            batch = self.put(np.stack(windows[first : first + together]))
            pixels = batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)
            yield from self.inference.model(rgb(pixels).contiguous()).float()


def segment_large(
    inference: Inference, given: Given, size: tuple[int, int], wanted: Wanted, finish: Finish
) -> tuple[Grid, tuple[Any, Any, Any]]:
    """Segment a large frame in strips.

    Args:
        inference: The model, ready to run.
        given: The frame.
        size: Height and width to which it is resized.
        wanted: What to compute.
        finish: Makes ids, confidence and probabilities of logits.

    Returns:
        Where its windows lay, and ids, confidence and probabilities.

    Raises:
        OutOfMemory: The device's memory is too small.
    """
    spec = inference.spec
    height, width = given.image.shape[:2]
    is_whole = sees_whole(size, spec.crop, inference.window)
    crop, stride = (max(size), max(size)) if is_whole else (spec.crop, spec.stride)
    grid = Grid((height, width), size, (crop, crop), (stride, stride), len(spec.classes.names))
    with inference.lock, torch.inference_mode(), inference.memory_told(crop, inference.together):
        return grid, segment_in_strips(given.image, grid, TorchStrips(inference, finish), wanted)
