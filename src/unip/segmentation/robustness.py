"""How much a model loses on corrupted images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from unip.data.corruptions import CorruptFrames, parse_corruptions
from unip.data.labelled.classes import has_background
from unip.segmentation.metrics import Scores, percent, score

MEASURES = ("miou", "foreground_miou", "mean_accuracy", "pixel_accuracy")


@dataclass(frozen=True)
class Robustness:
    """Scores of a model on corrupted images.

    Attributes:
        clean: Scores on the images as they are.
        corrupted: Those on corrupted images, as far as they are there.
        wanted: The corruptions that were asked for, of one seed.
    """

    clean: Scores
    corrupted: dict[CorruptFrames, Scores]
    wanted: tuple[CorruptFrames, ...] = ()

    @property
    def missing(self) -> list[CorruptFrames]:
        """The wanted corruptions without scores."""
        return [each for each in self.wanted if each not in self.corrupted]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values.

        Returns:
            The scores on ``clean`` images; the names of the ``wanted`` corruptions and their ``seed``; ``mean``, each
            score's plain mean over these, None as long as one is missing; and ``each``, all scores of every one there
            is.
        """
        means = self._mean(self.wanted)
        return {
            "clean": self.clean.to_dict(),
            "wanted": [str(each) for each in self.wanted],
            "seed": self.wanted[0].seed,
            "mean": means and {name: None if np.isnan(value) else value for name, value in means.items()},
            "each": [
                {"name": each.name, "severity": each.severity, "seed": each.seed, **scores.to_dict()}
                for each, scores in self.corrupted.items()
            ],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the scores in percent: a heading, clean images, each wanted corruption, and the mean over them.

        A corruption whose scores are not there yet has no numbers, and neither has the mean then. Nothing is returned
        if no corruption is wanted.
        """
        if not self.wanted:
            return []
        shown = {"miou": "mIoU", "foreground_miou": "mIoU without background", "mean_accuracy": "mean accuracy"}
        if not has_background(self.clean.names):
            del shown["foreground_miou"]

        def row(name: str, severity: str, values: Mapping[str, float]) -> tuple[str, ...]:
            lost = self.clean.miou - values["miou"]
            return (name, severity, *(percent(values[measure]) for measure in shown), percent(lost))

        unknown = dict.fromkeys(MEASURES, np.nan)
        return [
            ("corruption", "severity", *shown.values(), "mIoU lost"),
            row("none", "", mean_measures([self.clean])),
            *(row(each.name, str(each.severity), self._mean([each]) or unknown) for each in self.wanted),
            row("mean", "", self._mean(self.wanted) or unknown),
        ]

    def _mean(self, over: Sequence[CorruptFrames]) -> dict[str, float] | None:
        """Return the mean over some corruptions, None as long as one is missing."""
        return mean_measures(self.corrupted[each] for each in over) if set(over) <= set(self.corrupted) else None


def read_robustness(record: Any, same: Mapping[str, object], clean: Scores) -> Robustness:
    """Return what :meth:`Robustness.to_dict` of before holds of this very model, images and settings.

    Args:
        record: What a file held, of whatever form.
        same: Values that it must have: what the model and the settings are.
        clean: Scores on images as they are, in which it must have as many pixels of each class.

    Returns:
        It, with the corruptions that were asked for last; without any where the record is of something else.
    """
    try:
        pixels = np.array(record["clean"]["confusion_matrix"]).sum(1).tolist()
        if pixels != clean.matrix.sum(1).tolist() or any(record[name] != value for name, value in same.items()):
            return Robustness(clean, {})
        found = {
            CorruptFrames(each["name"], each["severity"], each["seed"]): score(
                np.array(each["confusion_matrix"], np.int64), clean.names
            )
            for each in record["each"]
        }
        return Robustness(clean, found, tuple(parse_corruptions(record["wanted"], record["seed"])))
    except (KeyError, TypeError, ValueError):  # of another version
        return Robustness(clean, {})


def robustness_table(rows: Sequence[tuple[str, ...]]) -> Table:
    """Return :meth:`Robustness.rows` as a table for the terminal."""
    head, none, *each, mean = rows
    table = Table(head[0], title="corrupted images")
    for heading in head[1:]:
        table.add_column(heading, justify="right")
    for part in ([none], each, [mean]):
        for row in part:
            table.add_row(*row)
        table.add_section()
    return table


def mean_measures(scores: Iterable[Scores]) -> dict[str, float]:
    """Return the plain mean of each overall score; NaN if one has no value."""
    found = list(scores)
    return {name: float(np.mean([getattr(each, name) for each in found])) for name in MEASURES}
