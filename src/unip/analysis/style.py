"""The style of figures: colours and markers, and a figure that a notebook shows by itself."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib.figure
from matplotlib import rc_context

from unip.analysis.groups import Group
from unip.analysis.records import AnalysedModel

#: Colour of text and axes. Nothing else is drawn in it, so that a page can put its own text colour in its place.
INK = "#1a1b1f"
STYLE: Any = {  # any: matplotlib types the keys as literals from 3.11 on
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], INK),
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a model's name may hold dollar signs
}
#: A family of colours for each kind of pre-training. All stand out 3 to 1 from white and from #111.
GROUP_COLOURS: dict[Group, tuple[str, ...]] = {
    "supervised": ("#2f7fd0", "#1493ad", "#6671e0"),
    "contrastive": ("#2a8f4a", "#0f9180", "#76891a"),
    "masked-image": ("#d9541e", "#d13d62", "#ab7512"),
    "distilled": ("#8f5fdb", "#bb4bb4", "#7d6a9e"),
    "other": ("#7a7f87", "#8d7662", "#5f858a"),
}
#: White letters stand out 4.5 to 1 from these.
PATTERN_COLOURS = {"local": "#3f6fa3", "hybrid": "#b45f06", "global": "#7b4f96"}
MARKERS = "os^DvPX*"


class Figure(matplotlib.figure.Figure):
    """A figure that a notebook shows by itself, without pyplot."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure as matplotlib does, in this style."""
        with rc_context(STYLE):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def model_styles(records: Sequence[AnalysedModel]) -> dict[str, tuple[str, str]]:
    """Give each model, by name, a colour of its group's family and a marker that no other of the first eight has."""
    styles: dict[str, tuple[str, str]] = {}
    seen: Counter[str] = Counter()
    for record in records:
        if record.name not in styles:
            shades = GROUP_COLOURS[record.group]
            styles[record.name] = shades[seen[record.group] % len(shades)], MARKERS[len(styles) % len(MARKERS)]
            seen[record.group] += 1
    return styles
