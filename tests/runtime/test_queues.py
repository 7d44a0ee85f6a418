import gc
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from unip.errors import UnipError
from unip.runtime.queues import MAX_AHEAD, Jobs, gc_frozen, map_ahead, workers_for


def weigh(item: int) -> int:
    return 10


def test_results_come_in_order_and_errors_are_raised():
    def slow(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        if item == 20:
            raise ValueError("20")
        return item * item

    assert list(map_ahead(slow, range(20), weight=weigh)) == [n * n for n in range(20)]
    found = map_ahead(slow, range(30), weight=weigh)
    assert [next(found) for _ in range(20)] == [n * n for n in range(20)]
    with pytest.raises(ValueError, match="20"):
        next(found)


@pytest.mark.parametrize(("max_bytes", "most"), [(1000, MAX_AHEAD), (50, 5), (1, 2)])
def test_no_more_is_read_ahead_than_fits(max_bytes, most):
    """The one that was taken last counts too, as it may still be in use."""
    begun = []
    found = map_ahead(lambda item: begun.append(item) or item, range(100), weight=weigh, max_bytes=max_bytes)
    for taken in range(1, 40):
        next(found)
        time.sleep(0.001)
        assert len(begun) - taken <= most
    found.close()


def test_jobs_wait_for_others_where_many_bytes_wait():
    open_gate, active = threading.Event(), []

    def job(number: int) -> int:
        active.append(number)
        open_gate.wait(5)
        return number

    with ThreadPoolExecutor(4) as pool:
        jobs = Jobs[int](pool, max_bytes=100)
        assert jobs.add(60, job, 0) == [] and jobs.add(40, job, 1) == []
        threading.Timer(0.05, open_gate.set).start()
        before = time.monotonic()
        found = jobs.add(500, job, 2)  # heavier than the bound: alone
        assert time.monotonic() - before > 0.03 and found == [0, 1]
        assert jobs.finish() == [2] and jobs.finish() == []


def test_what_a_job_raises_is_raised():
    def fail() -> None:
        raise UnipError("the disk is full", "Free some.")

    with workers_for(1) as pool:
        jobs = Jobs[None](pool)
        with pytest.raises(UnipError, match="the disk is full"):
            [jobs.add(1, fail), jobs.finish()]


def test_many_cores_are_used_by_processes_and_a_lost_one_is_told(monkeypatch):
    monkeypatch.setattr("unip.runtime.queues.usable_cores", lambda: 8)
    with workers_for(100) as pool:
        jobs = Jobs[int](pool)
        found = [result for _ in range(20) for result in jobs.add(1, os.getpid)] + jobs.finish()
        assert len(found) == 20 and os.getpid() not in found
        with pytest.raises(UnipError, match="a process that writes results ended"):
            for _ in range(100):
                jobs.add(1, os._exit, 3)
            jobs.finish()
    with workers_for(3) as pool:  # few jobs are not worth it
        assert pool.submit(os.getpid).result() == os.getpid()


def test_what_a_job_was_given_is_kept_until_it_is_done():
    class Bytes:
        pass

    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        jobs = Jobs[bool](pool)
        for _ in range(2):
            jobs.add(1, lambda given: gate.wait(5), held := Bytes())
        watched = weakref.ref(held)
        del held
        assert watched() is not None
        gate.set()
        assert jobs.finish() == [True, True]
    gc.collect()
    assert watched() is None


def test_garbage_is_collected_again_afterwards():
    class Cycle:
        def __init__(self):
            self.me = self

    before = weakref.ref(Cycle())
    with gc_frozen():
        made = weakref.ref(Cycle())
        gc.collect()
        assert before() is not None and made() is None
    gc.collect()
    assert before() is None and gc.get_freeze_count() == 0
