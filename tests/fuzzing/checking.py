"""One bad file: read it, see that it is refused with a message or gives the right value, and measure."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzzing.mutations import Change, change_bytes, mutate
from unip.errors import UnipError

HUNG_SECONDS = 20
LARGE_BYTES = 2_000_000_000
GOOD = ("accepted", "refused")


def nothing(path: Path, value: Any) -> None:
    """Take what was read as it is: there is no other reader to compare with."""


@dataclass(frozen=True)
class Reader:
    """A reader and a format.

    Attributes:
        make: Writes a good file, and those beside it, into an empty folder, and returns the one that is changed.
        read: Reads it; raises UnipError if it is bad.
        check: Compares what was read with an independent reader; raises AssertionError if it differs.
        change: Changes the file by its structure.
        command: Words of the command line that reads it; empty if there is none.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    change: Change = change_bytes
    check: Callable[[Path, Any], None] = nothing
    command: Callable[[Path], list[str]] | None = None


@dataclass(frozen=True)
class Outcome:
    """How reading one file went.

    Attributes:
        kind: ``accepted``, ``refused``, ``wrong`` (another value than the independent reader's), ``unexpected`` (any
            exception but UnipError), ``hung``, ``large`` (memory), ``died``.
        seconds: How long it took.
        bytes: The peak of memory less what was there before; 0 where that is not known.
        detail: The traceback, or what is wrong.
    """

    kind: str
    seconds: float = 0.0
    bytes: int = 0
    detail: str = ""


@dataclass
class Subject:
    """A reader with a good file in a folder of its own, ready to be given bad ones."""

    name: str
    reader: Reader
    folder: Path
    path: Path = field(init=False)
    good: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.reader.make(self.folder)
        self.good = self.path.read_bytes()

    def put(self, number: int, seed: int) -> None:
        """Write bad file ``number``."""
        random = Random(f"{seed} {self.name} {number}")
        self.path.write_bytes(mutate(self.good, self.reader.change, random))

    def attempt(self) -> Outcome:
        """Read the file."""
        before = reset_peak()
        start = time.perf_counter()
        try:
            with limit(HUNG_SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = self.reader.read(self.path)
                kind, detail = "accepted", ""
                try:
                    self.reader.check(self.path, value)
                except AssertionError:
                    kind, detail = "wrong", traceback.format_exc()
        except UnipError as error:
            kind, detail = "refused", str(error)
        except Hung:
            kind, detail = "hung", traceback.format_exc()
        except MemoryError:
            kind, detail = "large", traceback.format_exc()
        except BaseException:
            kind, detail = "unexpected", traceback.format_exc()
        peak = max(0, peak_bytes() - before)
        if peak > LARGE_BYTES:
            kind = "large"
        return Outcome(kind, time.perf_counter() - start, peak, detail)


class Hung(BaseException):
    """It took too long."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise Hung in the block when it takes longer, as far as signals reach it."""

    def stop(number: int, frame: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def reset_peak() -> int:
    """Forget the peak of this process's memory, and return what it has now, in bytes; 0 where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return peak_bytes()


def peak_bytes() -> int:
    """Return the peak of this process's resident memory in bytes."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(text.partition("VmHWM:")[2].split()[0])
