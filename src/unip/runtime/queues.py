"""Work before and after a model, in threads or processes: what waits is bounded by its bytes, not by its number."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, Generic, TypeVar

from unip.errors import UnipError
from unip.runtime.signals import signals_put_off
from unip.runtime.workers import MAX_PROCESSES, MAX_THREADS, start_of_workers, usable_cores

T = TypeVar("T")
R = TypeVar("R")

MAX_WAITING_BYTES = 2**28  # of one queue
MAX_AHEAD = 16  # results that one reads ahead: more would not be any faster
READERS = 2  # threads that read ahead
MIN_ITEMS_FOR_PROCESSES = 64  # jobs that are not worth starting processes for


def map_ahead(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    weight: Callable[[R], int],
    max_bytes: int = MAX_WAITING_BYTES,
    threads: int = READERS,
) -> Iterator[R]:
    """Map a function over items in threads, ahead of who takes the results; they come in order.

    Args:
        function: Called with each item; what it raises is raised here.
        items: The inputs.
        weight: The bytes of a result.
        max_bytes: Of the results that wait; each that is not there yet is taken to be as heavy as the heaviest one.
            One may always be on its way.
        threads: How many work.

    Yields:
        ``function(item)`` in the order of ``items``.
    """
    left = iter(items)
    waiting: deque[Future[R]] = deque()
    heaviest = 0
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            known = [weight(each.result()) for each in waiting if each.done() and each.exception() is None]
            heaviest = max([heaviest, *known])
            room = min(MAX_AHEAD, max(1, max_bytes // heaviest)) if heaviest else threads
            waiting.extend(pool.submit(function, item) for item in islice(left, max(0, room - len(waiting))))
            if not waiting:
                return
            result = waiting.popleft().result()
            heaviest = max(heaviest, weight(result))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Jobs(Generic[R]):
    """Jobs that others do; what they were given is bounded by its bytes, and results come in order.

    What a job was given is kept until it is done, as it may lie in memory that is shared with who does it.

    Args:
        pool: Does them.
        max_bytes: That wait at most; a single job may be heavier.
    """

    def __init__(self, pool: Executor, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self.pool, self.max_bytes = pool, max_bytes
        self._waiting: deque[tuple[Future[R], int, tuple[object, ...]]] = deque()
        self._bytes = 0

    def add(self, weight: int, function: Callable[..., R], *arguments: object) -> list[R]:
        """Hand over a job; waits for others first if too many bytes wait.

        Args:
            weight: Bytes of the arguments.
            function: Called with them; in processes, both travel.
            arguments: Of the function.

        Returns:
            The results of the jobs that are done, as far as all before them are.

        Raises:
            UnipError: A process is gone. All else is what the function raised.
        """
        found = []
        while self._waiting and (self._waiting[0][0].done() or self._bytes + weight > self.max_bytes):
            found.append(self._next())
        try:
            self._waiting.append((self.pool.submit(function, *arguments), weight, arguments))
        except BrokenProcessPool as error:
            raise _lost(error) from error
        self._bytes += weight
        return found

    def finish(self) -> list[R]:
        """Wait for all jobs; return the results that :meth:`add` has not."""
        return [self._next() for _ in range(len(self._waiting))]

    def _next(self) -> R:
        job, weight, _ = self._waiting.popleft()
        self._bytes -= weight
        try:
            return job.result()
        except BrokenProcessPool as error:
            raise _lost(error) from error


def _lost(error: Exception) -> UnipError:
    return UnipError(f"a process that writes results ended: {error}", "Memory may have run out: free some.")


def uses_processes(jobs: int) -> bool:
    """Say whether :func:`workers_for` gives forked processes for so many jobs."""
    may_fork = sys.platform == "linux" and not multiprocessing.current_process().daemon
    return usable_cores() > MAX_THREADS and jobs >= MIN_ITEMS_FOR_PROCESSES and may_fork


@contextmanager
def workers_for(jobs: int) -> Iterator[Executor]:
    """Give what does so many jobs beside a model: threads, or processes where there are more cores than they can use.

    Jobs must have no effect on this process but their results.
    """
    cores = usable_cores()
    pool: Executor
    if uses_processes(jobs):
        with signals_put_off():  # processes that are half made
            context: Any = multiprocessing.get_context("fork")
            pool = ProcessPoolExecutor(min(MAX_PROCESSES, cores * 3 // 4), context, start_of_workers(), (0,))
            pool.submit(int).result()
    else:
        pool = ThreadPoolExecutor(min(MAX_THREADS, cores))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Let Python's garbage collector leave out all objects that are there now, in this process and those that it forks.

    With torch there are so many objects that a pass takes a third of a second, and a forked process would get copies of
    them.
    """
    others = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not others:
            gc.unfreeze()
