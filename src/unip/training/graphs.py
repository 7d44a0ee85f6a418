"""A step of training as two CUDA graphs: a pass forward and backward, and the update of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from unip.errors import UnipError
from unip.runtime.cuda_graphs import CudaGraph, capture

Values = dict[str, torch.Tensor]


class GraphedPass:
    """Forward and backward of one pass, captured at the first call and replayed from then on.

    Random numbers still follow torch's seed.

    Args:
        compute: Computes the losses of a batch and their gradients; it must not wait for the GPU.
        model: Whose buffers (batch norm's statistics) the warm-up must leave as they were.
        adds: Whether a pass adds to the gradients of ``.grad``, which must then be zeroed in place after a step. If
            not, it writes new ones over them, which saves the zeroing and the sums.
    """

    def __init__(self, compute: Callable[..., Values], model: nn.Module, *, adds: bool) -> None:
        self.compute, self.model, self.adds = compute, model, adds
        self.graph: CudaGraph[Values] | None = None

    def __call__(self, *batch: torch.Tensor) -> Values:
        """Run a pass; the values are overwritten by the next one.

        Raises:
            UnipError: The pass cannot be captured.
        """
        if self.graph is None:
            try:
                with torch.random.fork_rng([batch[0].device]):  # a continued run records at another step
                    self.graph = self._capture(batch)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # a model that waits for the GPU, or copies from the processor
                raise UnipError(
                    f"this step cannot be captured as a CUDA graph: {str(error).splitlines()[0]}",
                    "Use --compile auto, or --no-compile.",
                ) from error
        return self.graph(*batch)

    def _capture(self, batch: tuple[torch.Tensor, ...]) -> CudaGraph[Values]:
        kept = [buffer.clone() for buffer in self.model.buffers()]

        def restore() -> None:
            with torch.no_grad():
                for buffer, value in zip(self.model.buffers(), kept, strict=True):
                    buffer.copy_(value)
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()

        def compute(*given: torch.Tensor) -> Values:
            if not self.adds:
                self.model.zero_grad(set_to_none=True)  # so that the backward pass hands over what it has computed
            return {name: value.detach() for name, value in self.compute(*given).items()}

        return CudaGraph(compute, batch, restore)


class GraphedUpdate:
    """What follows the backward pass, captured at the second call; the first one runs it kernel by kernel.

    So the first one makes the optimiser's state and loads its kernels, and no step is taken twice. What changes from
    step to step must lie in tensors, see :class:`StepNumbers`; gradients must stay where they are.

    Args:
        compute: The update; it must not wait for the GPU.
        device: The GPU.
    """

    def __init__(self, compute: Callable[[], Values], device: torch.device) -> None:
        self.compute, self.device = compute, device
        self.called = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: Values = {}

    def __call__(self) -> Values:
        """Update the weights; the values are overwritten by the next call."""
        if not self.called:
            self.called = True
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*capturable=True")  # that this one is not captured
                return self.compute()
        with torch.cuda.device(self.device):
            if self.graph is None:
                side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                side.wait_stream(torch.cuda.current_stream())
                self.graph, self.result = capture(self.compute, side)
            self.graph.replay()
        return self.result


class StepNumbers:
    """Numbers that change from step to step, on the device, where a captured update reads them.

    Attributes:
        tensor: float32 ``(count,)``.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.tensor = torch.zeros(count, device=device)

    def fill(self, numbers: Sequence[float]) -> None:
        """Put in the numbers of a step, without waiting for the device."""
        new = torch.tensor(numbers, dtype=torch.float32)
        if self.tensor.is_cuda:
            new = new.pin_memory()
        self.tensor.copy_(new, non_blocking=True)
