"""Means, spreads and intervals of few seeds, and of test images."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unip.data.labelled.classes import background_id, has_background
from unip.segmentation.intervals import (
    CONFIDENCE,
    DRAWS,
    Interval,
    paired_differences,
    sum_groups,
)
from unip.segmentation.metrics import Matrix, Scores, score


@dataclass(frozen=True)
class Spread:
    """A mean, the sample standard deviation (NaN for one value) and the number of values."""

    mean: float
    sd: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation (n - 1) of the values that are numbers."""
    there = np.array([value for value in values if not math.isnan(value)], np.float64)
    if not len(there):
        return Spread(math.nan, math.nan, 0)
    sd = float(there.std(ddof=1)) if len(there) > 1 else math.nan
    return Spread(float(there.mean()), sd, len(there))


def paired_over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the mean of paired differences with its Student t interval.

    One pair has no interval; nor have pairs that all differ by the same, as when nothing in a cell depends on its seed.
    """
    found = spread([a - b for a, b in zip(ours, theirs, strict=True)])
    if found.count < 2 or found.sd < 1e-12:
        return Interval(found.mean, math.nan, math.nan)
    half = t_quantile((1 + CONFIDENCE) / 2, found.count - 1) * found.sd / math.sqrt(found.count)
    return Interval(found.mean, found.mean - half, found.mean + half)


def paired_over_images(
    ours: Sequence[npt.NDArray[np.integer]],
    theirs: Sequence[npt.NDArray[np.integer]],
    groups: Sequence[str] | None = None,
    *,
    foreground: bool = False,
    draws: int = DRAWS,
) -> Interval:
    """Return the difference in mIoU with a percentile bootstrap interval over test images.

    It is that of :func:`unip.segmentation.intervals.paired_differences`, so it says how much the choice of test images
    matters; what training seeds do, it does not say.

    Images that belong together, such as those of one flight, are not independent draws: with ``groups``, whole groups
    are drawn (the cluster bootstrap; Field and Welsh, J. R. Statist. Soc. B 69, 2007). With few of them it is narrow
    still, and with one there is none.

    Args:
        ours: Confusion matrices ``(images, C, C)`` of each run.
        theirs: Those of the baseline's runs, of the same images.
        groups: The group of each image; left out, each is its own.
        foreground: Leave class 0 out of the mean.
        draws: Bootstrap draws.
    """
    if groups is not None:
        ours, theirs = ([sum_groups(matrices, groups) for matrices in runs] for runs in (ours, theirs))
    classes = range(1 if foreground else 0, ours[0].shape[1])
    return paired_differences(ours, theirs, [classes], draws)[0]


def floor(matrix: Matrix, names: Sequence[str]) -> tuple[str, Scores]:
    """Return what predicting one class everywhere scores: the background, or the commonest class where there is none.

    Args:
        matrix: Confusion matrix ``(C, C)`` of any prediction; only its rows (the truth) matter.
        names: Of the classes.

    Returns:
        The class's name and the scores.
    """
    truth = matrix.sum(1)
    background = background_id(names) if has_background(names) else None
    best = int(truth.argmax()) if background is None else background
    constant = np.zeros_like(matrix)
    constant[:, best] = truth
    return names[best], score(constant, names)


def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t, for a probability above 1/2 and whole degrees of freedom.

    With t = sqrt(freedom) tan(angle), the angle has the density cos^(freedom - 1), up to a factor.
    """

    def integral(angle: float) -> float:
        """Integrate the density from 0, in steps of two powers by parts."""
        sine, cosine = math.sin(angle), math.cos(angle)
        found, first = (sine, 3) if freedom % 2 == 0 else (angle, 2)
        for power in range(first, freedom, 2):
            found = (cosine ** (power - 1) * sine + (power - 1) * found) / power
        return found

    steps, quarter = 2**50, math.pi / 2
    wanted = (2 * probability - 1) * integral(quarter)
    place = bisect.bisect(range(steps), wanted, key=lambda step: integral(quarter * step / steps))
    return math.sqrt(freedom) * math.tan(quarter * place / steps)
