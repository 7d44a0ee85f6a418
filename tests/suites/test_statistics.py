"""Formulas against others, in float64."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from unip.segmentation.metrics import score
from unip.suites.statistics import floor, paired_over_images, paired_over_seeds, spread, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30, 99])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.995])
def test_quantiles_of_students_t(freedom, probability):
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-9)


def test_spread():
    values = [0.31, 0.35, 0.3]
    found = spread([*values, math.nan])
    assert (found.mean, found.sd, found.count) == pytest.approx((sum(values) / 3, statistics.stdev(values), 3))
    assert spread([0.5]).mean == 0.5
    assert math.isnan(spread([0.5]).sd)
    assert spread([math.nan]).count == 0


def test_the_interval_over_seeds_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.4, 0.05, 5), rng.normal(0.3, 0.05, 5)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = paired_over_seeds(list(ours), list(theirs))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(ours - theirs))


def test_no_interval_from_one_pair_or_from_seeds_that_change_nothing():
    for ours, theirs in (([0.4], [0.3]), ([0.4, 0.4], [0.3, 0.3])):
        found = paired_over_seeds(ours, theirs)
        assert found.mean == pytest.approx(0.1)
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def matrices(seed: int, images: int = 12, classes: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 50, (images, classes, classes))
    found[: images // 2, 2] = 0  # a class that half of the images lack
    found[: images // 2, :, 2] = 0
    return found


def test_groups_of_images_are_drawn_whole():
    ours, theirs = [matrices(0), matrices(1)], [matrices(2), matrices(3)]
    groups = ["a", "b", "b", "c"] * 3
    summed = [
        [np.stack([each[[g == name for g in groups]].sum(0) for name in "abc"]) for each in runs]
        for runs in (ours, theirs)
    ]
    assert paired_over_images(ours, theirs, groups) == paired_over_images(*summed)
    one = paired_over_images(ours, theirs, ["a"] * 12)
    assert one.mean == paired_over_images(ours, theirs).mean
    assert math.isnan(one.low) and math.isnan(one.high)
    alone = paired_over_images(ours, theirs, [str(i) for i in range(12)])
    assert alone == paired_over_images(ours, theirs)
    twice = [[np.concatenate([each, each]) for each in runs] for runs in (ours, theirs)]
    names = [str(i) for i in range(12)] * 2
    copied, told = paired_over_images(*twice), paired_over_images(*twice, names)
    assert (told.mean, told.low, told.high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert copied.high - copied.low < 0.85 * (told.high - told.low)  # copies look like more images than there are


@pytest.mark.parametrize("foreground", [False, True])
def test_the_bootstrap_over_images(foreground):
    ours, theirs = [matrices(0), matrices(1)], [matrices(2), matrices(3)]
    names = ("background", "a", "b", "c")

    def miou(runs, weights):
        found = []
        for run in runs:
            total = sum(weight * matrix for weight, matrix in zip(weights, run, strict=True))
            values = score(total, names)
            found.append(values.foreground_miou if foreground else values.miou)
        return sum(found) / len(found)

    found = paired_over_images(ours, theirs, foreground=foreground, draws=500)
    one = np.ones(12, np.int64)
    assert found.mean == pytest.approx(miou(ours, one) - miou(theirs, one))
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=500)  # the same draws, one by one
    differences = [miou(ours, weights) - miou(theirs, weights) for weights in draws]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))


def test_equal_runs_differ_by_nothing():
    found = paired_over_images([matrices(0)], [matrices(0)])
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_the_floor():
    truth = np.array([900, 60, 40, 0])
    matrix = np.zeros((4, 4), np.int64)
    matrix[np.arange(4), [1, 0, 2, 3]] = truth  # any prediction with these rows
    name, scores = floor(matrix, ("background", "a", "b", "never"))
    assert name == "background"
    assert scores.miou == pytest.approx(0.9 / 3)  # the class that is never there does not count
    assert scores.foreground_miou == 0
    name, scores = floor(matrix[::-1, ::-1], ("a", "b", "c", "d"))
    assert floor(matrix[::-1, ::-1], ("never", "b", "background", "a"))[0] == "background"
    assert name == "d"  # the commonest where none is called background
