"""How long training will take, told once."""

import pytest
import torch

from unip.training import pace
from unip.training.pace import MOST_STEPS, SKIPPED, Pace, duration


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def steps(clock, seconds, count, total=1000):
    told = []
    measured = Pace(lambda each, left: told.append((each, left, clock[0])), torch.device("cpu"))
    for number in range(1, count + 1):
        clock[0] += 50.0 if number <= SKIPPED else seconds
        measured.after_step(total - number)
    return told


def test_it_is_told_once_and_without_the_first_step(clock):
    ((seconds, left, _),) = steps(clock, 0.5, 100)
    assert seconds == pytest.approx(0.5) and left == 1000 - SKIPPED - MOST_STEPS


def test_slow_steps_are_not_waited_for(clock):
    ((seconds, left, at),) = steps(clock, 12.0, 100)
    assert seconds == pytest.approx(12.0) and left == 997 and at == pytest.approx(100 + 50 + 24)


def test_a_training_that_ends_first_tells_nothing(clock):
    assert steps(clock, 0.5, 5, total=5) == [] == steps(clock, 0.5, MOST_STEPS + SKIPPED, total=MOST_STEPS + SKIPPED)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s"), (89, "89 s"), (91, "2 min"), (3500, "58 min"), (3600, "1 h 0 min"), (47000, "13 h 3 min")],
)
def test_a_time_reads_well(seconds, text):
    assert duration(seconds) == text
