"""What is chosen for a pre-training, and what is said about one that is too short."""

from __future__ import annotations

import re

import pytest

from unip.pretraining.config import PretrainConfig
from unip.pretraining.resolving import ENOUGH_CROPS, auto_lr, few_crops, resolve_pretraining


def config(**values) -> PretrainConfig:
    return PretrainConfig.make(data="x", teacher="y", teacher_layer=2, out="z", **values)


def test_the_learning_rate_is_the_papers_at_its_batch_and_falls_with_its_root_to_a_floor():
    assert auto_lr(4096) == 1.5e-4 * 4096 / 256 == 2.4e-3
    assert auto_lr(1024) == pytest.approx(1.2e-3)  # half of it at a quarter
    assert auto_lr(512) == pytest.approx(8.49e-4, rel=1e-3)
    assert auto_lr(32) == auto_lr(1) == 5e-4
    rates = [auto_lr(batch) for batch in (1, 16, 256, 4096)]
    assert rates == sorted(rates)


@pytest.mark.parametrize(("given", "expected"), [("auto", 1.2e-3), (3e-4, 3e-4)])
def test_a_given_rate_stays(given, expected):
    assert resolve_pretraining(config(batch_size=1024, lr=given), [], images=10).lr == pytest.approx(expected)


@pytest.mark.parametrize(("steps", "batch"), [(260, 48), (1000, 4096), (800, 512), (10_000, 1)])
def test_what_is_known_to_help_is_long_enough(steps, batch):
    assert few_crops(config(steps=steps, batch_size=batch)) == ""


@pytest.mark.parametrize(("steps", "batch"), [(100, 32), (20, 256), (9_999, 1)])
def test_too_short_a_training_is_told_with_steps_that_are_enough(steps, batch):
    said = few_crops(config(steps=steps, batch_size=batch))
    assert f"{steps} steps of {batch} are {steps * batch:,} crops in all, too few to learn from" in said
    found = re.search(r"--steps (\d+)", said)
    assert found and ENOUGH_CROPS <= int(found[1]) * batch < ENOUGH_CROPS + batch
    assert not few_crops(config(steps=int(found[1]), batch_size=batch))
