"""The comparison of two models as one self-contained HTML page: the answer, all differences, where they differ most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unip.data.labelled.classes import Classes
from unip.pages import page_template
from unip.segmentation.comparison import Comparison, Difference, points
from unip.segmentation.gallery import Pixels, hex_colour, picture, truth_picture
from unip.segmentation.metrics import percent


@dataclass(frozen=True)
class ComparedFrame:
    """A frame to show: its file, its mIoU with both models, the image ``(H, W)`` or RGB, and masks ``(H, W)``."""

    path: Path
    old_miou: float
    new_miou: float
    image: Pixels
    truth: Pixels
    old: Pixels
    new: Pixels


def render_comparison(
    found: Comparison,
    classes: Classes,
    about: Mapping[str, object],
    notes: Sequence[str],
    frames: Sequence[ComparedFrame],
) -> str:
    """Return the page.

    Args:
        found: How much the models differ.
        classes: Names and colours of the ids in the frames.
        about: What was compared on what, shown on top.
        notes: What a reader should know.
        frames: To show, the largest difference first.
    """
    reach = float(np.nanmax([np.abs([row.change.low, row.change.high, row.change.mean]) for row in found.rows]))
    colours = {name: hex_colour(colour) for name, colour in zip(classes.names, classes.palette, strict=True)}
    rows = [_row(row, colours, reach or 1.0) for row in found.rows]
    shown = [
        {
            "name": frame.path.name,
            "old_miou": percent(frame.old_miou),
            "new_miou": percent(frame.new_miou),
            "change": points(frame.new_miou - frame.old_miou),
            "pictures": {
                "image": picture(frame.image),
                "truth": truth_picture(frame.image, frame.truth, classes),
                "old": picture(frame.image, frame.old, classes),
                "new": picture(frame.image, frame.new, classes),
            },
        }
        for frame in frames
    ]
    return page_template("unip.segmentation", "comparison.html.j2").render(
        about=dict(about),
        sentence=found.sentence,
        notes=[*notes, *([found.caution] if found.caution else [])],
        summary={
            "mIoU, old": percent(found.miou.old),
            "mIoU, new": percent(found.miou.new),
            "new - old": points(found.miou.change.mean),
            f"95 % interval over {found.drawn} {found.over}": found.miou.limits,
        },
        rows=rows,
        reach=f"{100 * reach:.1f}",
        frames=shown,
        colours=colours,
    )


def _row(row: Difference, colours: Mapping[str, str], reach: float) -> dict[str, object]:
    """Return the cells of a score, and where its interval lies on an axis from ``-reach`` (0) to ``reach`` (100)."""
    low, high, mean = (50 + 50 * value / reach for value in (row.change.low, row.change.high, row.change.mean))
    return {
        "name": row.name,
        "colour": colours.get(row.name),
        "old": percent(row.old),
        "new": percent(row.new),
        "change": points(row.change.mean),
        "limits": row.limits,
        "verdict": row.shown,
        "interval": None if math.isnan(low) else {"left": low, "width": high - low},
        "mark": None if math.isnan(mean) else mean,
    }
