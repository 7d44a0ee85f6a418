"""Means, spreads and intervals of few seeds, and of test images."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unip.data.labelled.classes import background_id, has_background
from unip.segmentation.metrics import Matrix, Scores, score

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
DRAWS = 2000  # of the bootstrap
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Spread:
    """A mean, the sample standard deviation (NaN for one value) and the number of values."""

    mean: float
    sd: float
    count: int


@dataclass(frozen=True)
class Interval:
    """A mean difference with its confidence interval; the limits are NaN where there is none."""

    mean: float
    low: float
    high: float


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

    Images are drawn with replacement, the same ones for all runs. In each draw the mIoU of every run is that of the
    summed confusion matrices, and the difference is that of the means over runs. So the interval says how much the
    choice of test images matters; what training seeds do, it does not say.

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
    count = len(ours[0])
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    every = np.concatenate([np.ones((1, count), np.int64), weights]).astype(np.float64)  # first: as it is

    def miou(runs: Sequence[npt.NDArray[np.integer]]) -> Floats:
        found: Floats = np.mean([_miou_of_draws(every, matrices, foreground) for matrices in runs], axis=0)
        return found

    difference = miou(ours) - miou(theirs)
    if count < 2:
        return Interval(float(difference[0]), math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(difference[1:], [tail, 1 - tail])
    return Interval(float(difference[0]), float(low), float(high))


def sum_groups(matrices: npt.NDArray[np.integer], groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Sum confusion matrices ``(images, C, C)`` within groups, which come in the order of their first images."""
    locations = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    total = np.zeros((len(locations), *matrices.shape[1:]), np.int64)
    np.add.at(total, [locations[group] for group in groups], matrices)
    return total


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


def _miou_of_draws(weights: Floats, matrices: npt.NDArray[np.integer], foreground: bool) -> Floats:
    """Return the mIoU of each row of weights on images, as :func:`unip.segmentation.metrics.score` does."""
    classes = matrices.shape[1]
    totals = (weights @ matrices.reshape(len(matrices), -1).astype(np.float64)).reshape(-1, classes, classes)
    hits = np.einsum("dcc->dc", totals)
    union = totals.sum(1) + totals.sum(2) - hits
    iou = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)[:, 1 if foreground else 0 :]
    there = ~np.isnan(iou)
    counts = there.sum(1)
    sums = np.where(there, iou, 0.0).sum(1)
    means: Floats = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return means
