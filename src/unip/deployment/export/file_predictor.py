"""Evaluating an exported file on labelled frames, alone or beside the model that it was made from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.corruptions import CorruptFrames
from unip.data.images.decoding import to_image8
from unip.data.images.nodata import suspected_nodata
from unip.data.labelled.pairs import SegmentationData, check_pair
from unip.data.sampling.frames import Frame
from unip.data.sampling.scaling import Scaling
from unip.deployment.engine import Wanted
from unip.deployment.engines.graph_engine import GraphEngine, graph_input, segment_windows
from unip.deployment.engines.graph_strips import GraphStrips, graph_grid
from unip.deployment.export.parity import ParityCounter
from unip.deployment.export.reference import ReferenceRunner
from unip.deployment.export.runners import Outputs, Runner
from unip.errors import UnipError
from unip.files import sha256
from unip.paths import is_file
from unip.segmentation.evaluation_files import EvaluationSettings
from unip.segmentation.predictor import PredictorFacts

Floats = npt.NDArray[np.float32]
ALL = Wanted(probabilities=True)
NO_PIXELS = torch.zeros(1, 0, 0, dtype=torch.uint8)  # the graph resizes frames itself


@dataclass(frozen=True, eq=False)
class Labelled:
    """A labelled frame as a graph takes it.

    Attributes:
        frame: With its mask.
        array: ``(H, W)`` or ``(H, W, 3)``, of the type that the graph takes.
        samples: Of its file, from which windows are cut if the graph takes no pictures.
        seconds: How long it took to read and convert it.
    """

    frame: Frame
    array: npt.NDArray[Any]
    samples: npt.NDArray[Any]
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

    def segment(
        self, data: SegmentationData, corruption: CorruptFrames | None = None
    ) -> Iterator[tuple[Frame, Tensor, Tensor]]:
        """Segment labelled images, see :class:`unip.segmentation.predictor.Predictor`."""
        for labelled in self.read(data, corruption):
            found = run(self.runner, labelled, data, self.facts.scaling)
            yield labelled.frame, torch.from_numpy(found.logits), torch.from_numpy(found.ids)

    def read(self, data: SegmentationData, corruption: CorruptFrames | None = None) -> Iterator[Labelled]:
        """Read labelled images as the graph takes them.

        Raises:
            UnipError: One is damaged, or is not of the type that the graph takes.
        """
        metadata, conversion = self.runner.metadata, self.facts.settings.conversion
        for index, path in enumerate(data.images):
            start = time.perf_counter()
            samples = data.read_samples(index, conversion)
            image = to_image8(samples, conversion)
            if corruption is not None:
                metadata.check_pictures()
                image = corruption(image, index)
            is_8_bit, nodata = samples.dtype == np.uint8, suspected_nodata(samples, conversion)
            try:
                array = graph_input(image, samples, metadata)
            except UnipError as error:
                raise UnipError(f"{path}: {error.what}", error.fix) from None
            seconds = time.perf_counter() - start
            mask = data.read_mask(index)
            check_pair(image, mask, path, data.masks[index].path)
            frame = Frame(index, image, NO_PIXELS, mask, is_8_bit=is_8_bit, nodata=nodata)
            yield Labelled(frame, array, samples, seconds)


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

    def segment(
        self, data: SegmentationData, corruption: CorruptFrames | None = None
    ) -> Iterator[tuple[Frame, Tensor, Tensor]]:
        """Segment labelled images with the file, see :class:`unip.segmentation.predictor.Predictor`."""
        counter = self.counted[corruption] = ParityCounter(self.file.runner.metadata)
        for labelled in self.file.read(data, corruption):
            start = time.perf_counter()
            found = run(self.file.runner, labelled, data, self.facts.scaling)
            seconds = time.perf_counter() - start
            if corruption is None:
                self.latency.append(seconds)
                self.end_to_end.append(labelled.seconds + seconds)
            counter.add(found, run(self.reference, labelled, data, self.facts.scaling), labelled.frame.mask)
            yield labelled.frame, torch.from_numpy(found.logits), torch.from_numpy(found.ids)


class LogitStrips(GraphStrips):
    """Windows of a large frame, of which scores want the logits in place of the probabilities."""

    def finish(self, logits: Floats, wanted: Wanted) -> tuple[Any, Any, Any]:
        """Return ids, confidence and logits."""
        return *super().finish(logits, wanted)[:2], logits


def run(runner: Runner, labelled: Labelled, data: SegmentationData, scaling: Scaling) -> Outputs:
    """Run a graph on a labelled frame, in windows where it is large, as the engine does it.

    Raises:
        UnipError: The graph cannot take it.
    """
    image = labelled.frame.image
    try:
        grid = graph_grid(runner.metadata, scaling, *image.shape[:2])
        if grid is None:
            return Outputs(*runner.outputs(labelled.array))
        ids, confidence, logits = segment_windows(runner, image, labelled.samples, grid, ALL, LogitStrips)
    except UnipError as error:
        raise UnipError(f"{data.images[labelled.frame.index]}: {error.what}", error.fix) from None
    assert confidence is not None and logits is not None
    return Outputs(ids, confidence, logits)


def files_of(path: Path) -> list[Path]:
    """Return the files that an exported model consists of."""
    beside = path.with_suffix(".bin")
    return [path, beside] if path.suffix.lower() == ".xml" and is_file(beside) else [path]


def checksum(path: Path) -> str:
    """Return the SHA-256 of an exported file; of two files, that of their SHA-256 one after the other."""
    found = [sha256(each) for each in files_of(path)]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
