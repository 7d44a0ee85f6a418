"""Computations as CUDA graphs: recorded once, then started by one call instead of hundreds of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
WARM_UP = 2  # runs before recording, in which libraries choose kernels and take memory


class Recorded(Generic[T]):
    """A computation on a GPU, recorded with one batch and replayed with others of the same shapes and types.

    Small models are bound by the time it takes to start their kernels; a graph has none of that. What changes from
    call to call must lie in the batch, or in tensors that are filled before the call.

    Args:
        compute: What to record; it must not wait for the GPU.
        batch: What to record it with; copied.
        after_warm_up: Undoes what the runs before recording left behind.

    Raises:
        RuntimeError: It cannot be recorded: it waits for the GPU, or copies from the processor.
        torch.OutOfMemoryError: The GPU's memory is too small.
    """

    def __init__(
        self, compute: Callable[..., T], batch: tuple[Tensor, ...], after_warm_up: Callable[[], None] = lambda: None
    ) -> None:
        self.batch = tuple(tensor.clone() for tensor in batch)
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's autograd remembers the stream that it first ran on
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                compute(*self.batch)
            with _errors_if_waiting():  # found here: recording in vain leaves torch's random numbers unusable
                compute(*self.batch)
        torch.cuda.current_stream().wait_stream(side)
        after_warm_up()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # loaders pin memory in other threads
            self.result = compute(*self.batch)

    def __call__(self, *batch: Tensor) -> T:
        """Run it; the result is overwritten by the next call."""
        for static, new in zip(self.batch, batch, strict=True):
            static.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.result


@contextmanager
def _errors_if_waiting() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
