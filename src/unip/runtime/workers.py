"""Threads and processes with a progress bar, for work that decodes many files."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from unip.errors import Interrupted, UnipError
from unip.limits import max_pixels, set_max_pixels
from unip.progress import meter
from unip.runtime.signals import follow_parent, signals_put_off

T = TypeVar("T")
R = TypeVar("R")

MAX_FUTURES = 4096  # futures alive at once: a million of them would take gigabytes
MAX_THREADS = 4  # threads that one interpreter can keep at work
MIN_ITEMS_FOR_PROCESSES = 256  # items that are not worth starting processes for
ITEMS_PER_BATCH = 8  # items that travel between processes at once
MAX_PROCESSES = 16  # processes, each with a copy of what the parent changes meanwhile
LOST_WORKER_PREFIX = "DataLoader worker"  # so torch begins what it says of a process that is gone
SETTLE_SECONDS = 1.0  # seconds

_loading: weakref.WeakSet[Any] = weakref.WeakSet()  # iterators of loaders


def usable_cores() -> int:
    """Return the cores this process may run on, which a container or batch system may have cut down."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_threads(
    function: Callable[[T], R],
    items: Sequence[T],
    what: str,
    *,
    workers: int = 0,
    unit: str = "images",
    quiet: bool = False,
) -> Iterator[R]:
    """Map ``function`` over ``items`` with threads; results come in order, progress goes to stderr.

    Image decoders release the interpreter lock, so a few threads are enough and nothing is copied between processes.

    Args:
        function: Called with each item; its first exception stops the work and is raised here.
        items: The inputs.
        what: The words in front of the bar, such as ``"conversion images"``.
        workers: Threads; 0 means one for each core.
        unit: What an item is, for the rate.
        quiet: Show no progress: for one batch of many, whose caller shows its own.

    Yields:
        ``function(item)`` in the order of ``items``.
    """
    pool = ThreadPoolExecutor(workers or usable_cores())

    def results() -> Iterator[R]:
        for start in range(0, len(items), MAX_FUTURES):
            yield from pool.map(function, items[start : start + MAX_FUTURES])

    try:
        with meter(what, len(items), unit, enabled=not quiet) as progress:
            for result in results():
                yield result
                progress.advance()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def map_processes(
    function: Callable[[T], R], items: Sequence[T], what: str, *, workers: int = 0, unit: str = "images"
) -> Iterator[R]:
    """Map as :func:`map_threads` does, with processes where there are more cores than threads could use.

    Between two calls of a decoder Python itself is at work, one thread at a time. So many threads get in each other's
    way: 64 of them, on 64 cores, read 240 images per second.

    Args:
        function: Called with each item. It must have no effect but its result, which travels between processes, or
            what it writes into memory that they share.
        items: The inputs.
        what: The words in front of the bar.
        workers: Threads or processes; 0 means one for each core.
        unit: What an item is, for the rate.

    Yields:
        ``function(item)`` in the order of ``items``.

    Raises:
        UnipError: The first one that ``function`` raised, or a process is gone.
    """
    count = min(workers or usable_cores(), MAX_PROCESSES)
    may_fork = sys.platform == "linux" and not multiprocessing.current_process().daemon
    if count <= MAX_THREADS or len(items) < MIN_ITEMS_FOR_PROCESSES or not may_fork:
        yield from map_threads(function, items, what, workers=count, unit=unit)
        return
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Calls(function, items),  # type: ignore[arg-type]
        ITEMS_PER_BATCH,
        num_workers=count,
        collate_fn=list,
        worker_init_fn=start_of_workers(),
        multiprocessing_context="fork",
        generator=torch.Generator(),  # else it would draw from the one that weights are drawn from
    )
    groups = load(loader)
    with meter(what, len(items), unit) as progress, lost_process_told(what):
        for _ in range(len(loader)):
            for result, error in next_batch(groups):
                if error is not None:
                    raise UnipError(error.what, error.fix)
                yield result
                progress.advance()


def start_of_workers() -> Callable[[int], None]:
    """Return what a loader process does first: a spawned one has not inherited the limit of pixels."""
    return functools.partial(_start_worker, max_pixels())


def compute_alone() -> None:
    """Let torch compute with one thread in a process that was forked.

    Threads of OpenMP are not forked, and a child that shares work among them waits for them forever. torch does so for
    the processes of its loaders; others have to.
    """
    torch = sys.modules.get("torch")  # one that is imported later begins with threads of its own
    if torch is not None:
        torch.set_num_threads(1)


def _start_worker(pixels: int, worker: int) -> None:
    follow_parent(worker)
    compute_alone()
    set_max_pixels(pixels)


def load(loader: Iterable[T]) -> Iterator[T]:
    """Return the iterator of a loader; its processes end with it, and before Python's end.

    An exception keeps alive what its frames hold, up to Python's end if there is a cycle of references. Processes that
    live until then are killed, which torch answers with a traceback.
    """
    if not _loading:
        atexit.unregister(end_all_loading)
        atexit.register(end_all_loading)  # after torch's functions, so called before them
    with signals_put_off():  # an iterator that is half made prints a traceback when it is deleted
        batches = iter(loader)
        _loading.add(batches)
    return batches


def end_loading(batches: Iterator[Any]) -> None:
    """End the processes of a loader's iterator, after the thread that pins its batches."""
    shut_down = getattr(batches, "_shutdown_workers", None)  # there is none where there are no processes
    if shut_down is None:
        return
    try:
        shut_down()
    except RuntimeError as error:
        if not lost_process(error):  # one that is gone has ended
            raise


def end_all_loading() -> None:
    """End the processes of all loaders, as at Python's end."""
    for batches in list(_loading):
        end_loading(batches)


def next_batch(batches: Iterator[T]) -> T:
    """Return the next batch of a loader with processes; one that was killed is told of as torch does.

    Raises:
        RuntimeError: A process is gone, see :func:`lost_process`.
    """
    try:
        return next(batches)
    except (ConnectionError, EOFError) as error:  # batches that lie in a process which was killed
        time.sleep(SETTLE_SECONDS)  # torch tells so itself, by a signal handler that raises, often a moment later
        raise RuntimeError(f"{LOST_WORKER_PREFIX} ended: {error}") from error


def lost_process(error: RuntimeError) -> str:
    """Return what an error says of a loader's process that is gone, in a line; "" of others."""
    first = str(error).partition("\n")[0]
    return first if first.startswith(LOST_WORKER_PREFIX) else ""


@contextmanager
def lost_process_told(what: str) -> Iterator[None]:
    """Tell of a loader's process that is gone: torch does so wherever the main thread is, also beside the loader.

    Args:
        what: What is done, for the message.

    Raises:
        UnipError: A process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if not (gone := lost_process(error)):
            raise
        for before in _contexts(error):
            if isinstance(before, (KeyboardInterrupt, Interrupted)):  # all processes were told to end, this one, too
                raise before from None
        raise UnipError(f"{what}: a process ended: {gone}", "Memory may have run out: use fewer --workers.") from error


def _contexts(error: BaseException) -> Iterator[BaseException]:
    """Yield what was being handled when an error came, and so on."""
    while (before := error.__context__) is not None:
        yield before
        error = before


class _Calls:
    """The calls of a function as a data set; a UnipError is a value, for its text would get a traceback in it."""

    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.function, self.items = function, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, UnipError | None]:
        try:
            return self.function(self.items[index]), None
        except UnipError as error:
            return None, error
