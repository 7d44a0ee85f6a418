"""How much a model loses on corrupted images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.table import Table

from unip.data.classes import has_background
from unip.data.corruptions import CorruptFrames
from unip.segment.metrics import Scores, percent

MEASURES = ("miou", "foreground_miou", "mean_accuracy", "pixel_accuracy")


def robustness_record(clean: Scores, corrupted: Mapping[CorruptFrames, Scores], *, of: int) -> dict[str, Any]:
    """Return scores by corruption as JSON values.

    Args:
        clean: Scores on the images as they are.
        corrupted: Those under the corruptions that are done.
        of: How many corruptions there are to be.

    Returns:
        ``seed``; the scores on ``clean`` images; ``mean``, each score's plain mean over the corruptions, None until all
        are done; and ``each``, all scores of every one.
    """
    done = len(corrupted) == of
    return {
        "seed": next(iter(corrupted)).seed,
        "clean": clean.to_dict(),
        "mean": {
            name: None if np.isnan(value) or not done else value
            for name, value in mean_measures(corrupted.values()).items()
        },
        "each": [
            {"name": each.name, "severity": each.severity, **scores.to_dict()} for each, scores in corrupted.items()
        ],
    }


def robustness_rows(clean: Scores, corrupted: Mapping[CorruptFrames, Scores]) -> list[tuple[str, ...]]:
    """Return scores by corruption in percent: a heading, clean images, each corruption, and the mean over them."""
    shown = {"miou": "mIoU", "foreground_miou": "mIoU without background", "mean_accuracy": "mean accuracy"}
    if not has_background(clean.names):
        del shown["foreground_miou"]

    def row(name: str, severity: str, values: Mapping[str, float]) -> tuple[str, ...]:
        lost = clean.miou - values["miou"]
        return (name, severity, *(percent(values[measure]) for measure in shown), percent(lost))

    return [
        ("corruption", "severity", *shown.values(), "mIoU lost"),
        row("none", "", mean_measures([clean])),
        *(row(each.name, str(each.severity), mean_measures([scores])) for each, scores in corrupted.items()),
        row("mean", "", mean_measures(corrupted.values())),
    ]


def robustness_table(clean: Scores, corrupted: Mapping[CorruptFrames, Scores]) -> Table:
    """Return :func:`robustness_rows` as a table for the terminal."""
    head, none, *each, mean = robustness_rows(clean, corrupted)
    table = Table(head[0], title="corrupted images")
    for heading in head[1:]:
        table.add_column(heading, justify="right")
    for rows in ([none], each, [mean]):
        for row in rows:
            table.add_row(*row)
        table.add_section()
    return table


def mean_measures(scores: Iterable[Scores]) -> dict[str, float]:
    """Return the plain mean of each overall score; NaN if one has no value."""
    found = list(scores)
    return {name: float(np.mean([getattr(each, name) for each in found])) for name in MEASURES}
