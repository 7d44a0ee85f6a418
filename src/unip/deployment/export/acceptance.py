"""Whether an exported file gives the masks of the model: both on the same frames, and what the file costs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.pairs import SegmentationData
from unip.deployment.export.metadata import AGREEMENT, ExportMetadata
from unip.deployment.export.reference import reference_logits
from unip.deployment.export.runners import Runner, as_input
from unip.errors import UnipError
from unip.paths import exists, status
from unip.progress import meter
from unip.segmentation.metrics import Scores, confusion, percent, score
from unip.segmentation.model import Segmenter

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Acceptance:
    """How a file compares with the model in torch.

    Attributes:
        frames: Of how many frames.
        agreement: Share of their pixels that have the same class.
        logit_difference: The largest difference of two logits, in spreads (largest less least) of the frame's logits.
        latency: Seconds that the engine took for each frame.
        end_to_end: Seconds for each frame from its file to its mask; empty for frames that were made.
        bytes: Size of the file.
        memory: Bytes by which the process grew when the file was opened and run for the first time; None: not known.
        scores: Of the file, if there are labels.
        model_scores: Of the model in torch.
    """

    frames: int
    agreement: float
    logit_difference: float
    latency: tuple[float, ...]
    bytes: int
    memory: int | None
    end_to_end: tuple[float, ...] = ()
    scores: Scores | None = None
    model_scores: Scores | None = None

    @property
    def lost(self) -> float | None:
        """Points of mIoU that the file loses; None: there are no labels."""
        if self.scores is None or self.model_scores is None:
            return None
        return 100 * (self.model_scores.miou - self.scores.miou)

    def rejection(self, metadata: ExportMetadata, tolerance: float) -> str:
        """Say why the file must not be used; empty if it may.

        Args:
            metadata: Of the file.
            tolerance: Points of mIoU that it may lose.
        """
        needed = AGREEMENT[metadata.precision]
        if self.lost is not None and self.lost > tolerance:
            return f"it loses {self.lost:.2f} points of mIoU, and {tolerance:g} are tolerated"
        if (self.lost is None or metadata.precision == "fp32") and self.agreement < needed:
            return f"{100 * self.agreement:.2f} % of pixels have the model's class, and {100 * needed:g} % are needed"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        found: dict[str, Any] = {
            "frames": self.frames,
            "pixel_agreement": self.agreement,
            "largest_logit_difference": self.logit_difference,
            "latency_ms": _percentiles(self.latency),
            "bytes": self.bytes,
            "memory_bytes": self.memory,
        }
        if self.end_to_end:
            found["end_to_end_ms"] = _percentiles(self.end_to_end)
        if self.scores is not None and self.model_scores is not None:
            found |= {"lost_miou": self.lost, "file": self.scores.to_dict(), "model": self.model_scores.to_dict()}
        return found

    def table(self) -> Table:
        """Return it as a table for the terminal."""
        table = Table("", "file", "model", title=f"File against model in torch, {self.frames} frames")
        if self.scores is not None and self.model_scores is not None:
            pairs = zip(self.scores.names, self.scores.iou, self.model_scores.iou, strict=True)
            for name, mine, other in pairs:
                table.add_row(f"IoU {name}", percent(mine), percent(other))
            table.add_row("mIoU", percent(self.scores.miou), percent(self.model_scores.miou))
            table.add_section()
        table.add_row("pixels of the same class", f"{100 * self.agreement:.3f} %", "")
        table.add_row("largest logit difference / spread", f"{self.logit_difference:.1e}", "")
        for what, seconds in (("engine", self.latency), ("file to mask", self.end_to_end)):
            if seconds:
                times = _percentiles(seconds)
                table.add_row(f"ms a frame, {what}", f"{times['p50']:.0f} (p99 {times['p99']:.0f})", "")
        table.add_row("size", f"{self.bytes / 1e6:.1f} MB", "")
        if self.memory is not None:
            table.add_row("memory", f"{self.memory / 1e6:.0f} MB", "")
        return table


@dataclass
class Comparing:
    """Adds up frame by frame what :class:`Acceptance` tells."""

    classes: tuple[str, ...]
    same: int = 0
    pixels: int = 0
    difference: float = 0.0
    latency: list[float] = field(default_factory=list)
    matrices: list[Array] = field(default_factory=list)

    def look(self, segmenter: Segmenter, runner: Runner, frame: Array, mask: Array | None) -> None:
        """Compare a frame; without labels if ``mask`` is None."""
        start = time.perf_counter()
        found = runner.outputs(frame)
        self.latency.append(time.perf_counter() - start)
        expected = reference_logits(segmenter, as_input(frame, runner.metadata)).numpy()
        ids = expected.argmax(0)
        self.same += int((found.ids == ids).sum())
        self.pixels += ids.size
        spread = max(float(expected.max() - expected.min()), 1e-9)
        self.difference = max(self.difference, float(np.abs(found.logits - expected).max()) / spread)
        if mask is not None:
            if not self.matrices:
                self.matrices = [np.zeros((len(self.classes), len(self.classes)), np.int64) for _ in range(2)]
            truth = torch.from_numpy(mask)
            for matrix, prediction in zip(self.matrices, (found.ids, ids), strict=True):
                matrix += confusion(torch.from_numpy(prediction), truth, len(self.classes), IGNORE).numpy()


def compare_on_golden(segmenter: Segmenter, runner: Runner, path: Path, memory: int | None) -> Acceptance:
    """Compare file and model on the frames that the file carries."""
    found = Comparing(segmenter.spec.classes.names)
    for golden in runner.golden:
        found.look(segmenter, runner, golden.frame, None)
    return _accepted(found, path, memory, ())


def compare_on_data(
    segmenter: Segmenter, runner: Runner, path: Path, memory: int | None, data: SegmentationData
) -> Acceptance:
    """Compare file and model on labelled frames.

    Raises:
        UnipError: A frame cannot be read, or is not of the type that the graph takes.
    """
    found = Comparing(segmenter.spec.classes.names)
    end_to_end = []
    with meter("comparing", len(data), "frames") as progress:
        for index in range(len(data)):
            start = time.perf_counter()
            samples = data.read_samples(index, segmenter.spec.conversion)
            reading = time.perf_counter() - start
            try:
                found.look(segmenter, runner, samples, data.read_mask(index))
            except UnipError as error:
                raise UnipError(f"{data.images[index]}: {error.what}", error.fix) from None
            end_to_end.append(reading + found.latency[-1])
            progress.advance()
    return _accepted(found, path, memory, end_to_end)


def check_first_frame(data: SegmentationData, metadata: ExportMetadata) -> None:
    """See that the first labelled frame is one that the graph takes, before anything is made.

    Raises:
        UnipError: It is not, or cannot be read.
    """
    try:
        as_input(data.read_samples(0, metadata.conversion), metadata)
    except UnipError as error:
        raise UnipError(f"{data.images[0]}: {error.what}", error.fix) from None


def _accepted(found: Comparing, path: Path, memory: int | None, end_to_end: Iterable[float]) -> Acceptance:
    names = found.classes
    scores: list[Scores | None] = [score(matrix, names) for matrix in found.matrices]
    scores = scores or [None, None]
    beside = path.with_suffix(".bin")
    return Acceptance(
        frames=len(found.latency),
        agreement=found.same / found.pixels,
        logit_difference=found.difference,
        latency=tuple(found.latency),
        bytes=sum(status(each).st_size for each in (path, beside) if exists(each)),
        memory=memory,
        end_to_end=tuple(end_to_end),
        scores=scores[0],
        model_scores=scores[1],
    )


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    milliseconds = 1000 * np.asarray(seconds)
    return {name: round(float(np.percentile(milliseconds, p)), 2) for name, p in (("p50", 50), ("p99", 99))}
