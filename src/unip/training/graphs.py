"""A pass of training as one CUDA graph: recorded once, then started by one call instead of hundreds of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from unip.errors import UnipError

Values = dict[str, torch.Tensor]
WARM_UP = 3  # passes before recording, in which libraries choose kernels and take memory


class GraphedPass:
    """Forward and backward of one pass, recorded at the first call and replayed from then on.

    Small models are bound by the time it takes to start their kernels; a graph has none of that. Gradients are added
    to ``.grad`` in place, so they must be zeroed in place too. Shapes must stay the same; what changes from pass to
    pass must lie in the batch or in buffers that are filled before the call. Random numbers still follow torch's seed.

    Args:
        compute: Computes the losses of a batch and their gradients; it must not wait for the GPU.
        model: Whose buffers (batch norm's statistics) the warm-up must leave as they were.
    """

    def __init__(self, compute: Callable[..., Values], model: nn.Module) -> None:
        self.compute, self.model = compute, model
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: tuple[torch.Tensor, ...] = ()
        self.values: Values = {}

    def __call__(self, *batch: torch.Tensor) -> Values:
        """Run a pass; the values are overwritten by the next one.

        Raises:
            UnipError: The pass cannot be recorded.
        """
        if self.graph is None:
            try:
                with torch.random.fork_rng([batch[0].device]):  # a continued run records at another step
                    self._record(batch)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # a model that waits for the GPU, or copies from the processor
                raise UnipError(
                    f"this step cannot be recorded as a CUDA graph: {str(error).splitlines()[0]}",
                    "Use --compile auto, or --no-compile.",
                ) from error
        for static, new in zip(self.batch, batch, strict=True):
            static.copy_(new, non_blocking=True)
        assert self.graph is not None
        self.graph.replay()
        return self.values

    def _record(self, batch: tuple[torch.Tensor, ...]) -> None:
        self.batch = tuple(tensor.clone() for tensor in batch)
        kept = [buffer.clone() for buffer in self.model.buffers()]
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's autograd remembers the stream that it first ran on
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.compute(*self.batch)
        torch.cuda.current_stream().wait_stream(side)
        with torch.no_grad():
            for buffer, value in zip(self.model.buffers(), kept, strict=True):
                buffer.copy_(value)
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # loaders pin memory in other threads
            self.values = {name: value.detach() for name, value in self.compute(*self.batch).items()}
