"""Ctrl-C and SIGTERM as a flag that the loop looks at between steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unip.stopping import at_first_signal


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
