"""Running a segmentation model over image files: decoding ahead, windows, original size."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unip.data.sampling.frames import Frame, Frames, rgb, window_starts
from unip.errors import UnipError
from unip.runtime.cuda_graphs import CudaGraph, NotCapturable
from unip.runtime.workers import start_of_workers, usable_cores
from unip.segmentation.heads import resize
from unip.segmentation.model import Segmenter
from unip.segmentation.settings import Window, WindowBatch, Workers
from unip.segmentation.sliding import sliding_logits

log = logging.getLogger(__name__)

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
        batch_size: Windows that run together; ``auto``: 8, on a GPU 24, where small batches leave it idle; of whole
            images as many as are as large.
        workers: Processes that decode images.

    Yields:
        Each frame in order, with float32 logits ``(C, H, W)`` at its stored size, on the device; no logits
        ``(0, 0, 0)`` for a frame that could not be read.

    Raises:
        OutOfMemory: The device's memory is too small.
    """
    segmenter.to(device)
    spec = segmenter.spec
    together = (24 if device.type == "cuda" else 8) if batch_size == "auto" else batch_size

    def logits_of(images: Tensor) -> Tensor:
        with _arithmetic(device, dtype):  # here: what it casts and keeps must not outlive a recording
            return segmenter(images)  # type: ignore[no-any-return]

    def windows(frame: Frame) -> int:
        """How many windows a frame has; a whole one counts as those it is as large as, but for a given batch size."""
        sides = frame.pixels.shape[-2:]
        if window == "slide":
            return prod(len(window_starts(side, spec.crop, spec.stride)) for side in sides)
        return 1 if batch_size != "auto" else -(-prod(sides) // spec.crop**2)

    model = _ReplayedBatches(logits_of) if device.type == "cuda" else logits_of
    crop, at_once = spec.crop, together
    try:
        for group in _groups(frames, workers, together, len(spec.classes.names), windows):
            good = [frame for frame in group if frame.problem is None]
            at_once = min(together, len(good) if window == "whole" else sum(map(windows, good)))
            pixels = [rgb(frame.pixels.to(device, non_blocking=True)) for frame in good]
            if window == "whole":
                crop = max([1, *(max(p.shape) for p in pixels)])
            with torch.inference_mode():
                found = iter(sliding_logits(model, pixels, crop=crop, stride=spec.stride, batch=together))
            for frame in group:
                if frame.problem is not None:
                    yield frame, torch.zeros(0, 0, 0)
                else:
                    yield frame, resize(next(found)[None], (frame.image.shape[0], frame.image.shape[1]))[0]
    except torch.OutOfMemoryError as error:
        ways = {f"a --batch-size below {at_once}": at_once > 1, "--window slide": window == "whole"}
        raise OutOfMemory(
            f"the device ran out of memory with windows of {crop} pixels, {at_once} at a time",
            f"Use {', or '.join(way for way, is_left in ways.items() if is_left) or '--device cpu'}.",
        ) from error


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


def _groups(
    frames: Frames, workers: Workers, together: int, classes: int, weigh: Callable[[Frame], int]
) -> Iterator[list[Frame]]:
    """Collect frames until they weigh as much as a batch, or their logits would take much memory.

    What is left of a group after its full batches runs as a smaller one.
    """
    group: list[Frame] = []
    weight = logits = 0
    for frame in _decoded(frames, workers):
        group.append(frame)
        weight += weigh(frame)
        logits += classes * frame.pixels.shape[-2:].numel()
        if weight >= together or logits >= MAX_LOGITS:
            yield group
            group, weight, logits = [], 0, 0
    if group:
        yield group


def _decoded(frames: Frames, workers: Workers) -> DataLoader[Frame]:
    count = _default_workers(len(frames)) if workers == "auto" else workers
    dataset: Dataset[Any] = frames
    ahead = 8 if count else None  # frames per worker
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=count,
        prefetch_factor=ahead,
        worker_init_fn=start_of_workers(),
    )


def _default_workers(images: int) -> int:
    cores = usable_cores()
    return 0 if cores <= 2 or images < 16 else min(8, cores)


def _arithmetic(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
