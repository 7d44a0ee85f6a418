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


def robustness_record(corrupted: Mapping[CorruptFrames, Scores]) -> dict[str, Any]:
    """Return scores by corruption as JSON values.

    Returns:
        ``seed``; ``mean``, each score's plain mean over the corruptions; and ``each``, all scores of every one.
    """
    return {
        "seed": next(iter(corrupted)).seed,
        "mean": {name: None if np.isnan(value) else value for name, value in mean_measures(corrupted.values()).items()},
        "each": [
            {"name": each.name, "severity": each.severity, **scores.to_dict()} for each, scores in corrupted.items()
        ],
    }


def robustness_table(clean: Scores, corrupted: Mapping[CorruptFrames, Scores]) -> Table:
    """Return scores by corruption in percent, clean images first and the mean over corruptions last."""
    shown = {"miou": "mIoU", "foreground_miou": "mIoU without background", "mean_accuracy": "mean accuracy"}
    if not has_background(clean.names):
        del shown["foreground_miou"]
    table = Table("corruption", title="corrupted images")
    for heading in ("severity", *shown.values(), "mIoU lost"):
        table.add_column(heading, justify="right")

    def add(name: str, severity: str, values: Mapping[str, float]) -> None:
        lost = clean.miou - values["miou"]
        table.add_row(name, severity, *(percent(values[measure]) for measure in shown), percent(lost))

    add("none", "", mean_measures([clean]))
    table.add_section()
    for each, scores in corrupted.items():
        add(each.name, str(each.severity), mean_measures([scores]))
    table.add_section()
    add("mean", "", mean_measures(corrupted.values()))
    return table


def mean_measures(scores: Iterable[Scores]) -> dict[str, float]:
    """Return the plain mean of each overall score; NaN if one has no value."""
    found = list(scores)
    return {name: float(np.mean([getattr(each, name) for each in found])) for name in MEASURES}
