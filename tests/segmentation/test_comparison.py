"""Differences of two models on the same images against draws made one by one, and what is said of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from unip.data.labelled.classes import Classes
from unip.segmentation.comparison import Comparison, points
from unip.segmentation.comparison_page import ComparedFrame, render_comparison

NAMES = ("background", "a", "b")


def made(count: int, seed: int, good: int = 90) -> dict[str, np.ndarray]:
    """Confusion matrices of the same truth: ``good`` of 100 pixels of each class are right in the mean."""
    truth = np.random.default_rng(99).integers(50, 400, (count, 3))
    rng = np.random.default_rng(seed)
    wrong = 1 - good / 100
    shares = [[good / 100 if i == j else wrong / 2 for j in range(3)] for i in range(3)]
    return {
        str(i): np.stack([rng.multinomial(truth[i, c], shares[c]) for c in range(3)]).astype(np.int64)
        for i in range(count)
    }


def iou_by_hand(matrix: np.ndarray) -> list[float]:
    found = []
    for c in range(len(matrix)):
        hits = float(matrix[c, c])
        union = float(matrix[c].sum()) + float(matrix[:, c].sum()) - hits
        found.append(hits / union if union else float("nan"))
    return found


@pytest.mark.parametrize("groups", [None, [f"video{i // 2}" for i in range(12)]], ids=["images", "groups"])
def test_differences_equal_draws_made_one_by_one(groups):
    old, new = made(12, 1, 85), made(12, 2, 90)
    found = Comparison.of(old, new, NAMES, groups)
    units = [[i] for i in range(12)] if groups is None else [[i, i + 1] for i in range(0, 12, 2)]
    sides = [[sum(list(side.values())[i] for i in unit) for unit in units] for side in (old, new)]
    count = len(units)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=2000)
    drawn = np.array(
        [
            [iou_by_hand(sum(int(w) * m for w, m in zip(draw, side, strict=True))) for side in sides]
            for draw in [np.ones(count, np.int64), *draws]
        ],
        np.float64,
    )  # (draws, old and new, classes)
    change = drawn[:, 1] - drawn[:, 0]
    columns = [*change.T, change.mean(1), change[:, 1:].mean(1)]
    values = [*drawn[0].T, drawn[0].mean(1), drawn[0][:, 1:].mean(1)]
    assert [row.name for row in found.rows] == [*NAMES, "mean", "mean without background"]
    for row, column, (before, after) in zip(found.rows, columns, values, strict=True):
        low, high = np.quantile(column[1:], [0.025, 0.975])
        expected = (before, after, column[0], low, high)
        got = (row.old, row.new, row.change.mean, row.change.low, row.change.high)
        assert got == pytest.approx(expected, abs=1e-12)
    assert (found.over, found.drawn) == (("images", 12) if groups is None else ("groups", 6))
    assert found.miou.verdict == "better" and f"over {found.drawn} {found.over}: better" in found.sentence
    back = Comparison.of(new, old, NAMES, groups)
    assert back.miou.change.mean == -found.miou.change.mean and back.miou.verdict == "worse"


def test_equal_models_differ_by_exactly_0():
    found = Comparison.of(made(7, 1), made(7, 1), NAMES, None)
    for row in found.rows:
        assert (row.change.mean, row.change.low, row.change.high, row.verdict) == (0, 0, 0, "equal")
    assert found.sentence == "0.0 mIoU, 95 % interval 0.0 to 0.0 over 7 images: equal" and not found.caution


def test_models_that_are_alike_cannot_be_told_apart():
    found = Comparison.of(made(12, 1), made(12, 3), NAMES, None)
    assert found.miou.verdict == "cannot be told apart" and "--group" in found.caution


@pytest.mark.parametrize(("groups", "said"), [(["a"] * 6 + ["b"] * 6, "only 2 groups"), (["a"] * 12, "of one group")])
def test_few_groups_are_said(groups, said):
    found = Comparison.of(made(12, 1, 80), made(12, 2), NAMES, groups)
    assert (found.over, found.drawn) == ("images", 12)
    assert said in found.caution and found.caution.endswith("too narrow")


def test_one_image_has_no_interval():
    found = Comparison.of(made(1, 1, 80), made(1, 2), NAMES, None)
    assert found.miou.verdict == "no interval" and "too few images" in found.sentence
    assert found.to_dict()["miou"]["low"] is None


def test_predictions_of_other_classes_are_errors():
    """A further column: pixels that only one model calls something else."""
    old = made(6, 1)
    new = {name: np.hstack([m, m[:, :1] * 0 + 40]) for name, m in old.items()}
    found = Comparison.of(old, new, NAMES, None)
    total = sum(new.values())
    by_hand = [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(3)]
    assert [row.new for row in found.classes] == pytest.approx(by_hand)
    assert len(found.classes) == 3 and found.miou.verdict == "worse"


def test_a_class_that_is_nowhere_has_no_value():
    lacking = {name: m * np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]]) for name, m in made(6, 1).items()}
    found = Comparison.of(lacking, lacking, NAMES, None)
    assert found.classes[2].verdict == "no interval" and found.classes[2].limits == "-"
    assert found.to_dict()["classes"][2]["difference"] is None


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0123, "+1.2"), (-0.2, "-20.0"), (0.0, "0.0"), (-0.0003, "-0.03"), (float("nan"), "-")]
)
def test_points(value, shown):
    assert points(value) == shown


def test_the_page():
    classes = Classes(("background", "<script>", "b"))
    names = classes.names
    found = Comparison.of(made(8, 1, 80), made(8, 2), names, None)
    mask = np.zeros((30, 40), np.uint8)
    mask[:5] = 255
    frame = ComparedFrame(Path("a<b>.png"), 0.25, 0.5, np.full((30, 40), 90, np.uint8), mask, mask * 0, mask * 0 + 1)
    about = {"old": "runs/a", "new": "runs/b", "data": "folder", "split": "test", "images": 8}
    text = render_comparison(found, classes, about, ["trained <there>"], [frame] * 2)
    assert not re.search(r"https?://|src=\"(?!data:)|<link|<script", text)
    assert text.count("data:image/jpeg;base64,") == 8
    assert "a&lt;b&gt;.png</b>, mIoU 25.0 old, 50.0 new (+25.0)" in text and "trained &lt;there&gt;" in text
    assert found.sentence in text and "max-width: 1180px" in text
    for row in found.rows:
        assert row.limits in text
