"""Progress of long work: a rich bar on a terminal, a plain line now and then elsewhere; nothing unless asked for.

The command line shows it, and after ``unip.log.show()`` so does Python.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unip.log import TerminalConsole, is_other_rank, is_shown

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_EVERY_SECONDS = 10.0


class Meter:
    """Counts finished units and shows rate, remaining time and a note."""

    def __init__(
        self, title: str, total: int, unit: str, start: int, console: TerminalConsole, bar: Progress | None
    ) -> None:
        self._title, self._total, self._unit, self._start = title, total, unit, start
        self._console, self._bar = console, bar
        self._begun = self._shown = time.monotonic()
        self._done = start
        self._task = bar.add_task(title, total=total, completed=start, note="") if bar else None

    def advance(self, count: int = 1, note: str = "") -> None:
        """Report ``count`` more units as done; ``note`` is shown beside them when not empty."""
        self._done += count
        now = time.monotonic()
        rate = (self._done - self._start) / max(now - self._begun, 1e-9)
        pace = f"{rate:.1f} {self._unit}/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s each"
        text = f"{pace}  {note}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count, note=text)
        elif now - self._shown >= LINE_EVERY_SECONDS or self._done == self._total:
            self._shown = now
            left = timedelta(seconds=round((self._total - self._done) / max(rate, 1e-9)))
            line = f"{self._title}: {self._done}/{self._total} {self._unit}, ETA {left}, {text}"
            try:
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)
            except (OSError, ValueError):  # stderr is full, closed, or nobody reads it: the work goes on without lines
                self._console.quiet = True


@contextmanager
def meter(title: str, total: int, unit: str, *, start: int = 0, enabled: bool = True) -> Iterator[Meter]:
    """Show the progress of ``total`` units of work on stderr, if :func:`unip.log.show` was called.

    Args:
        title: What is being done.
        total: How many units there are.
        unit: Their plural name, for the rate.
        start: How many were done before (a continued run).
        enabled: False shows nothing.
    """
    enabled = enabled and is_shown() and not is_other_rank()
    console = TerminalConsole(stderr=True, quiet=not enabled, emoji=False)
    if not console.is_terminal or not enabled:
        yield Meter(title, total, unit, start, console, None)
        return
    from rich.progress import (  # here: short work, and files, have no use for it
        Progress,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        yield Meter(title, total, unit, start, console, bar)
