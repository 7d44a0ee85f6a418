"""Threads with a progress bar, for work that decodes many files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
R = TypeVar("R")

BATCH = 4096  # futures alive at once: a million of them would take gigabytes
LINE_SECONDS = 10.0


def threaded(
    function: Callable[[T], R], items: Sequence[T], what: str, *, workers: int = 0, unit: str = "images"
) -> Iterator[R]:
    """Map ``function`` over ``items`` with threads; results come in order, progress goes to stderr.

    Image decoders release the interpreter lock, so threads are enough and nothing is copied between processes.

    Args:
        function: Called with each item; its first exception stops the work and is raised here.
        items: The inputs.
        what: The words in front of the bar, such as ``"reading images"``.
        workers: Threads; 0 means one for each core.
        unit: What an item is, for the rate.

    Yields:
        ``function(item)`` in the order of ``items``.
    """
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)

    def results() -> Iterator[R]:
        for start in range(0, len(items), BATCH):
            yield from pool.map(function, items[start : start + BATCH])

    try:
        yield from track(results(), what, len(items), unit=unit)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def track(items: Iterable[T], what: str, total: int, *, unit: str = "images") -> Iterator[T]:
    """Pass ``items`` on; show a bar with rate and remaining time, or a plain line now and then in a log file."""
    console = Console(stderr=True)
    start = time.perf_counter()
    if not console.is_terminal:
        last = start
        for done, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            if now - last >= LINE_SECONDS:
                last, rate = now, done / (now - start)
                left = (total - done) / rate
                print(f"{what}: {done}/{total}, {rate:.0f} {unit}/s, {left:.0f} s left", file=sys.stderr)
        return
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=total, rate="")
        for done, item in enumerate(items, 1):
            yield item
            rate = done / (time.perf_counter() - start)
            progress.update(task, completed=done, rate=f"{rate:.0f} {unit}/s")
