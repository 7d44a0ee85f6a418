"""The plot's labels."""

from __future__ import annotations

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unip.benching.report import spread_labels


def test_labels_of_equal_points_stand_above_each_other():
    figure = Figure(figsize=(6, 4), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = {"one": (1, 1), "the same": (1, 1), "close": (1, 1.02), "far": (1, 2), "beside": (2, 1)}
    for name, (x, y) in points.items():
        axes.plot([x], [y], marker="o")
        axes.annotate(name, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.margins(0.25)
    figure.canvas.draw()
    before = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert before["one"].overlaps(before["the same"])
    spread_labels(figure)
    after = {text.get_text(): text.get_window_extent() for text in axes.texts}
    for one, other in itertools.combinations(after.values(), 2):
        assert not one.padded(-0.5).overlaps(other.padded(-0.5))
    for name in ("far", "beside"):
        assert abs(after[name].y0 - before[name].y0) < 1
