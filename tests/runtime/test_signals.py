"""Stops: what must be whole is made whole first."""

from __future__ import annotations

import signal

import pytest

from unip.errors import Interrupted
from unip.runtime.signals import signals_put_off, stoppable
from unip.runtime.workers import load


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_put_off(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    done = []
    with pytest.raises(Interrupted):
        with stoppable("Again."):
            with signals_put_off():
                signal.raise_signal(number)
                done.append("whole")
            done.append("too late")
    assert done == ["whole"]
    assert {each: signal.getsignal(each) for each in before} == before


def test_an_iterator_of_a_loader_is_made_whole_before_a_stop_acts():
    made = []

    class Loader:
        def __iter__(self):
            signal.raise_signal(signal.SIGTERM)
            made.append(map(abs, (1, 2)))
            return made[0]

    with pytest.raises(Interrupted):
        with stoppable("Again."):
            load(Loader())
    assert made
