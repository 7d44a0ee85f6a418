"""Two models on the same images: how much their scores differ, and whether that could be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from unip.data.labelled.classes import foreground_ids, has_background
from unip.segmentation.intervals import (
    CONFIDENCE,
    MIN_GROUPS,
    Floats,
    Interval,
    drawn_units,
    iou_of_draws,
    mean_iou,
    paired_differences,
)
from unip.segmentation.metrics import Matrix, percent


@dataclass(frozen=True)
class Difference:
    """A score of two models, between 0 and 1, and new less old with its interval; NaN where there is no value."""

    name: str
    old: float
    new: float
    change: Interval

    @property
    def verdict(self) -> str:
        """Whether the new model is better in it."""
        low, high = self.change.low, self.change.high
        if math.isnan(low):
            return "no interval"
        if low == high == 0:
            return "equal"
        return "better" if low > 0 else "worse" if high < 0 else "cannot be told apart"

    @property
    def shown(self) -> str:
        """The verdict in a table: a dash where nothing is certain."""
        return self.verdict if self.verdict in ("better", "worse", "equal") else "-"

    @property
    def limits(self) -> str:
        """The interval in points, or a dash."""
        low, high = self.change.low, self.change.high
        return "-" if math.isnan(low) else f"{points(low)} to {points(high)}"

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values; what has no value is None."""
        limits = {"low": self.change.low, "high": self.change.high}
        values = {"old": self.old, "new": self.new, "difference": self.change.mean, **limits}
        return {key: None if math.isnan(value) else value for key, value in values.items()} | {"verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """How two models differ, new less old, with the paired bootstrap over images or groups of them.

    Attributes:
        miou: The mean IoU.
        foreground_miou: The same without background; None if no class is one.
        classes: The IoU of each class that both know.
        over: What was drawn: whole ``groups`` of images, such as videos, or single ``images``.
        drawn: How many of those there are.
        groups: How many groups of images are known; 0: none.
    """

    miou: Difference
    foreground_miou: Difference | None
    classes: tuple[Difference, ...]
    over: str
    drawn: int
    groups: int

    @classmethod
    def of(
        cls,
        old: Mapping[str, Matrix],
        new: Mapping[str, Matrix],
        names: Sequence[str],
        groups: Sequence[str] | None,
    ) -> Comparison:
        """Compute it.

        Args:
            old: The confusion matrix of each image, as :func:`unip.segmentation.metrics.score` takes it.
            new: Those of the other model, of the same images in the same order.
            names: Of the classes.
            groups: The group of each image; None: not known.
        """
        before, after = drawn_units(old, groups), drawn_units(new, groups)
        means = [range(len(names)), foreground_ids(names), *([index] for index in range(len(names)))]
        labels = ["mean", "mean without background", *names]
        changes = paired_differences([after], [before], means)
        once = np.ones((1, len(before)))
        old_iou, new_iou = iou_of_draws(once, before), iou_of_draws(once, after)
        miou, foreground, *classes = (
            Difference(label, _value(old_iou, chosen), _value(new_iou, chosen), change)
            for label, chosen, change in zip(labels, means, changes, strict=True)
        )
        count = len(set(groups or ()))
        over = "groups" if count >= MIN_GROUPS else "images"
        return cls(miou, foreground if has_background(names) else None, tuple(classes), over, len(before), count)

    @property
    def rows(self) -> tuple[Difference, ...]:
        """All scores: those of the classes, then the means."""
        means = () if self.foreground_miou is None else (self.foreground_miou,)
        return (*self.classes, self.miou, *means)

    @property
    def sentence(self) -> str:
        """The answer: the difference in mIoU, its interval, and what that means."""
        change = f"{points(self.miou.change.mean)} mIoU"
        if self.miou.verdict == "no interval":
            return f"{change}; too few images to tell whether that is chance"
        over = self.over if self.drawn > 1 else self.over.removesuffix("s")
        return f"{change}, 95 % interval {self.miou.limits} over {self.drawn} {over}: {self.miou.verdict}"

    @property
    def caution(self) -> str:
        """What is wrong with the interval, if anything."""
        if self.over == "groups" or self.miou.verdict in ("no interval", "equal"):
            return ""
        if self.groups:
            known = (
                f"there are only {self.groups} groups of images" if self.groups > 1 else "all images are of one group"
            )
            return f"{known}, and images of one group are alike, so the interval is too narrow"
        return "if some images are frames of one video, the interval is too narrow: name the video by --group"

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        foreground = None if self.foreground_miou is None else self.foreground_miou.to_dict()
        return {
            "verdict": self.miou.verdict,
            "sentence": self.sentence,
            "interval": {"confidence": CONFIDENCE, "over": self.over, "drawn": self.drawn, "groups": self.groups},
            "miou": self.miou.to_dict(),
            "foreground_miou": foreground,
            "classes": [{"name": each.name, **each.to_dict()} for each in self.classes],
        }

    def to_table(self, title: str = "") -> Table:
        """Return the scores in percent as a table for the terminal."""
        table = Table("IoU", title=title)
        for heading in ("old", "new", "new - old", "95 % interval"):
            table.add_column(heading, justify="right")
        table.add_column("new is")
        for row in self.rows:
            if row is self.miou:
                table.add_section()
            change = points(row.change.mean)
            table.add_row(row.name, percent(row.old), percent(row.new), change, row.limits, row.shown)
        return table


def _value(iou: Floats, classes: Sequence[int]) -> float:
    return float(mean_iou(iou[:, list(classes)])[0])


def points(value: float) -> str:
    """Return a difference of shares in percentage points with its sign; a dash for NaN, and 0.0 for 0 alone."""
    if math.isnan(value):
        return "-"
    shown = 100 * value
    return "0.0" if value == 0 else f"{shown:+.1f}" if abs(shown) >= 0.05 else f"{shown:+.1g}"
