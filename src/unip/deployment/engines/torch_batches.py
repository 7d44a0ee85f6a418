"""Frames of one size, segmented together in torch: from their pixels to their ids in a few steps, or one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from unip.data.sampling.frames import Frame
from unip.deployment.engine import Wanted
from unip.segmentation.inference import Inference, ReplayedBatches, class_ids, stored_size
from unip.segmentation.reliability import confidence_of

#: Ids, confidence and probabilities, as far as they are wanted.
Found: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Finish:
    """Makes ids, confidence and probabilities of logits, where those are.

    Attributes:
        temperature: Of the confidence.
    """

    temperature: float

    def __call__(self, logits: Tensor, wanted: Wanted) -> Found:
        """Return what is wanted of ``(C, ...)``; the classes of probabilities come first, too."""
        if not logits.numel():
            return None, None, None
        confidence = confidence_of(logits, self.temperature) if wanted.confidence else None
        probabilities = (logits / self.temperature).softmax(0) if wanted.probabilities else None
        return class_ids(logits), confidence, probabilities


class Batches:
    """Segments frames that are alike, see :meth:`unip.segmentation.inference.Inference.are_alike`.

    Frame by frame there are dozens of kernels to start for each, which takes the processor longer than a GPU takes to
    run them. Here there are as many for a batch; and batches of the first size that keeps coming are a CUDA graph.

    Args:
        inference: The model, ready to run.
        finish: What is made of the logits.
    """

    def __init__(self, inference: Inference, finish: Finish) -> None:
        self.inference, self.finish = inference, finish
        # in a captured batch, batches of windows must not be graphs of their own
        self.run = ReplayedBatches(partial(self._segment, inference.model), partial(self._segment, inference.forward))

    def __call__(self, frames: Sequence[Frame], wanted: Wanted) -> list[Found]:
        """Segment frames; return what is wanted of each, on its way to the processor.

        Raises:
            OutOfMemory: The device's memory is too small.
        """
        with self.inference.memory_told_of(frames), torch.inference_mode():
            pixels = self.inference.batch(frames)
            ids, confidence, probabilities = to_processor(self.run(pixels, stored_size(frames[0]), wanted))
        return [
            (
                None if ids is None else ids[number],
                None if confidence is None else confidence[number],
                None if probabilities is None else probabilities[:, number],
            )
            for number in range(len(frames))
        ]

    def _segment(
        self, model: Callable[[Tensor], Tensor], pixels: Tensor, size: tuple[int, int], wanted: Wanted
    ) -> Found:
        return self.finish(self.inference.batch_logits(pixels, size, model).transpose(0, 1), wanted)


def to_processor(found: Found, *, wait: bool = False) -> Found:
    """Copy what was found to the processor; a GPU is waited for only if that is said."""
    ids, confidence, probabilities = (
        None if each is None else each.to("cpu", non_blocking=each.is_cuda and not wait) for each in found
    )
    return ids, confidence, probabilities
