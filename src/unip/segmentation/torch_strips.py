"""What runs the windows of a large frame in torch, and holds the logits of a strip on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.sampling.frames import rgb
from unip.segmentation.inference import Inference
from unip.segmentation.settings import sees_whole
from unip.segmentation.strips import Grid, Image8, rows_in_strips


class TorchStrips:
    """A :class:`unip.segmentation.strips.Backend` on torch; to be used in inference mode.

    Args:
        inference: The model, ready to run.
    """

    def __init__(self, inference: Inference) -> None:
        self.inference = inference

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


def torch_grid(inference: Inference, frame: tuple[int, int], size: tuple[int, int]) -> Grid:
    """Return where windows lie in a frame.

    Args:
        inference: The model, ready to run.
        frame: Height and width of the frame, in pixels.
        size: Those to which it is resized.
    """
    spec = inference.spec
    is_whole = sees_whole(size, spec.crop, inference.window)
    crop, stride = (max(size), max(size)) if is_whole else (spec.crop, spec.stride)
    return Grid(frame, size, (crop, crop), (stride, stride), len(spec.classes.names))


def logits_in_strips(inference: Inference, image: Image8, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Run a large frame.

    Args:
        inference: The model, ready to run.
        image: The frame, uint8 ``(H, W)`` or ``(H, W, 3)``.
        size: Height and width to which it is resized.

    Yields:
        Rows of the frame, from top to bottom, and their logits ``(C, n, W)`` on the device, which hold only until the
        next.

    Raises:
        OutOfMemory: The device's memory is too small.
    """
    grid = torch_grid(inference, (image.shape[0], image.shape[1]), size)
    blocks = rows_in_strips(image, grid, TorchStrips(inference))
    while True:
        # not around what is yielded: whoever takes it would be in inference mode, too
        with inference.lock, torch.inference_mode(), inference.memory_told(grid.window[0], inference.together):
            found = next(blocks, None)
        if found is None:
            return
        first, logits = found
        yield slice(first, first + logits.shape[1]), logits


def without_augmentation(name: object) -> str:
    """Say that a large frame is not augmented."""
    return f"note: {name} is large: such frames are segmented without test-time augmentation"
