"""Ctrl-C and SIGTERM: as an exception, as a flag, or as whatever else the first of them is to do; workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from unip.errors import Interrupted

Act = Callable[[int, FrameType | None], None]
Complain = Callable[[type[BaseException], BaseException, TracebackType | None], None]
IMPORTING = "<frozen importlib._bootstrap>"  # the file that frames of an import are in
LOOK_EVERY_SECONDS = 0.5  # whether the parent is still there
SETTLE_SECONDS = 0.2


class _Stop(KeyboardInterrupt):
    """Someone asked to stop. Not an Interrupted yet: code that goes on after a UnipError must not go on after this."""


@contextmanager
def stoppable(advice: str, what: str = "interrupted") -> Iterator[None]:
    """Raise :class:`Interrupted` with some advice at the first SIGINT or SIGTERM; a second one acts as usual.

    For work that keeps what is done and can be made to go on.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        usual = signal.getsignal(number)
        if is_importing(frame) and callable(usual):
            usual(number, frame)
        raise _Stop

    try:
        with at_first_signal(stop):
            yield
    except _Stop:
        raise Interrupted(what, advice) from None


@contextmanager
def at_first_signal(act: Act) -> Iterator[None]:
    """Call ``act`` as a handler of the first SIGINT or SIGTERM; a second one acts as usual."""
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
        act(number, frame)

    for number in watched:
        signal.signal(number, only_here(handle))
    try:
        yield
    finally:
        restore()


@contextmanager
def signals_put_off() -> Iterator[None]:
    """Let SIGINT and SIGTERM act after the body only: for what must not be left half made, such as processes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers act in the main thread
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, only_here(lambda number, frame: came.append(number)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)


def only_here(act: Act) -> Act:
    """Return a handler that acts in this process only, and not in those that it forks, before they have their own.

    Ctrl-C reaches all of them; they leave it to this one. SIGTERM ends them.
    """
    here = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == here:
            act(number, frame)
        elif number == signal.SIGTERM:
            os._exit(1)

    return handle


def is_importing(frame: FrameType | None) -> bool:
    """Return whether a frame belongs to an import: there, modules written in C may turn an exception into another."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


def follow_parent(worker: int = 0) -> None:
    """Begin a worker process: Ctrl-C is the parent's business, SIGTERM ends it, and so does the end of the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from multiprocessing import parent_process  # here: the command line has no use for it

    parent = parent_process()
    if parent is not None and parent.pid is not None:
        sys.excepthook = complain = _complain_of(parent.pid)  # also of what multiprocessing does in threads
        threading.excepthook = _in_a_thread(complain)
        threading.Thread(target=_end_after, args=(parent.pid,), daemon=True).start()


def _complain_of(parent: int) -> Complain:
    """Return a hook that prints an exception, unless it only says that the parent is gone."""

    def complain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        time.sleep(SETTLE_SECONDS)  # connections of a process end before it does, and show so by many errors
        if os.getppid() != parent:
            os._exit(1)
        sys.__excepthook__(kind, error, trace)

    return complain


def _in_a_thread(complain: Complain) -> Callable[[threading.ExceptHookArgs], None]:
    """Return a hook for threads, which Python gives their own."""

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            complain(args.exc_type, args.exc_value, args.exc_traceback)

    return hook


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_SECONDS)
    os._exit(1)


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

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number

    with at_first_signal(note):
        yield request
