"""Ctrl-C and SIGTERM: as an exception, as a flag, or as whatever else the first of them is to do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from unip.errors import Interrupted


@contextmanager
def stoppable(advice: str, what: str = "interrupted") -> Iterator[None]:
    """Raise :class:`Interrupted` with some advice at the first SIGINT or SIGTERM; a second one acts as usual.

    For work that keeps what is done and can be made to go on.
    """

    def stop(number: int) -> None:
        raise Interrupted(what, advice)

    with at_first_signal(stop):
        yield


@contextmanager
def at_first_signal(act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` with the number of the first SIGINT or SIGTERM; a second one acts as usual."""
    watched = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in watched}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        act(number)

    for number in watched:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def leave_signals_to_parent(worker: int) -> None:
    """Loader workers: Ctrl-C is the parent's business, SIGTERM ends the worker as by default."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopRequest:
    """Whether someone asked the program to stop, and with which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a flag; a second one acts as usual."""
    request = StopRequest()

    def note(number: int) -> None:
        request.signal = number

    with at_first_signal(note):
        yield request
