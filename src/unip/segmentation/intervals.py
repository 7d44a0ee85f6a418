"""How much a mIoU depends on the images that it is measured on: the bootstrap over images, or over groups of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unip.segmentation.metrics import Matrix, percent

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
DRAWS = 2000  # of the bootstrap
BOOTSTRAP_SEED = 0
MIN_GROUPS = 5  # with fewer, draws of whole groups say next to nothing


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; the limits are NaN where there is none."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class MiouInterval:
    """The interval of a mIoU over the images that it was measured on.

    Attributes:
        low: Lower limit, between 0 and 1; NaN where there is none.
        high: Upper limit.
        over: What was drawn: whole groups of images, such as videos, or single images.
        drawn: How many of those there are.
        groups: How many groups of images are known; 0: none.
    """

    low: float
    high: float
    over: str
    drawn: int
    groups: int

    @classmethod
    def of(cls, matrices: Mapping[str, Matrix], groups: Sequence[str] | None) -> MiouInterval:
        """Compute it.

        Args:
            matrices: The confusion matrix ``(C, C)`` of each image.
            groups: The group of each image; None: not known.
        """
        count = len(set(groups or ()))
        whole = count >= MIN_GROUPS
        drawn = drawn_units(matrices, groups)
        found = bootstrap(mean_iou(iou_of_draws(draw_weights(len(drawn)), drawn)), len(drawn))
        return cls(found.low, found.high, "groups" if whole else "images", len(drawn), count)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values; limits that are not there are None."""
        low, high = (None if math.isnan(limit) else limit for limit in (self.low, self.high))
        return {"confidence": CONFIDENCE, "low": low, "high": high, "over": self.over, "drawn": self.drawn}

    @property
    def limits(self) -> str:
        """The limits in percent, or why there are none."""
        return "none" if math.isnan(self.low) else f"{percent(self.low)} to {percent(self.high)}"

    def describe(self, miou: float) -> str:
        """Say the mIoU, its interval and what that leaves out."""
        text = f"mIoU {percent(miou)} %"
        if math.isnan(self.low):
            return f"{text}; too few images for an interval"
        text += f", 95 % interval {self.limits} (bootstrap over {self.drawn} {self.over})"
        if self.over == "groups":
            return text
        if self.groups:
            known = f"there are only {self.groups} groups of images" if self.groups > 1 else "all are of one group"
            return f"{text}; {known}, and frames of one group are alike, so the true interval is wider"
        return f"{text}; if some are frames of one video, name it by --group: the true interval is wider"


def draw_weights(count: int, draws: int = DRAWS) -> Floats:
    """Return how often each of ``count`` images counts, ``(1 + draws, count)``: first as they are, then drawn."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return np.concatenate([np.ones((1, count), np.int64), weights]).astype(np.float64)


def bootstrap(values: Floats, count: int) -> Interval:
    """Return the first value with the percentile interval of the others, if more than one of ``count`` is drawn."""
    if count < 2 or np.isnan(values[1:]).all():
        return Interval(float(values[0]), math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values[1:], [tail, 1 - tail])
    return Interval(float(values[0]), float(low), float(high))


def drawn_units(matrices: Mapping[str, Matrix], groups: Sequence[str] | None) -> npt.NDArray[np.int64]:
    """Return the confusion matrices of what is drawn: whole groups if there are enough of them, else single images."""
    images = np.stack(list(matrices.values()))
    return images if groups is None or len(set(groups)) < MIN_GROUPS else sum_groups(images, groups)


def sum_groups(matrices: npt.NDArray[np.integer], groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Sum confusion matrices ``(images, C, C)`` within groups, which come in the order of their first images."""
    locations = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    total = np.zeros((len(locations), *matrices.shape[1:]), np.int64)
    np.add.at(total, [locations[group] for group in groups], matrices)
    return total


def iou_of_draws(weights: Floats, matrices: npt.NDArray[np.integer]) -> Floats:
    """Return the IoU of each class ``(draws, C)`` for each row of weights on images; NaN as in :func:`.class_iou`.

    Args:
        weights: How often each image counts, ``(draws, images)``.
        matrices: Confusion matrices, as :func:`unip.segmentation.metrics.score` takes them, of each image.
    """
    hits = weights @ np.diagonal(matrices, axis1=1, axis2=2).astype(np.float64)
    union = weights @ (matrices.sum(1)[:, : matrices.shape[1]] + matrices.sum(2)).astype(np.float64) - hits
    iou: Floats = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    return iou


def mean_iou(iou: Floats) -> Floats:
    """Return the mean over the classes ``(draws, C)`` that have an IoU, as :class:`.Scores` does."""
    there = ~np.isnan(iou)
    counts = there.sum(1)
    sums = np.where(there, iou, 0.0).sum(1)
    means: Floats = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return means


def paired_differences(
    ours: Sequence[npt.NDArray[np.integer]],
    theirs: Sequence[npt.NDArray[np.integer]],
    means: Sequence[Sequence[int]],
    draws: int = DRAWS,
) -> list[Interval]:
    """Return differences in mean IoU, ours less theirs, each with a percentile bootstrap interval over images.

    Images are drawn with replacement, the same ones for all runs. In each draw the IoU of every run is that of the
    summed confusion matrices, and the difference is that of the means over runs. Draws without a value are left out.

    Args:
        ours: Confusion matrices ``(images, C, C)`` of each run; or of groups of images, see :func:`sum_groups`.
        theirs: Those of the other runs, of the same images or groups.
        means: The classes of each mean; a single one for its IoU.
        draws: Bootstrap draws.
    """
    every = draw_weights(len(ours[0]), draws)

    def found(runs: Sequence[npt.NDArray[np.integer]]) -> list[Floats]:
        ious = [iou_of_draws(every, matrices) for matrices in runs]
        return [np.mean([mean_iou(iou[:, list(classes)]) for iou in ious], axis=0) for classes in means]

    return [bootstrap(our - their, len(ours[0])) for our, their in zip(found(ours), found(theirs), strict=True)]
