"""Threads with a progress bar, for work that decodes many files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from unip.progress import meter

T = TypeVar("T")
R = TypeVar("R")

BATCH = 4096  # futures alive at once: a million of them would take gigabytes


def usable_cores() -> int:
    """Return the cores this process may run on, which a container or batch system may have cut down."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threaded(
    function: Callable[[T], R],
    items: Sequence[T],
    what: str,
    *,
    workers: int = 0,
    unit: str = "images",
    quiet: bool = False,
) -> Iterator[R]:
    """Map ``function`` over ``items`` with threads; results come in order, progress goes to stderr.

    Image decoders release the interpreter lock, so threads are enough and nothing is copied between processes.

    Args:
        function: Called with each item; its first exception stops the work and is raised here.
        items: The inputs.
        what: The words in front of the bar, such as ``"reading images"``.
        workers: Threads; 0 means one for each core.
        unit: What an item is, for the rate.
        quiet: Show no progress: for one batch of many, whose caller shows its own.

    Yields:
        ``function(item)`` in the order of ``items``.
    """
    pool = ThreadPoolExecutor(workers or usable_cores())

    def results() -> Iterator[R]:
        for start in range(0, len(items), BATCH):
            yield from pool.map(function, items[start : start + BATCH])

    try:
        with meter(what, len(items), unit, enabled=not quiet) as progress:
            for result in results():
                yield result
                progress.advance()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
