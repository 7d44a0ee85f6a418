"""Running a segmentation model over image files: decoding ahead, windows, original size."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import prod
from threading import RLock
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unip.data.sampling.frames import Frame, Frames, rgb
from unip.data.sampling.scaling import window_starts
from unip.errors import UnipError
from unip.runtime.cuda_graphs import CudaGraph, NotCapturable
from unip.runtime.workers import load, start_of_workers, usable_cores
from unip.segmentation.heads import resize
from unip.segmentation.model import Segmenter
from unip.segmentation.settings import Window, WindowBatch, Workers
from unip.segmentation.sliding import sliding_logits

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_LOGITS = 2**28  # of the images in memory at once: 1 GiB
CAPTURE_AFTER = 3  # times that a shape of batches comes before it is captured, which takes as long as four of them


class OutOfMemory(UnipError):
    """The device's memory is too small for the windows that run together."""


def segment_frames(
    segmenter: Segmenter,
    frames: Frames,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    window: Window = "slide",
    batch_size: WindowBatch = "auto",
    workers: Workers = "auto",
) -> Iterator[tuple[Frame, Tensor]]:
    """Run a model over frames.

    Args:
        segmenter: In evaluation mode; moved to ``device``.
        frames: Resized to the model's short side.
        device: Where to run.
        dtype: What to compute in.
        window: Sliding windows or whole images.
        batch_size: See :class:`Inference`.
        workers: Processes that decode images.

    Yields:
        Each frame in order, with float32 logits ``(C, H, W)`` at its stored size, on the device; no logits
        ``(0, 0, 0)`` for a frame that could not be read.

    Raises:
        OutOfMemory: The device's memory is too small.
    """
    inference = Inference(segmenter, device=device, dtype=dtype, window=window, batch_size=batch_size)
    for group in inference.groups(decoded(frames, workers)):
        yield from inference.run(group)


class Inference:
    """A model made ready to run. Several threads may use it at once: one group of frames runs at a time.

    Args:
        segmenter: In evaluation mode; moved to ``device``.
        device: Where to run.
        dtype: What to compute in.
        window: Sliding windows or whole images.
        batch_size: Windows that run together; ``auto``: 8, on a GPU 24, where small batches leave it idle; of whole
            images as many as are as large.
        compiled: Compile the model with ``torch.compile`` when it runs first.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        window: Window = "slide",
        batch_size: WindowBatch = "auto",
        compiled: bool = False,
    ) -> None:
        self.spec, self.device, self.window, self.batch_size = segmenter.spec, device, window, batch_size
        self.together = (24 if device.type == "cuda" else 8) if batch_size == "auto" else batch_size
        self.lock = RLock()  # for callers, too, who do more than run in one go
        segmenter.to(device)
        forward: Callable[[Tensor], Tensor] = torch.compile(segmenter) if compiled else segmenter

        def logits_of(images: Tensor) -> Tensor:
            with _arithmetic(device, dtype):  # here: what it casts and keeps must not outlive a recording
                return forward(images)

        self.model = _ReplayedBatches(logits_of) if device.type == "cuda" else logits_of

    def groups(self, frames: Iterable[Frame]) -> Iterator[list[Frame]]:
        """Collect frames until they weigh as much as a batch, or their logits would take much memory.

        What is left of a group after its full batches runs as a smaller one.
        """
        group: list[Frame] = []
        weight = logits = 0
        for frame in frames:
            group.append(frame)
            weight += self._windows(frame)
            logits += len(self.spec.classes.names) * frame.pixels.shape[-2:].numel()
            if weight >= self.together or logits >= MAX_LOGITS:
                yield group
                group, weight, logits = [], 0, 0
        if group:
            yield group

    def run(self, group: Sequence[Frame]) -> Iterator[tuple[Frame, Tensor]]:
        """Segment a group of frames; yield what :func:`segment_frames` does.

        Raises:
            OutOfMemory: The device's memory is too small.
        """
        good = [frame for frame in group if frame.problem is None]
        at_once = min(self.together, len(good) if self.window == "whole" else sum(map(self._windows, good)))
        crop = self.spec.crop
        if self.window == "whole":
            crop = max([1, *(max(frame.pixels.shape) for frame in good)])
        with self.memory_told(crop, at_once):
            with self.lock, torch.inference_mode():
                pixels = [rgb(frame.pixels.to(self.device, non_blocking=True)) for frame in good]
                logits = sliding_logits(self.model, pixels, crop=crop, stride=self.spec.stride, batch=self.together)
            found = iter(logits)
            for frame in group:
                if frame.problem is not None:
                    yield frame, torch.zeros(0, 0, 0)
                else:
                    yield frame, resize(next(found)[None], (frame.image.shape[0], frame.image.shape[1]))[0]

    @contextmanager
    def memory_told(self, crop: int, at_once: int) -> Iterator[None]:
        """Say what helps if the device's memory is too small for so many windows of this side."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            ways = {f"a --batch-size below {at_once}": at_once > 1, "--window slide": self.window == "whole"}
            raise OutOfMemory(
                f"the device ran out of memory with windows of {crop} pixels, {at_once} at a time",
                f"Use {', or '.join(way for way, is_left in ways.items() if is_left) or '--device cpu'}.",
            ) from error

    def _windows(self, frame: Frame) -> int:
        """How many windows a frame has; a whole one counts as those it is as large as, but for a given batch size."""
        sides = frame.pixels.shape[-2:]
        if self.window == "slide":
            return prod(len(window_starts(side, self.spec.crop, self.spec.stride)) for side in sides)
        return 1 if self.batch_size != "auto" else -(-prod(sides) // self.spec.crop**2)


class _ReplayedBatches:
    """A model whose batches of the first shape that keeps coming are a CUDA graph each; others run as ever."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self.model = model
        self.seen: Counter[torch.Size] = Counter()
        self.shape: torch.Size | None = None
        self.graph: CudaGraph[Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        self.seen[images.shape] += 1
        if self.shape is None and self.seen[images.shape] == CAPTURE_AFTER:
            self.shape = images.shape
            try:
                self.graph = CudaGraph(self.model, (images,))
            except torch.OutOfMemoryError:
                pass  # a recording keeps memory of its own; without it there may be enough
            except NotCapturable as error:
                why = str(error).partition("\n")[0]
                log.warning(f"note: windows run kernel by kernel, as they cannot be captured as a CUDA graph: {why}")
        if self.graph is None or images.shape != self.shape:
            return self.model(images)
        return self.graph(images)


def decoded(frames: Dataset[T], workers: Workers) -> Iterator[T]:
    """Return what decodes the items of a data set ahead, in processes where there are cores for them."""
    dataset: Any = frames  # torch's class has no length
    count = _default_workers(len(dataset)) if workers == "auto" else workers
    ahead = 8 if count else None  # frames per worker
    loader: DataLoader[T] = DataLoader(
        dataset,
        batch_size=None,
        num_workers=count,
        prefetch_factor=ahead,
        worker_init_fn=start_of_workers(),
    )
    return load(loader)


def _default_workers(images: int) -> int:
    cores = usable_cores()
    return 0 if cores <= 2 or images < 16 else min(8, cores)


def _arithmetic(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
