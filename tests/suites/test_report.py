"""The plot."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unip.suites.cost import Cost
from unip.suites.records import CellRecord
from unip.suites.report import plot_cost, spread_labels
from unip.suites.results import DoneCell
from unip.suites.suite import Axes, Suite


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


@pytest.mark.parametrize("same", [True, False])
def test_starts_of_equal_cost_have_a_row_each(monkeypatch, same):
    drawn = []
    monkeypatch.setattr("unip.suites.report.spread_labels", lambda figure: drawn.extend(figure.axes))
    names = ("scratch", "adapted", "mae")
    suite = Suite.model_validate({"inits": dict.fromkeys(names, "m"), "datasets": {"d": "x"}, "protocols": {"p": {}}})
    costs = [Cost(flops, 0, 1.0, 1, 32, "float32", "cpu") for flops in (2e9, 2e9, 2e9 if same else 9e9)]
    done = [
        DoneCell(Axes(name, "d", "p", 1.0, seed), Path(), CellRecord.model_construct(miou=miou + seed / 100), {}, cost)
        for name, miou, cost in zip(names, (0.2, 0.5, 0.3), costs, strict=True)
        for seed in (0, 1)
    ]
    assert plot_cost(suite, done).startswith(b"\x89PNG")
    (axes,) = drawn
    if same:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["mae", "adapted", "scratch"]  # from below
        assert axes.get_xlim() == pytest.approx((16.65, 54.35), abs=0.01)  # a tenth beyond
        assert "2 GFLOPs" in axes.get_xlabel()
        assert [float(line.get_xdata()[0]) for line in axes.lines[::3]] == pytest.approx([30.5, 50.5, 20.5])
    else:
        assert "GFLOPs of one crop" in axes.get_xlabel()
        assert {text.get_text() for text in axes.texts} == set(names)
