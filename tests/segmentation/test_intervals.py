"""Intervals of a mIoU against draws made one by one, and what is said of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unip.segmentation.intervals import DRAWS, MiouInterval
from unip.segmentation.metrics import score

NAMES = ("background", "a", "b")


def matrices(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {str(i): rng.integers(0, 40, (3, 3)) + np.diag(rng.integers(0, 90, 3)) for i in range(count)}


def by_hand(found: list[np.ndarray]) -> tuple[float, float]:
    draws = np.random.default_rng(0).multinomial(len(found), np.full(len(found), 1 / len(found)), size=DRAWS)
    values = [score(sum(weight * each for weight, each in zip(draw, found, strict=True)), NAMES).miou for draw in draws]
    return tuple(np.quantile(values, [0.025, 0.975]))


def test_images_are_drawn_where_groups_are_not_known():
    found = matrices(9)
    interval = MiouInterval.of(found, None)
    assert (interval.low, interval.high) == pytest.approx(by_hand(list(found.values())))
    assert (interval.over, interval.drawn) == ("images", 9)
    assert "--group" in interval.describe(0.5)


def test_whole_groups_are_drawn_where_there_are_enough():
    found = matrices(12)
    groups = [f"video{i // 2}" for i in range(12)]
    each = list(found.values())
    interval = MiouInterval.of(found, groups)
    assert (interval.low, interval.high) == pytest.approx(by_hand([each[i] + each[i + 1] for i in range(0, 12, 2)]))
    assert (interval.over, interval.drawn) == ("groups", 6)
    assert interval.describe(0.5).endswith("(bootstrap over 6 groups)")


@pytest.mark.parametrize(("groups", "said"), [(["a"] * 6 + ["b"] * 6, "only 2 groups"), (["a"] * 12, "of one group")])
def test_few_groups_are_said(groups, said):
    interval = MiouInterval.of(matrices(12), groups)
    assert (interval.over, interval.drawn) == ("images", 12)
    assert said in interval.describe(0.5)


def test_one_image_has_no_interval():
    interval = MiouInterval.of(matrices(1), None)
    assert math.isnan(interval.low)
    assert interval.to_dict()["low"] is None
    assert interval.describe(0.25) == "mIoU 25.0 %; too few images for an interval"
