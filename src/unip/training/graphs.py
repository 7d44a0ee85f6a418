"""A pass of training as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from unip.errors import UnipError
from unip.runtime.cuda_graphs import CudaGraph

Values = dict[str, torch.Tensor]


class GraphedPass:
    """Forward and backward of one pass, captured at the first call and replayed from then on.

    Gradients are added to ``.grad`` in place, so they must be zeroed in place too. Random numbers still follow
    torch's seed.

    Args:
        compute: Computes the losses of a batch and their gradients; it must not wait for the GPU.
        model: Whose buffers (batch norm's statistics) the warm-up must leave as they were.
    """

    def __init__(self, compute: Callable[..., Values], model: nn.Module) -> None:
        self.compute, self.model = compute, model
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
            return {name: value.detach() for name, value in self.compute(*given).items()}

        return CudaGraph(compute, batch, restore)
