"""Evaluating an exported file on labelled frames, alone or beside the model that it was made from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from unip.data.corruptions import CorruptFrames
from unip.data.labelled.pairs import SegmentationData, check_pair
from unip.data.sampling.frames import Frame
from unip.deployment.engines.graph_engine import GraphEngine, graph_input, windowed
from unip.deployment.engines.graph_strips import graph_grid
from unip.deployment.export.files import checksum
from unip.deployment.export.parity import ParityCounter
from unip.deployment.export.reference import ReferenceRunner
from unip.deployment.export.runners import Runner
from unip.errors import UnipError
from unip.segmentation.evaluation_files import EvaluationSettings
from unip.segmentation.predictor import PredictorFacts, Rows, SegmentedFrame
from unip.segmentation.strips import Grid, rows_in_strips

Floats = npt.NDArray[np.float32]
NO_PIXELS = torch.zeros(1, 0, 0, dtype=torch.uint8)  # the graph resizes frames itself


@dataclass(frozen=True, eq=False)
class Labelled:
    """A labelled frame as a graph takes it.

    Attributes:
        frame: With its mask.
        array: ``(H, W)`` or ``(H, W, 3)``, of the type that the graph takes; None: it is cut into windows.
        samples: Of its file, from which windows are cut if the graph takes no pictures.
        grid: Where its windows lie; None: the graph runs it as a whole.
        seconds: How long it took to read and convert it.
    """

    frame: Frame
    array: npt.NDArray[Any] | None
    samples: npt.NDArray[Any]
    grid: Grid | None
    seconds: float


class FilePredictor:
    """An exported file to evaluate, see :class:`unip.segmentation.predictor.Predictor`.

    Args:
        engine: Runs its graph.
        path: The file.
    """

    def __init__(self, engine: GraphEngine, path: Path) -> None:
        self.runner, self.path = engine.runner, path
        facts, metadata = engine.facts, engine.runner.metadata
        self.facts = PredictorFacts(
            name=facts.name,
            classes=facts.classes,
            images=facts.images,
            calibration=facts.calibration,
            settings=EvaluationSettings(
                engine=facts.engine,
                weights=checksum(path),
                window="whole",
                scale=facts.scaling.scale,
                short_side=facts.short_side,
                crop=metadata.crop,
                stride=None,
                conversion=facts.conversion,
                precision=facts.precision,
            ),
            scaling=facts.scaling,
            device=facts.device,
            view="whole frames",
        )

    def segment(self, data: SegmentationData, corruption: CorruptFrames | None = None) -> Iterator[SegmentedFrame]:
        """Segment labelled images, see :class:`unip.segmentation.predictor.Predictor`."""
        for labelled in self.read(data, corruption):
            yield SegmentedFrame(labelled.frame, map(as_tensors, run(self.runner, labelled, data)))

    def read(self, data: SegmentationData, corruption: CorruptFrames | None = None) -> Iterator[Labelled]:
        """Read labelled images as the graph takes them.

        Raises:
            UnipError: One is damaged, or is not of the type that the graph takes.
        """
        metadata, conversion = self.runner.metadata, self.facts.settings.conversion
        for index, path in enumerate(data.images):
            start = time.perf_counter()
            in_parts = metadata.input == "uint8"  # else the graph takes samples
            image, samples, is_8_bit, nodata = data.decode(index, conversion, in_parts=in_parts)
            if corruption is not None:
                metadata.check_pictures()
                image = corruption(image, index)
            try:
                grid = graph_grid(metadata, self.facts.scaling, image.shape[0], image.shape[1])
                array = graph_input(image, samples, metadata) if grid is None else None
            except UnipError as error:
                raise UnipError(f"{path}: {error.what}", error.fix) from None
            seconds = time.perf_counter() - start
            mask = data.read_mask(index)
            check_pair(image, mask, path, data.masks[index].path)
            frame = Frame(index, image, NO_PIXELS, mask, is_8_bit=is_8_bit, nodata=nodata)
            yield Labelled(frame, array, samples, grid, seconds)


class BesideModel:
    """A file to evaluate, and beside it the model that it was made from: each frame is given to both.

    Args:
        file: The file.
        reference: The model in torch.
    """

    def __init__(self, file: FilePredictor, reference: ReferenceRunner) -> None:
        self.file, self.reference = file, reference
        self.facts, self.path = file.facts, file.path
        self.counted: dict[CorruptFrames | None, ParityCounter] = {}  # of frames as they are under None
        self.latency: list[float] = []  # seconds of the engine for each frame as it is
        self.end_to_end: list[float] = []  # with reading it

    @property
    def takes_pictures(self) -> bool:
        """Whether the graph takes 8-bit frames, which can be corrupted."""
        return self.file.runner.metadata.input == "uint8"

    def segment(self, data: SegmentationData, corruption: CorruptFrames | None = None) -> Iterator[SegmentedFrame]:
        """Segment labelled images with the file, see :class:`unip.segmentation.predictor.Predictor`."""
        counter = self.counted[corruption] = ParityCounter(self.file.runner.metadata)
        for labelled in self.file.read(data, corruption):
            yield SegmentedFrame(labelled.frame, self._run(labelled, data, counter, is_timed=corruption is None))

    def count(self, data: SegmentationData, corruption: CorruptFrames | None = None) -> Iterator[None]:
        """Compare both on labelled images, see :attr:`counted`; yields after each."""
        for found in self.segment(data, corruption):
            for _ in found.parts:
                pass
            yield

    def _run(
        self, labelled: Labelled, data: SegmentationData, counter: ParityCounter, *, is_timed: bool
    ) -> Iterator[Rows]:
        """Give a frame to both, part by part, as the parts are taken."""
        mask, parts, seconds = labelled.frame.mask, run(self.file.runner, labelled, data), 0.0
        for expected in run(self.reference, labelled, data):  # in the same rows
            start = time.perf_counter()
            found = next(parts)
            seconds += time.perf_counter() - start
            counter.add_rows(found, expected, None if mask is None else mask[found.rows])
            yield as_tensors(found)
        counter.end_frame()
        if is_timed:
            self.latency.append(seconds)
            self.end_to_end.append(labelled.seconds + seconds)


class FoundRows(NamedTuple):
    """Rows of a frame, and what a graph gives for them: float32 ``(C, n, W)`` and uint8 ``(n, W)``."""

    rows: slice
    logits: Floats
    ids: npt.NDArray[np.uint8]


def as_tensors(found: FoundRows) -> Rows:
    """Return the same for an evaluation."""
    return Rows(found.rows, torch.from_numpy(np.ascontiguousarray(found.logits)), torch.from_numpy(found.ids))


def run(runner: Runner, labelled: Labelled, data: SegmentationData) -> Iterator[FoundRows]:
    """Run a graph on a labelled frame, in windows where it is large, as the engine does it.

    Yields:
        The frame, or rows of it from top to bottom.

    Raises:
        UnipError: The graph cannot take it.
    """
    image, grid = labelled.frame.image, labelled.grid
    try:
        if grid is None:
            assert labelled.array is not None
            ids, _, logits = runner.outputs(labelled.array)
            yield FoundRows(slice(0, len(ids)), logits, ids)
            return
        pixels, backend = windowed(runner, image, labelled.samples, grid)
        for first, logits in rows_in_strips(pixels, grid, backend):
            yield FoundRows(slice(first, first + logits.shape[1]), logits, logits.argmax(0).astype(np.uint8))
    except UnipError as error:
        raise UnipError(f"{data.images[labelled.frame.index]}: {error.what}", error.fix) from None
