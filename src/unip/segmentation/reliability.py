"""How far confidence can be trusted: the calibration error, and how many pixels are left at a wanted risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table
from torch import Tensor

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.shares import percent_of_pixels
from unip.segmentation.calibration import BINS, LOWEST, NEVER, STEP, Calibration, bin_of, lowest_of
from unip.segmentation.metrics import percent

USUAL_COVERAGE = 0.9  # of the pixels, whose risk is told
ECE_BINS = 15  # of equal width, as in Guo et al., 2017
RISKS = (0.01, 0.02, 0.05, 0.1)  # shares of wrong pixels that are reported

Floats = npt.NDArray[np.float64]


def confidence_of(logits: Tensor, temperature: float) -> Tensor:
    """Return the probability of the largest class.

    ``max softmax(z / T) = 1 / sum exp((z - max z) / T)``

    Args:
        logits: float32 ``(C, ...)``.
        temperature: T.

    Returns:
        float32 of the shape that is left.
    """
    return ((logits - logits.amax(0)) / temperature).exp().sum(0).reciprocal()


def calibration_error(pixels: Floats, confidence: Floats, right: Floats) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, over bins of confidence.

    ``ECE = sum_b |right_b - confidence_b| / sum_b pixels_b`` (Guo et al., "On calibration of modern neural networks",
    ICML 2017, equation 3, with sums in place of means).

    Args:
        pixels: How many there are in each bin.
        confidence: Sum of theirs.
        right: How many of them are right.
    """
    total = pixels.sum()
    return float(np.abs(right - confidence).sum() / total) if total else float("nan")


@dataclass(frozen=True)
class ClassRisk:
    """What is left of a class at a wanted risk: the share of its predicted pixels, and how many of those are wrong."""

    name: str
    threshold: float | None  # None: no confidence is enough
    coverage: float
    risk: float


@dataclass(frozen=True)
class RiskCheck:
    """What the thresholds for a wanted risk do on other frames.

    Attributes:
        wanted: Share of wrong pixels.
        coverage: Share of pixels that keep their class.
        risk: Share of those that are wrong.
        classes: The same of each predicted class.
    """

    wanted: float
    coverage: float
    risk: float
    classes: tuple[ClassRisk, ...]

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values; what has no value is None."""
        classes = [
            {"name": each.name, "threshold": each.threshold, **_values(coverage=each.coverage, risk=each.risk)}
            for each in self.classes
        ]
        return {"wanted": self.wanted, **_values(coverage=self.coverage, risk=self.risk), "classes": classes}


@dataclass(frozen=True)
class Reliability:
    """How confident a model was on labelled frames, and how often it was right.

    Attributes:
        names: Of the classes.
        ece: Expected calibration error of the confidence as it is given.
        ece_uncalibrated: The same with a temperature of 1.
        right: Pixels that were right, int64 ``(C, bins)``: by predicted class and bin of confidence.
        wrong: Those that were wrong.
        calibration: The model's; None: it has none, and confidence is the plain softmax.
    """

    names: tuple[str, ...]
    ece: float
    ece_uncalibrated: float
    right: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]
    calibration: Calibration | None

    def curve(self) -> tuple[Floats, Floats, Floats]:
        """Return the risk-coverage curve, one threshold of confidence for all classes, the lowest first.

        Returns:
            Thresholds, the share of pixels at least as confident, and the share of those that are wrong.
        """
        wrong, pixels = self.wrong.sum(0)[::-1].cumsum()[::-1], (self.right + self.wrong).sum(0)[::-1].cumsum()[::-1]
        at = np.flatnonzero((self.right + self.wrong).sum(0))
        return lowest_of(at), pixels[at] / max(1, pixels[0]), wrong[at] / np.maximum(1, pixels[at])

    def coverage_at(self, risk: float) -> float:
        """Return the largest share of pixels, the most confident ones, of which at most a share ``risk`` is wrong."""
        _, coverage, wrong = self.curve()
        return float(coverage[wrong <= risk].max(initial=0.0))

    def check(self, wanted: float) -> RiskCheck | None:
        """Return what the model's thresholds for a wanted risk do here; None: it has no calibration."""
        if self.calibration is None:
            return None
        thresholds = self.calibration.thresholds(wanted)
        first = np.clip(np.rint((_odds(thresholds) - LOWEST) / STEP), 0, BINS - 1)  # of 1.0, the last
        first[thresholds >= NEVER] = BINS
        kept = np.arange(BINS) >= first[:, None]
        right, wrong = (self.right * kept).sum(1), (self.wrong * kept).sum(1)
        pixels = (self.right + self.wrong).sum(1)
        classes = tuple(
            ClassRisk(
                name,
                None if thresholds[c] >= NEVER else float(thresholds[c]),
                _share(right[c] + wrong[c], pixels[c]),
                _share(wrong[c], right[c] + wrong[c]),
            )
            for c, name in enumerate(self.names)
            if pixels[c]
        )
        left = right.sum() + wrong.sum()
        return RiskCheck(wanted, _share(left, pixels.sum()), _share(wrong.sum(), left), classes)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        thresholds, coverage, risk = (np.round(values, 6).tolist() for values in self.curve())
        checks = [self.check(wanted) for wanted in RISKS]
        return {
            "temperature": None if self.calibration is None else self.calibration.temperature,
            **_values(ece=self.ece, ece_uncalibrated=self.ece_uncalibrated),
            "curve": {"threshold": thresholds, "coverage": coverage, "risk": risk},
            "coverage_at_risk": {f"{risk:g}": self.coverage_at(risk) for risk in RISKS},
            "thresholds": [check.to_dict() for check in checks if check is not None],
        }

    def describe(self) -> str:
        """Say in one line how far confidence can be trusted."""
        _, coverage, risk = self.curve()
        at = int(np.abs(coverage - USUAL_COVERAGE).argmin())
        covered = (
            f"{percent_of_pixels(risk[0])} % of all pixels are wrong, of the most confident "
            f"{percent(coverage[at])} % {percent_of_pixels(risk[at])} %"
        )
        if self.calibration is None:
            return f"calibration error (ECE) {100 * self.ece:.2f} %, not calibrated; {covered}"
        return (
            f"calibration error (ECE) {100 * self.ece:.2f} %, without the temperature of "
            f"{self.calibration.temperature:.3g} {100 * self.ece_uncalibrated:.2f} %; {covered}"
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table of wanted risks, its heading first; none without a calibration."""
        found = [check for wanted in RISKS if (check := self.check(wanted)) is not None]
        if not found:
            return []
        heading = ("wanted: at most wrong", "pixels that keep their class", "of those wrong", "worst class")
        return [heading, *(_row(check) for check in found)]

    def to_table(self) -> Table:
        """Return :meth:`rows` for the terminal."""
        heading, *rows = self.rows()
        table = Table(heading[0], title="Risk (percent)")
        for text in heading[1:]:
            table.add_column(text, justify="right")
        for row in rows:
            table.add_row(*row)
        return table


class ReliabilityCounter:
    """Counts pixels of frames by confidence, where the model runs.

    Args:
        names: Of the classes.
        calibration: The model's.
    """

    def __init__(self, names: Sequence[str], calibration: Calibration | None) -> None:
        self.names, self.calibration = tuple(names), calibration
        self.temperatures = (1.0 if calibration is None else calibration.temperature, 1.0)
        self.bins = np.zeros((2, 3, ECE_BINS))  # for each temperature: pixels, sum of confidence, right ones
        self.counts = np.zeros((2, len(names), BINS), np.int64)  # wrong, right

    def add(self, logits: Tensor, ids: Tensor, truth: Tensor, _is_first: bool = True) -> None:
        """Count a frame, or rows of one.

        Args:
            logits: float32 ``(C, H, W)``.
            ids: Predicted class ids ``(H, W)``.
            truth: Class ids ``(H, W)``, 255 without a label.
        """
        labelled = truth != IGNORE
        logits, ids = logits[:, labelled], ids[labelled].long()
        right = ids == truth[labelled]
        for number, temperature in enumerate(self.temperatures):
            confidence = confidence_of(logits, temperature)
            at = (confidence * ECE_BINS).ceil().long().clamp(1, ECE_BINS) - 1
            for row, weights in enumerate((None, confidence, right.to(confidence.dtype))):
                self.bins[number, row] += torch.bincount(at, weights, ECE_BINS).cpu().numpy()
            if number == 0:
                odds = confidence.log() - (-confidence).log1p()
                fine = ((odds - LOWEST) / STEP).floor().clamp(0, BINS - 1).long()
                key = (right.long() * len(self.names) + ids) * BINS + fine
                self.counts += torch.bincount(key, minlength=self.counts.size).cpu().numpy().reshape(self.counts.shape)

    def finish(self) -> Reliability:
        """Return what was counted."""
        ece, plain = (calibration_error(*bins) for bins in self.bins)
        return Reliability(self.names, ece, plain, self.counts[1], self.counts[0], self.calibration)


def weighted_error(confidence: Floats, right: npt.NDArray[np.bool_], weights: Floats) -> float:
    """Return the expected calibration error of pixels that stand for several each; all ``(N,)``."""
    at = np.clip(np.ceil(confidence * ECE_BINS), 1, ECE_BINS).astype(np.int64) - 1
    pixels, sure, good = (
        np.bincount(at, weights * each, ECE_BINS).astype(np.float64) for each in (1.0, confidence, right)
    )
    return calibration_error(pixels, sure, good)


def weighted_counts(
    confidence: Floats, ids: npt.NDArray[np.int64], weights: Floats, classes: int
) -> npt.NDArray[np.int64]:
    """Count pixels that stand for several each by class and bin of confidence, int64 ``(C, bins)``."""
    found = np.bincount(ids * BINS + bin_of(confidence), weights, classes * BINS)
    return np.rint(found).astype(np.int64).reshape(classes, BINS)


def _odds(confidence: npt.NDArray[np.floating[Any]]) -> Floats:
    p = np.clip(confidence.astype(np.float64), 1e-300, 1 - 1e-16)
    return np.asarray(np.log(p) - np.log1p(-p))


def _row(check: RiskCheck) -> tuple[str, ...]:
    worst = max((each for each in check.classes if not np.isnan(each.risk)), key=lambda each: each.risk, default=None)
    told = "-" if worst is None else f"{worst.name} {percent(worst.risk)}"
    return f"{100 * check.wanted:g}", percent(check.coverage), percent(check.risk), told


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _values(**values: float) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in values.items()}
