"""Running a segmentation model over image files: decoding ahead, windows, original size."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import RLock
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unip.data.labelled.outlines import sizes_of_some
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.frames import Frame, fit_short_side, rgb
from unip.data.sampling.scaling import window_starts
from unip.errors import UnipError
from unip.runtime.compiling import keep_kernels
from unip.runtime.cuda_graphs import CudaGraph, NotCapturable
from unip.runtime.queues import map_ahead
from unip.runtime.shared import Arena, Slot
from unip.runtime.workers import (
    end_loading,
    load,
    lost_process_told,
    next_batch,
    start_of_workers,
    usable_cores,
)
from unip.segmentation.heads import resize
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.settings import WHOLE_UP_TO, Window, WindowBatch, Workers, sees_whole
from unip.segmentation.sliding import sliding_logits, sliding_logits_of_batch

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_LOGITS = 2**28  # of the images in memory at once: 1 GiB
MAX_AHEAD_BYTES = 2**29  # of frames that processes read ahead of the model, about
MAX_AHEAD = 8  # frames that a process reads ahead
BATCHES_AHEAD = 2  # in so many parts
CAPTURE_AFTER = 3  # times that a shape of batches comes before it is captured, which takes as long as four of them


class OutOfMemory(UnipError):
    """The device's memory is too small for the windows that run together."""


@dataclass(frozen=True)
class Augmentation:
    """Test-time augmentation: what else an image is segmented as; the logits of all are averaged.

    Attributes:
        flip: Mirrored left to right, too.
        scales: Factors of the size at which the model sees images.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    @property
    def views(self) -> list[tuple[float, bool]]:
        """Each scale, plain and mirrored."""
        return [(scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.flip else (False,))]

    def describe(self) -> str:
        """Say what is done; empty if nothing is."""
        if self.views == [(1.0, False)]:
            return ""
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        return f"test-time augmentation: scales {scales}{', each also mirrored' * self.flip}; logits are averaged"


PLAIN = Augmentation()


def class_ids(logits: Tensor) -> Tensor:
    """Return the class of the highest logit, uint8 ``(H, W)`` of ``(C, H, W)``; of equal ones the first.

    On a CPU, ``max`` over the first axis is five times as fast as ``argmax``. There may be more axes.
    """
    return logits.max(0).indices.byte()


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
        augmentation: What else each image is segmented as.
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
        augmentation: Augmentation = PLAIN,
    ) -> None:
        self.spec, self.device, self.window, self.batch_size = segmenter.spec, device, window, batch_size
        self.augmentation = augmentation
        self.together = (24 if device.type == "cuda" else 8) if batch_size == "auto" else batch_size
        self.lock = RLock()  # for callers, too, who do more than run in one go
        segmenter.to(device)
        if compiled:
            keep_kernels()
        forward: Callable[[Tensor], Tensor] = torch.compile(segmenter) if compiled else segmenter

        def logits_of(images: Tensor) -> Tensor:
            with _arithmetic(device, dtype):  # here: what it casts and keeps must not outlive a recording
                return forward(images)

        self.forward = logits_of
        self.model = ReplayedBatches(logits_of) if device.type == "cuda" else logits_of

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
        """Segment a group of frames.

        Yields:
            Each frame in order, with float32 logits ``(C, H, W)`` at its stored size, on the device; no logits
            ``(0, 0, 0)`` for a frame that could not be read.

        Raises:
            OutOfMemory: The device's memory is too small.
        """
        good = [frame for frame in group if frame.problem is None]
        with self.memory_told_of(good):
            with self.lock, torch.inference_mode():
                found = iter(self._logits(good))
            for frame in group:
                if frame.problem is not None:
                    yield frame, torch.zeros(0, 0, 0)
                else:
                    yield frame, resize(next(found)[None], stored_size(frame))[0]

    def are_alike(self, frames: Sequence[Frame]) -> bool:
        """Say whether :meth:`batch_logits` can segment frames: of one size, seen once, and of logits that fit."""
        kinds = {(frame.pixels.shape, stored_size(frame)) for frame in frames}
        if len(kinds) != 1 or self.augmentation.describe():
            return False
        largest = max(prod(sides[-2:]) for sides in kinds.pop())
        return len(frames) * len(self.spec.classes.names) * largest <= MAX_LOGITS

    def batch(self, group: Sequence[Frame]) -> Tensor:
        """Return the pixels of frames that are alike, on the device, uint8 ``(N, 1 or 3, h, w)``."""
        on_gpu = self.device.type == "cuda"  # which is not waited for if what it copies is in pinned memory
        pixels = torch.empty((len(group), *group[0].pixels.shape), dtype=torch.uint8, pin_memory=on_gpu)
        np.stack([frame.pixels.numpy() for frame in group], out=pixels.numpy())
        return pixels.to(self.device, non_blocking=True)

    def batch_logits(self, pixels: Tensor, size: tuple[int, int], model: Callable[[Tensor], Tensor]) -> Tensor:
        """Segment frames of one size in steps that depend on nothing else: they can be captured as a CUDA graph.

        Args:
            pixels: uint8 ``(N, 1 or 3, h, w)``, on the device.
            size: Height and width as they are stored.
            model: ``self.model``; or ``self.forward``, where all of it is captured.

        Returns:
            float32 logits ``(N, C, H, W)``, those that :meth:`run` gives.
        """
        is_whole = sees_whole(pixels.shape[-2:], self.spec.crop, self.window)
        crop = max(pixels.shape[-2:]) if is_whole else self.spec.crop
        logits = sliding_logits_of_batch(model, pixels, crop=crop, stride=self.spec.stride, batch=self.together)
        return resize(logits, size)

    def memory_told_of(self, frames: Sequence[Frame]) -> AbstractContextManager[None]:
        """Say what helps if the device's memory is too small for frames that run together."""
        crop = self.spec.crop
        longest = max((max(frame.pixels.shape) for frame in frames if self.is_whole(frame)), default=crop)
        windows = len(frames) if self.window == "whole" else sum(map(self._windows, frames))
        return self.memory_told(max(crop, longest), min(self.together, windows))

    @contextmanager
    def memory_told(self, side: int, at_once: int) -> Iterator[None]:
        """Say what helps if the device's memory is too small for so many windows of this side."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            ways = {f"a --batch-size below {at_once}": at_once > 1, "--window slide": side > self.spec.crop}
            raise OutOfMemory(
                f"the device ran out of memory with windows of {side} pixels, {at_once} at a time",
                f"Use {', or '.join(way for way, is_left in ways.items() if is_left) or '--device cpu'}.",
            ) from error

    def _logits(self, frames: Sequence[Frame]) -> list[Tensor]:
        """Return the logits of frames on the device: at the model's size, or at the stored one if they are averaged."""
        views = self.augmentation.views
        if views == [(1.0, False)]:
            return self._windowed([self._move(frame.pixels) for frame in frames])
        totals: list[Tensor] = []
        for scale, mirrored in views:
            seen = [self._move(frame.pixels if scale == 1 else _scaled(frame, scale)) for frame in frames]
            for place, logits in enumerate(self._windowed([image.flip(-1) if mirrored else image for image in seen])):
                larger = resize((logits.flip(-1) if mirrored else logits)[None], stored_size(frames[place]))[0]
                if place == len(totals):
                    totals.append(larger.clone())
                else:
                    totals[place] += larger
        return [total.div_(len(views)) for total in totals]

    def _move(self, pixels: Tensor) -> Tensor:
        """Bring pixels to the device, with three channels; to a GPU without waiting for what it has to do."""
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        return rgb(pixels.to(self.device, non_blocking=True))

    def _windowed(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of images ``(3, H, W)`` by whole images or windows, each as is right for its size."""
        whole = [sees_whole(image.shape[1:], self.spec.crop, self.window) for image in images]
        found: dict[int, Tensor] = {}
        for is_whole in (True, False):
            places = [place for place, each in enumerate(whole) if each == is_whole]
            chosen = [images[place] for place in places]
            crop = max([1, *(max(image.shape) for image in chosen)]) if is_whole else self.spec.crop
            if chosen:
                logits = sliding_logits(self.model, chosen, crop=crop, stride=self.spec.stride, batch=self.together)
                found |= dict(zip(places, logits, strict=True))
        return [found[place] for place in range(len(images))]

    def is_whole(self, frame: Frame) -> bool:
        """Say whether a frame is segmented whole."""
        return sees_whole(frame.pixels.shape[-2:], self.spec.crop, self.window)

    def _windows(self, frame: Frame) -> int:
        """How many windows a frame has; a whole one counts as those it is as large as, but for a given batch size."""
        sides = frame.pixels.shape[-2:]
        if not self.is_whole(frame):
            return prod(len(window_starts(side, self.spec.crop, self.spec.stride)) for side in sides)
        return 1 if self.batch_size != "auto" else -(-prod(sides) // self.spec.crop**2)


def describe_window(spec: SegmenterSpec, window: Window) -> str:
    """Say in which parts images are segmented."""
    windows = f"windows of {spec.crop} every {spec.stride} pixels"
    if window == "auto":
        return f"whole images up to {int(WHOLE_UP_TO * spec.crop)} pixels a side, larger ones in {windows}"
    return windows if window == "slide" else "whole images"


def stored_size(frame: Frame) -> tuple[int, int]:
    """Return the height and width of a frame as it is stored."""
    return frame.image.shape[0], frame.image.shape[1]


def _scaled(frame: Frame, scale: float) -> Tensor:
    """Return the pixels of a frame as a model sees them, larger or smaller by a factor."""
    return fit_short_side(frame.image, max(1, round(scale * min(frame.pixels.shape[-2:]))))


class ReplayedBatches(Generic[T]):
    """A computation whose batches of the first shape that keeps coming are a CUDA graph each; others run as ever.

    Args:
        compute: Called with a batch, and with what else its steps depend on.
        captured: The same computation without graphs in it, to be captured; None: it has none.
    """

    def __init__(self, compute: Callable[..., T], captured: Callable[..., T] | None = None) -> None:
        self.compute, self.captured = compute, captured or compute
        self.seen: Counter[Hashable] = Counter()
        self.kind: Hashable = None
        self.graph: CudaGraph[T] | None = None

    def __call__(self, images: Tensor, *settings: Hashable) -> T:
        """Compute; what a graph returns is overwritten by the next call."""
        kind = images.shape, settings
        self.seen[kind] += 1
        if self.kind is None and self.seen[kind] == CAPTURE_AFTER:
            self.kind = kind
            try:
                self.graph = CudaGraph(lambda batch: self.captured(batch, *settings), (images,))
            except torch.OutOfMemoryError:
                pass  # a recording keeps memory of its own; without it there may be enough
            except NotCapturable as error:
                why = str(error).partition("\n")[0]
                log.warning(f"note: windows run kernel by kernel, as they cannot be captured as a CUDA graph: {why}")
        if self.graph is None or kind != self.kind:
            return self.compute(images, *settings)
        return self.graph(images)


@dataclass(frozen=True)
class Sharing(Generic[T]):
    """How what processes read comes to this one without being copied.

    Attributes:
        arena: The memory that they share.
        move: Moves an item to a slot of it, as far as there is room.
    """

    arena: Arena
    move: Callable[[T, Slot], T]


def decoded(frames: Dataset[T], workers: Workers, sharing: Sharing[T] | None = None) -> Iterator[T]:
    """Return what decodes the items of a data set ahead: in processes where there are cores for them, else threads."""
    dataset: Any = frames  # torch's class has no length
    count = _default_workers(len(dataset)) if workers == "auto" else workers
    heaviest = 1  # only processes are told beforehand how many to read
    if count:
        heaviest = _heaviest(dataset) if sharing is None else sharing.arena.slot_bytes
    if workers == "auto":
        count = min(count, MAX_AHEAD_BYTES // heaviest)
    if workers == "auto" and not count and len(dataset) > 1:
        return map_ahead(dataset.__getitem__, range(len(dataset)), weight=_weight)
    ahead = min(MAX_AHEAD, max(1, MAX_AHEAD_BYTES // (heaviest * count))) if count else 1  # frames per worker
    sharing = sharing if count else None
    loader: DataLoader[Any] = DataLoader(
        _Keyed(frames, sharing),
        batch_sampler=_Keys(len(dataset), max(1, ahead // BATCHES_AHEAD), sharing),
        collate_fn=list,
        num_workers=count,
        prefetch_factor=min(ahead, BATCHES_AHEAD) if count else None,
        worker_init_fn=start_of_workers(),
        multiprocessing_context="fork" if sharing else None,  # others would not have its memory
    )
    return _taken(loader, sharing)


Key = tuple[int, int | None]  # the place of an item, and the slot that it is moved to


@dataclass(frozen=True)
class _Keys(Generic[T]):
    """The items that a process reads at once, so that they travel together."""

    items: int
    together: int
    sharing: Sharing[T] | None

    def __iter__(self) -> Iterator[list[Key]]:
        for first in range(0, self.items, self.together):
            places = range(first, min(first + self.together, self.items))
            yield [(place, None if self.sharing is None else self.sharing.arena.lend()) for place in places]


class _Keyed(Dataset[tuple[T, int | None]]):
    """Items with the slots that they were moved to."""

    def __init__(self, items: Dataset[T], sharing: Sharing[T] | None) -> None:
        self.items, self.sharing = items, sharing

    def __getitem__(self, key: Key) -> tuple[T, int | None]:
        place, slot = key
        item = self.items[place]
        if self.sharing is not None and slot is not None:
            item = self.sharing.move(item, self.sharing.arena.fill(slot))
        return item, slot


def _taken(loader: Iterable[list[tuple[T, int | None]]], sharing: Sharing[T] | None) -> Iterator[T]:
    batches = load(loader)
    try:
        while batch := _next_batch(batches):
            while batch:  # nothing keeps an item, or its slot, that was handed over
                item, slot = batch.pop(0)
                if sharing is not None:
                    sharing.arena.take_back(slot)
                yield item
                del item
    finally:
        end_loading(batches)  # an error may keep them
        if sharing is not None:
            sharing.arena.lent.clear()  # slots and their arena hold each other, and would wait for garbage collection


def _next_batch(batches: Iterator[list[T]]) -> list[T]:
    """Return the next batch; at the end, an empty one."""
    with lost_process_told("reading images"):
        try:
            return next_batch(batches)
        except StopIteration:
            return []


def _heaviest(dataset: Any) -> int:
    """Return about how many bytes the frames of a data set take, by the headers of some of its files; 1: not known."""
    images = getattr(dataset, "paths", None) or getattr(dataset, "images", None) or ()
    paths: Sequence[Path] = images.images if isinstance(images, SegmentationData) else images
    return max(1, 2 * 3 * max(map(prod, sizes_of_some(paths)), default=0))  # as it is stored, and resized


def _weight(item: object) -> int:
    """Return the bytes of a frame, or of a frame and what it was made from."""
    parts = item if isinstance(item, tuple) else (item,)
    frame = parts[-1]
    arrays = [part.image for part in parts] + ([frame.pixels] if isinstance(frame, Frame) else [])
    return max(1, sum(int(array.nbytes) for array in arrays))


def _default_workers(images: int) -> int:
    cores = usable_cores()
    return 0 if cores <= 2 or images < 16 else min(8, cores)


def _arithmetic(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
