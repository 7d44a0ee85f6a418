"""Large frames in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unip.deployment.engine import Wanted
from unip.deployment.inputs import Given
from unip.deployment.strips import segment_in_strips
from unip.segmentation.inference import Inference
from unip.segmentation.strips import Grid
from unip.segmentation.torch_strips import TorchStrips, torch_grid

FinishFunction = Callable[[Tensor, Wanted], tuple[Any, Any, Any]]


class FinishedStrips(TorchStrips):
    """A :class:`unip.deployment.strips.Finisher` on torch; to be used in inference mode.

    Args:
        inference: The model, ready to run.
        finish: Makes ids, confidence and probabilities of logits.
    """

    def __init__(self, inference: Inference, finish: FinishFunction) -> None:
        super().__init__(inference)
        self.finish = finish


def segment_large(
    inference: Inference, given: Given, size: tuple[int, int], wanted: Wanted, finish: FinishFunction
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
    grid = torch_grid(inference, (given.image.shape[0], given.image.shape[1]), size)
    with inference.lock, torch.inference_mode(), inference.memory_told(grid.window[0], inference.together):
        return grid, segment_in_strips(given.image, grid, FinishedStrips(inference, finish), wanted)
