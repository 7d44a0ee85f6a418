"""Whether an exported file gives the masks of the model: both on the same frames, and what the file costs.

Labelled frames are compared as they are, and some of them with four corruptions of severity 3, chosen by where engines
lose first. Noise (``temporal_noise``) and ``stripes`` are fine structure that the frames of training lack, which pushes
activations out of the ranges that 8-bit integers were given. Blur (``defocus``) brings the logits of two classes close
to each other at every edge, where the last digits decide. ``low_contrast`` leaves few steps of a range to tell classes
apart. The tolerance counts on frames as they are; for each corruption it is said whether the file keeps to it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from unip.data.corruptions import parse_corruptions
from unip.data.labelled.pairs import SegmentationData
from unip.deployment.export.file_predictor import BesideModel
from unip.deployment.export.files import files_of
from unip.deployment.export.metadata import AGREEMENT, ExportMetadata
from unip.deployment.export.parity import Parity, ParityCounter
from unip.deployment.export.reference import ReferenceRunner
from unip.deployment.export.runners import Runner, as_input
from unip.errors import UnipError
from unip.paths import status
from unip.progress import meter
from unip.segmentation.metrics import percent

log = logging.getLogger(__name__)

CORRUPTIONS = ("temporal_noise:3", "stripes:3", "defocus:3", "low_contrast:3")
CORRUPTED_FRAMES = 32  # of the labelled ones, evenly spread: every corruption takes as long as so many clean frames


@dataclass(frozen=True)
class Acceptance:
    """How a file compares with the model in torch.

    Attributes:
        clean: On the frames as they are.
        latency: Seconds that the engine took for each frame.
        bytes: Size of the file.
        memory: Bytes by which the process grew when the file was opened and run for the first time; None: not known.
        end_to_end: Seconds for each frame from its file to its mask; empty for frames that were made.
        corrupted: On corrupted frames, by ``NAME:SEVERITY``; none without labels.
    """

    clean: Parity
    latency: tuple[float, ...]
    bytes: int
    memory: int | None
    end_to_end: tuple[float, ...]
    corrupted: dict[str, Parity]

    def rejection(self, metadata: ExportMetadata, tolerance: float) -> str:
        """Say why the file must not be used; empty if it may. Corrupted frames do not count.

        Args:
            metadata: Of the file.
            tolerance: Points of mIoU that it may lose.
        """
        needed, lost, agreement = AGREEMENT[metadata.precision], self.clean.lost, self.clean.agreement
        if lost is not None and lost > tolerance:
            return f"it loses {lost:.2f} points of mIoU, and {tolerance:g} are tolerated"
        if (lost is None or metadata.precision == "fp32") and agreement < needed:
            return f"{100 * agreement:.2f} % of pixels have the model's class, and {100 * needed:g} % are needed"
        return ""

    def to_dict(self, tolerance: float) -> dict[str, object]:
        """Return it as JSON values.

        Args:
            tolerance: Points of mIoU that a file may lose.
        """
        found: dict[str, object] = {
            **self.clean.to_dict(),
            "tolerance": tolerance,
            "latency_ms": _percentiles(self.latency),
            "bytes": self.bytes,
            "memory_bytes": self.memory,
        }
        if self.end_to_end:
            found["end_to_end_ms"] = _percentiles(self.end_to_end)
        if self.corrupted:
            found["corrupted"] = [
                {
                    **{"corruption": name, **each.to_dict()},
                    "within_tolerance": None if each.lost is None else each.lost <= tolerance,
                }
                for name, each in self.corrupted.items()
            ]
        return found

    def table(self, tolerance: float) -> Table:
        """Return it as a table for the terminal, its scores in percent.

        Args:
            tolerance: Points of mIoU that a file may lose.
        """
        table = Table("", title=f"File against model in torch, {self.clean.frames} frames")
        for heading in ("file", "model", "lost"):
            table.add_column(heading, justify="right")
        for row in [*_scores(self.clean), *self._corrupted(tolerance)]:
            table.add_row(*row)
        table.add_section()
        table.add_row("pixels of the same class", f"{100 * self.clean.agreement:.3f} %")
        table.add_row("largest logit difference / spread", f"{self.clean.logit_difference:.1e}")
        for what, seconds in (("engine", self.latency), ("file to mask", self.end_to_end)):
            if seconds:
                times = _percentiles(seconds)
                table.add_row(f"ms a frame, {what}", f"{times['p50']:.0f} (p99 {times['p99']:.0f})")
        table.add_row("size", f"{self.bytes / 1e6:.1f} MB")
        if self.memory is not None:
            table.add_row("memory", f"{self.memory / 1e6:.0f} MB")
        return table

    def _corrupted(self, tolerance: float) -> Iterable[tuple[str, ...]]:
        for name, each in self.corrupted.items():
            if each.scores is not None and each.model_scores is not None:
                more = "" if each.lost is None or each.lost <= tolerance else f" (more than {tolerance:g})"
                miou = percent(each.scores.miou), percent(each.model_scores.miou)
                yield f"mIoU, {name}, {each.frames} frames", *miou, f"{_points(each.lost)}{more}"


def _scores(clean: Parity) -> Iterable[tuple[str, ...]]:
    if clean.scores is None or clean.model_scores is None:
        return
    for name, mine, other in zip(clean.scores.names, clean.scores.iou, clean.model_scores.iou, strict=True):
        lost = None if np.isnan(mine) or np.isnan(other) else 100 * (other - mine)
        yield f"IoU {name}", percent(mine), percent(other), _points(lost)
    yield "mIoU", percent(clean.scores.miou), percent(clean.model_scores.miou), _points(clean.lost)
    if clean.ece is not None and clean.model_ece is not None:
        lost = 100 * (clean.ece - clean.model_ece)
        yield "calibration error (ECE)", f"{100 * clean.ece:.2f}", f"{100 * clean.model_ece:.2f}", _points(lost)


def compare_on_golden(reference: ReferenceRunner, runner: Runner, path: Path, memory: int | None) -> Acceptance:
    """Compare file and model on the frames that the file carries."""
    counter, latency = ParityCounter(runner.metadata), []
    for golden in runner.golden:
        start = time.perf_counter()
        found = runner.outputs(golden.frame)
        latency.append(time.perf_counter() - start)
        counter.add(found, reference.outputs(golden.frame))
    return Acceptance(counter.finish(), tuple(latency), size_of(path), memory, (), {})


def compare_on_data(both: BesideModel, memory: int | None, data: SegmentationData) -> Acceptance:
    """Compare file and model on labelled frames, as far as that was not done while the file was evaluated.

    Args:
        both: The file and the model.
        memory: See :class:`Acceptance`.
        data: The frames, with the model's classes.

    Raises:
        UnipError: A frame cannot be read, or is not of the type that the graph takes.
    """
    if None not in both.counted:
        with meter("comparing", len(data), "frames") as progress:
            for _ in both.count(data):
                progress.advance()
    if both.takes_pictures:
        compare_corrupted(both, data)
    else:
        log.info("corruptions are of 8-bit frames, so file and model are compared on frames as they are only")
    clean = both.counted[None]
    corrupted = {str(each): found.finish() for each, found in both.counted.items() if each is not None}
    timings = tuple(both.latency), size_of(both.path), memory, tuple(both.end_to_end)
    return Acceptance(clean.finish(), *timings, corrupted)


def compare_corrupted(both: BesideModel, data: SegmentationData) -> None:
    """Compare file and model on some frames with each of :data:`CORRUPTIONS` that was not evaluated anyway."""
    count = min(len(data), CORRUPTED_FRAMES)
    some = data.take(number * len(data) // count for number in range(count))
    missing = [each for each in parse_corruptions(CORRUPTIONS) if each not in both.counted]
    with meter("comparing corrupted", count * len(missing), "frames") as progress:
        for each in missing:
            for _ in both.count(some, each):
                progress.advance()


def check_first_frame(data: SegmentationData, metadata: ExportMetadata) -> None:
    """See that the first labelled frame is one that the graph takes, before anything is made.

    Raises:
        UnipError: It is not, or cannot be read.
    """
    try:
        as_input(data.read_samples(0, metadata.conversion), metadata)
    except UnipError as error:
        raise UnipError(f"{data.images[0]}: {error.what}", error.fix) from None


def warn_of_corrupted(accepted: Acceptance, tolerance: float) -> None:
    """Say on which corrupted frames a file loses more than is tolerated on clean ones."""
    for name, each in accepted.corrupted.items():
        if each.lost is not None and each.lost > tolerance:
            log.warning(
                f"note: on frames with {name} the file loses {each.lost:.2f} points of mIoU more than the model does; "
                f"on frames as they are {tolerance:g} are tolerated"
            )


def size_of(path: Path) -> int:
    """Return the bytes of an exported file, with those of the weights beside it."""
    return sum(status(each).st_size for each in files_of(path))


def _points(lost: float | None) -> str:
    return "-" if lost is None else f"{lost:+.2f}"


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    milliseconds = 1000 * np.asarray(seconds)
    return {name: round(float(np.percentile(milliseconds, p)), 2) for name, p in (("p50", 50), ("p99", 99))}
