"""A model folder run by torch."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from unip.data.images.blocks import is_large_file
from unip.data.sampling.frames import Frame, is_waiting, make_frame, unreadable_frame, waiting_frame
from unip.data.sampling.scaling import Scaling
from unip.deployment.config import LoadConfig
from unip.deployment.engine import ModelFacts, Segmented, Wanted
from unip.deployment.engines.torch_batches import Batches, Finish, Found, to_processor
from unip.deployment.engines.torch_strips import segment_large
from unip.deployment.inputs import Given, Reader
from unip.errors import UnipError
from unip.runtime.device import choose_device, choose_inference_precision, device_name, precision_name
from unip.runtime.shared import Arena, Slot, slot_of
from unip.segmentation.calibration import Calibration
from unip.segmentation.inference import Augmentation, Inference, Sharing, decoded, describe_window
from unip.segmentation.model import SegmenterSpec
from unip.segmentation.model_folder import model_folder
from unip.segmentation.settings import Workers
from unip.segmentation.storage import load_segmenter
from unip.segmentation.strips import InStrips
from unip.segmentation.torch_strips import without_augmentation

log = logging.getLogger(__name__)

GROUPS_BEHIND = 2  # of frames, that a GPU has to do while the results of others are taken
NOTHING: Found = (None, None, None)


class TorchEngine:
    """A model folder, ready to run.

    Args:
        folder: Of a model or a run, or the name of one that ships.
        config: Device, precision and windows.
        name: What it was loaded by.

    Raises:
        UnipError: There is no such model, it is damaged, or the device is not there.
    """

    def __init__(self, folder: Path, config: LoadConfig, name: str) -> None:
        segmenter = load_segmenter(folder)
        spec, place = segmenter.spec, model_folder(folder)
        device = choose_device(config.device)
        dtype = choose_inference_precision(config.precision, device)
        augmentation = Augmentation(config.augment == "flip", config.augment_scales)
        self.calibration = Calibration.read(place, len(spec.classes.names))
        self.facts = ModelFacts(
            name=name,
            engine="torch",
            device=device_name(device),
            precision=precision_name(dtype),
            classes=spec.classes,
            conversion=config.convert(spec.conversion),
            images=spec.images,
            short_side=spec.short_side,
            scaling=_scaling(spec, config, name),
            calibration=self.calibration,
            folder=place,
            view="; ".join(filter(None, (describe_window(spec, config.window), augmentation.describe()))),
        )
        self._told = False
        self.finish = Finish(1.0 if self.calibration is None else self.calibration.temperature)
        self.inference = Inference(
            segmenter,
            device=device,
            dtype=dtype,
            window=config.window,
            batch_size=config.batch_size,
            compiled=config.compile,
            augmentation=augmentation,
        )
        # a processor is no faster with batches, and they would need more memory
        self.batches = Batches(self.inference, self.finish) if device.type == "cuda" else None

    def segment(
        self,
        items: Iterable[object],
        reader: Reader,
        wanted: Wanted,
        workers: Workers,
        arena: Arena | None = None,
    ) -> Iterator[Segmented]:
        """Segment frames, see :class:`unip.deployment.engine.Engine`."""
        given: dict[int, Given] = {}  # by index, while their batch is collected
        # while frames of a known number are written, a GPU runs those after them; others may come from a camera
        behind = GROUPS_BEHIND if self.inference.device.type == "cuda" and isinstance(items, Sequence) else 0
        waits = InStrips(len(self.facts.classes.names), self.facts.scaling)
        prepare = _Preparing(reader, self.facts.scaling, waits)
        for are_large, run in groupby(_frames(items, prepare, workers, given, arena), is_waiting):
            if are_large:
                yield from (self._large(given.pop(frame.index), reader, wanted) for frame in run)
            else:
                yield from self._together(run, given, wanted, behind)

    def _together(
        self, frames: Iterable[Frame], given: dict[int, Given], wanted: Wanted, behind: int
    ) -> Iterator[Segmented]:
        """Segment frames in batches; as many as ``behind`` are started before the results of one are taken."""
        started: deque[_Started] = deque()
        for group in self.inference.groups(frames):
            started.append(self._start(group, wanted))
            if len(started) > behind:
                yield from self._finish(started.popleft(), given)
        for each in started:
            yield from self._finish(each, given)

    def _large(self, given: Given, reader: Reader, wanted: Wanted) -> Segmented:
        """Segment a large frame in strips."""
        if given.problem is None and not given.image.size:
            given, _ = reader.read(given.index, given.path)
        try:
            if given.problem is not None:
                raise given.problem
            size = self.facts.scaling.size(given.image.shape[0], given.image.shape[1])
        except UnipError as error:
            return Segmented.unreadable(_with_problem(given, error))
        if self.inference.augmentation.describe() and not self._told:
            self._told = True
            log.warning(without_augmentation(given.name))
        start = time.perf_counter()
        grid, arrays = segment_large(self.inference, given, size, wanted, self._arrays)
        seconds, scale = time.perf_counter() - start, self.facts.scaling.by(*grid.frame)
        return Segmented(given, *arrays, seconds=seconds, scale=scale, windows=grid.windows)

    def _start(self, group: Sequence[Frame], wanted: Wanted) -> _Started:
        """Let the device run a group, and copy what is wanted to the processor; a GPU is not waited for."""
        begun = time.perf_counter()
        with self.inference.lock:  # while one thread captures a CUDA graph, no other may wait for the GPU
            found = self._found(group, wanted)
            done: Any = None
            if self.inference.device.type == "cuda":
                done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch has no types for it
                done.record(torch.cuda.current_stream(self.inference.device))
        return _Started(found, begun, done)

    def _found(self, group: Sequence[Frame], wanted: Wanted) -> list[tuple[Frame, Found]]:
        """Return each frame of a group with what is on its way to the processor."""
        good = [frame for frame in group if frame.problem is None]
        if self.batches is None or not self.inference.are_alike(good):
            return [(frame, to_processor(self.finish(logits, wanted))) for frame, logits in self.inference.run(group)]
        found = iter(self.batches(good, wanted))
        return [(frame, next(found) if frame.problem is None else NOTHING) for frame in group]

    def _finish(self, started: _Started, given: dict[int, Given]) -> Iterator[Segmented]:
        """Yield the results of a group as soon as they are there."""
        if started.done is not None:
            with self.inference.lock:
                started.done.synchronize()
        seconds = (time.perf_counter() - started.begun) / len(started.found)
        for frame, tensors in started.found:
            one = given.pop(frame.index)
            if frame.problem is not None:
                yield Segmented.unreadable(one)
                continue
            ids, confidence, probabilities = (None if each is None else each.numpy() for each in tensors)
            assert ids is not None
            slot = slot_of(one.image)
            kept = ids if slot is None else slot.put(ids)
            if started.done is not None:  # a GPU's copies lie in pinned memory, of which there is little
                kept = kept.copy() if kept is ids else kept
                confidence = None if confidence is None else confidence.copy()
                probabilities = None if probabilities is None else probabilities.copy()
            size = frame.pixels.shape[-2], frame.pixels.shape[-1]
            windows = 1 if self.inference.is_whole(frame) else self.facts.scaling.windows(size)
            scale = self.facts.scaling.by(one.image.shape[0], one.image.shape[1])
            yield Segmented(one, kept, confidence, probabilities, seconds=seconds, scale=scale, windows=windows)

    def _arrays(self, logits: Tensor, wanted: Wanted) -> tuple[Any, Any, Any]:
        """Return ids, confidence and probabilities as arrays, as far as they are wanted; waits for them."""
        ids, confidence, probabilities = (
            None if each is None else each.numpy() for each in to_processor(self.finish(logits, wanted), wait=True)
        )
        return ids, confidence, probabilities


@dataclass(frozen=True, eq=False)
class _Started:
    """A group of frames whose results are on their way.

    Attributes:
        found: Each frame with its ids, confidence and probabilities.
        begun: When it was started.
        done: Tells that they are there; None: they are.
    """

    found: list[tuple[Frame, Found]]
    begun: float
    done: Any


@dataclass(frozen=True)
class _Preparing:
    """Reads a frame and resizes it for the model; a large one waits until it is alone."""

    reader: Reader
    scaling: Scaling
    waits: InStrips

    def __call__(self, index: int, item: object) -> tuple[Given, Frame]:
        if isinstance(item, Path) and is_large_file(item):
            # many of them, read ahead, would fill the memory
            return Given(index, str(item), item), waiting_frame(index)
        given, _ = self.reader.read(index, item)
        if given.problem is not None:
            return given, unreadable_frame(index, given.problem)
        try:
            if self.waits(*given.image.shape[:2]):
                return given, waiting_frame(index)
            return given, make_frame(index, given.image, self.scaling)
        except UnipError as error:  # it would be too large for the memory
            given = _with_problem(given, error)
            return given, unreadable_frame(index, error)


def _with_problem(given: Given, error: UnipError) -> Given:
    """Return a frame that could be read and cannot be segmented."""
    if given.problem is not None:
        return given
    return replace(given, problem=UnipError(f"{given.name}: {error.what}", error.fix))


def _scaling(spec: SegmenterSpec, config: LoadConfig, name: str) -> Scaling:
    """Return how frames are resized.

    Raises:
        UnipError: The scale of training is asked for, and the model does not know it.
    """
    scaling = spec.scaling(config.scale, config.window)
    scaling.check(name)
    return scaling


class _Files(Dataset[tuple[Given, Frame]]):
    """Files, read and resized by worker processes."""

    def __init__(self, paths: Sequence[Path], prepare: _Preparing) -> None:
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Given, Frame]:
        return self.prepare(index, self.paths[index])


def _moved(pair: tuple[Given, Frame], slot: Slot) -> tuple[Given, Frame]:
    """Move a frame to memory that processes share; its ids go there, too."""
    given, frame = pair
    if frame.problem is not None or not frame.pixels.numel():
        return pair
    frame.move(slot)
    return replace(given, image=frame.image), frame


def _frames(
    items: Iterable[object], prepare: _Preparing, workers: Workers, given: dict[int, Given], arena: Arena | None
) -> Iterator[Frame]:
    """Yield frames to run, and keep what each was made from in ``given``."""
    paths = [item for item in items if isinstance(item, Path)] if isinstance(items, Sequence) else []
    pairs: Iterable[tuple[Given, Frame]]
    if isinstance(items, Sequence) and len(paths) == len(items):
        sharing = None if arena is None else Sharing(arena, _moved)
        pairs = decoded(_Files(paths, prepare), workers, sharing)
    else:
        pairs = (prepare(index, item) for index, item in enumerate(items))
    for one, frame in pairs:
        given[frame.index] = one
        yield frame
