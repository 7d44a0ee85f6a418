from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from unip.errors import UnipError
from unip.runtime import workers
from unip.runtime.workers import map_processes, map_threads


def test_results_come_in_order_whatever_takes_long() -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0)
        return i * i

    assert list(map_threads(slow_first, range(20), "squares", workers=4)) == [i * i for i in range(20)]


def test_quiet_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(map_threads(str, range(2), "numbers", quiet=True)) == ["0", "1"]
    assert capsys.readouterr() == ("", "")
    assert list(map_threads(str, range(2), "numbers")) == ["0", "1"]
    assert "numbers: 2/2" in capsys.readouterr().err


def test_batches_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_FUTURES", 3)
    assert list(map_threads(str, range(8), "numbers", workers=2)) == [str(i) for i in range(8)]
    assert list(map_threads(str, [], "numbers")) == []


def test_an_exception_comes_through() -> None:
    def fail(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    with pytest.raises(ValueError, match="two"):
        list(map_threads(fail, range(50), "numbers", workers=2))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use processes for however little."""
    monkeypatch.setattr(workers, "usable_cores", lambda: 2)
    monkeypatch.setattr(workers, "MAX_THREADS", 1)
    monkeypatch.setattr(workers, "MIN_ITEMS_FOR_PROCESSES", 2)


@pytest.mark.usefixtures("processes")
def test_processes_give_results_in_order_and_leave_random_numbers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def own(i: int) -> tuple[int, int]:
        time.sleep(0.02 if i == 0 else 0)
        return i * i, os.getpid()

    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    results = list(map_processes(own, range(30), "squares"))
    assert torch.equal(torch.rand(1), expected)
    assert [square for square, _ in results] == [i * i for i in range(30)]
    assert os.getpid() not in {process for _, process in results}
    assert "squares: 30/30" in capsys.readouterr().err


def test_few_items_or_cores_are_left_to_threads() -> None:
    assert set(map_processes(lambda _: os.getpid(), range(4), "numbers")) == {os.getpid()}


@pytest.mark.usefixtures("processes")
def test_an_error_comes_through_as_it_was() -> None:
    def fail(i: int) -> int:
        if i == 5:
            raise UnipError("five is odd", "Use six.")
        return i

    with pytest.raises(UnipError) as caught:
        list(map_processes(fail, range(50), "numbers"))
    assert (caught.value.what, caught.value.fix) == ("five is odd", "Use six.")


@pytest.mark.usefixtures("processes")
def test_a_process_that_dies_is_said() -> None:
    def die(i: int) -> int:
        if i == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with pytest.raises(UnipError, match="numbers: a process ended"):
        list(map_processes(die, range(50), "numbers"))


@pytest.mark.usefixtures("processes")
def test_whoever_stops_early_leaves_no_process() -> None:
    before = multiprocessing.active_children()
    results = map_processes(str, range(500), "numbers")
    assert next(results) == "0"
    results.close()
    gc.collect()
    assert [child for child in multiprocessing.active_children() if child not in before] == []


LEFT_OPEN = """
import sys
from torch.utils.data import DataLoader
from unip.runtime.workers import load, start_of_workers
batches = load(DataLoader(range(100), num_workers=2, worker_init_fn=start_of_workers()))
next(batches)
sys.kept = batches  # as an exception may keep them
sys.exit(2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_loader_that_is_left_open_ends_in_order() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
