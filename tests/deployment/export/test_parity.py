"""What is counted of a file's outputs beside those of the model."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.deployment.export.test_metadata import metadata
from unip.deployment.export.acceptance import Acceptance
from unip.deployment.export.parity import ParityCounter
from unip.deployment.export.runners import Outputs


def outputs(logits: np.ndarray) -> Outputs:
    return Outputs(logits.argmax(0).astype(np.uint8), np.zeros(logits.shape[1:], np.float32), logits)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_no_small_difference(bad):
    """Also where good frames come before and after."""
    good = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    spoilt = good.copy()
    spoilt[1, 2, 3] = bad
    counter = ParityCounter(metadata())
    for logits in (good + 0.5, spoilt, good):
        counter.add(outputs(logits), outputs(good))
    found = counter.finish()
    assert found.logit_difference == math.inf
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["largest_logit_difference"] is None


def test_the_largest_difference_is_in_spreads_of_the_models_logits():
    model = np.zeros((3, 4, 5), np.float32)
    model[0, 0, 0] = 8
    counter = ParityCounter(metadata())
    for by in (0.5, 2, 1):
        counter.add(outputs(model + np.float32(by)), outputs(model))
    assert counter.finish().to_dict()["largest_logit_difference"] == 0.25


@pytest.mark.parametrize(("label", "agrees", "within"), [(0, True, True), (0, False, False), (255, False, None)])
def test_what_a_corruption_costs_is_not_known_without_labels(label, agrees, within):
    logits = np.zeros((2, 4, 5), np.float32)
    logits[0] = 1
    counter = ParityCounter(metadata())
    counter.add(outputs(logits if agrees else logits[::-1].copy()), outputs(logits), np.full((4, 5), label, np.uint8))
    accepted = Acceptance(counter.finish(), (0.1,), 1, None, (), {"fog:3": counter.finish()})
    (told,) = accepted.to_dict(0.5)["corrupted"]
    assert (told["corruption"], told["within_tolerance"]) == ("fog:3", within)
