from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from unip.errors import Interrupted, UnipError
from unip.runtime import workers
from unip.runtime.workers import lost_process_told, map_processes, map_threads


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


FORKED = """
import sys, torch
from torch.utils.data import DataLoader
from unip.data.synthetic import files
from unip.runtime import queues, workers
from unip.runtime.workers import load, map_processes, start_of_workers
sys.path.insert(0, sys.argv[2])
values = torch.rand(2000, 2000)

def compute(item):
    return float(torch.sin(values).sum() * 0) + item

def forked():
    from tests.forked import Forked
    child = Forked(lambda: print(compute(7.0)))
    try:
        code = child.wait(30)
    finally:
        child.kill()
    assert code == 0 and child.stdout.read() == b"7.0\\n"

def pooled():
    with queues.workers_for(100) as pool:
        assert pool.submit(compute, 7).result(30) == 7

def mapped():
    assert list(map_processes(compute, range(300), "numbers", workers=5)) == list(range(300))

def scenes():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    from pathlib import Path
    files.write_for_parent = lambda out: None
    with ProcessPoolExecutor(2, get_context("fork"), files._start_worker, (Path(),)) as pool:
        assert pool.submit(compute, 7).result(30) == 7

class Numbers:
    def __len__(self): return 3
    def __getitem__(self, item): return compute(item)

def loaded():
    assert len(list(load(DataLoader(Numbers(), num_workers=1, worker_init_fn=start_of_workers(), timeout=30)))) == 3

if __name__ == "__main__":
    torch.set_num_threads(4)
    queues.usable_cores = workers.usable_cores = lambda: 8
    compute(0)  # begins the threads of OpenMP, which are not forked
    globals()[sys.argv[1]]()
    print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("how", ["forked", "pooled", "mapped", "scenes", "loaded"])
def test_a_forked_process_computes_though_the_threads_of_its_parent_are_gone(how: str, tmp_path: Path) -> None:
    """With more than one thread it would wait for them forever."""
    (tmp_path / "fork.py").write_text(FORKED)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, str(tmp_path / "fork.py"), how, str(Path(__file__).parents[2])]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=90)
    finally:
        with suppress(ProcessLookupError):  # one that hangs, and what it forked
            os.killpg(process.pid, signal.SIGKILL)
    assert out.endswith("done\n"), err


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, lambda: Interrupted("stopped")])
def test_a_process_that_ends_while_all_are_interrupted_is_no_loss(interruption):
    """torch tells of it while the interruption is handled, and would take its place."""
    given = interruption()
    with pytest.raises(type(given)) as found, lost_process_told("reading"):
        try:
            raise given
        finally:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")
    assert found.value is given
    with pytest.raises(UnipError, match="reading: a process ended"), lost_process_told("reading"):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
