"""Computations as CUDA graphs: captured once, then started by one call instead of hundreds of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
WARM_UP_RUNS = 2  # runs before recording, in which libraries choose kernels and take memory


class NotCapturable(RuntimeError):
    """A computation waits for the GPU, or copies from the processor; nothing has been captured yet."""


class CudaGraph(Generic[T]):
    """A computation on a GPU, captured with one batch and replayed with others of the same shapes and types.

    Small models with small batches are bound by the time it takes to start their kernels; a graph has none of that.
    What changes from call to call must lie in the batch, or in tensors that are filled before the call.

    Whether ``compute`` waits for the GPU is found before the capture, with torch's check for it, which holds for the
    whole process as long as it runs: a failed capture leaves torch's random numbers unusable.

    Args:
        compute: What to capture; it must not wait for the GPU. Autocast, if any, is entered inside.
        batch: What to capture it with, at least one tensor, all on one GPU; copied.
        after_warm_up: Undoes what the runs before the capture left behind.

    Raises:
        NotCapturable: It waits for the GPU.
        RuntimeError: It failed while it was captured; random numbers on this GPU are unusable then.
        torch.OutOfMemoryError: The GPU's memory is too small.
    """

    def __init__(
        self, compute: Callable[..., T], batch: tuple[Tensor, ...], after_warm_up: Callable[[], None] = lambda: None
    ) -> None:
        self.batch = tuple(tensor.clone() for tensor in batch)
        self.device = batch[0].device
        with torch.cuda.device(self.device):  # streams and graphs are those of the current one
            side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's autograd remembers the stream that it first ran on
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP_RUNS):
                    compute(*self.batch)
                with _errors_if_waiting():
                    compute(*self.batch)
            torch.cuda.current_stream().wait_stream(side)
            after_warm_up()
            self.graph, self.result = capture(lambda: compute(*self.batch), side)

    def __call__(self, *batch: Tensor) -> T:
        """Run it; the result is overwritten by the next call.

        Raises:
            ValueError: A tensor has another shape or type than the one it was captured with.
        """
        for static, new in zip(self.batch, batch, strict=True):
            if (static.shape, static.dtype) != (new.shape, new.dtype):
                raise ValueError(f"captured with {static.dtype} {static.shape}, got {new.dtype} {new.shape}")
            static.copy_(new, non_blocking=True)
        with torch.cuda.device(self.device):
            self.graph.replay()
        return self.result


def capture(compute: Callable[[], T], stream: Any) -> tuple[torch.cuda.CUDAGraph, T]:
    """Capture a computation that ran before, on a stream of the current GPU; what it returns is filled by replays."""
    graph = torch.cuda.CUDAGraph()
    # the outer one leaves the stream also when capturing fails; loaders pin memory in other threads
    with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        result = compute()
    return graph, result


@contextmanager
def _errors_if_waiting() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NotCapturable(str(error)) from error
    finally:
        torch.cuda.set_sync_debug_mode(before)
