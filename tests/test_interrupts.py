"""Ctrl-C and SIGTERM while the program starts, and processes whose parent is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.errors import Interrupted, UnipError
from unip.runtime.signals import stoppable

SENDS = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
sys.meta_path.insert(0, Finder())
class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), number=int(os.environ["SIGNAL"])):
        kill(me, number)
if os.environ["AT"] == "the end":
    sys.late = Late()
"""
SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), int(os.environ["SIGNAL"]))
    sum(range(1000000))
except BaseException:
    pass
raise ImportError("numpy.core.multiarray failed to import")
"""


@pytest.fixture
def frames(tmp_path) -> Path:
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"frames/{number}.png")
    return tmp_path / "frames"


def interrupt(tmp_path: Path, words: list[str], at: str, number: int) -> tuple[int, str, str]:
    """Run the program, with a signal when it looks for a module."""
    (tmp_path / "hook").mkdir(exist_ok=True)
    (tmp_path / "hook/sitecustomize.py").write_text(SENDS)
    path = os.pathsep.join([str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "AT": at, "SIGNAL": str(int(number)), "PYTHONPATH": path}
    command = [sys.executable, "-m", "unip", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", ["logging", "unip.errors", "unip.__main__", "unip.cli", "cyclopts", "rich.console"])
def test_while_the_program_starts(tmp_path, at, number):
    assert interrupt(tmp_path, ["models"], at, number) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_program_ends(tmp_path, number):
    """What it has done, and its exit code, stay as they are."""
    code, out, err = interrupt(tmp_path, ["models"], "the end", number)
    assert (code, err) == (0, "") and "All about one of them" in out


@pytest.mark.parametrize("at", ["unip.features.verbs", "unip.features.deduplication", "torch", "pyarrow.lib"])
def test_while_a_verb_imports(tmp_path, frames, at):
    """What was made for its output is gone again."""
    words = ["data", "dedup", str(frames), "--out", str(tmp_path / "new" / "out")]
    assert interrupt(tmp_path, words, at, signal.SIGINT) == (130, "", "interrupted\n")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["data", "dedup"], ["data", "build"]], ids=" ".join)
def test_an_import_that_answers_with_another_error(tmp_path, frames, words):
    """Also where Ctrl-C has another meaning: ``data build`` imports while it can be stopped."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / ("pyarrow.py" if "build" in words else "torch.py")).write_text(SWALLOWS)
    words = [*words, str(frames), "--out", str(tmp_path / "out")]
    assert interrupt(tmp_path, words, "nothing", signal.SIGINT) == (130, "", "interrupted\n")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As in jobs that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, out, err = interrupt(tmp_path, ["models"], "unip.cli", signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, err) == (0, "") and "All about one of them" in out


def test_a_library_leaves_signals_alone():
    script = "import signal, unip; print(signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15))"
    done = subprocess.run([sys.executable, "-c", script, "unip"], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "0"] or done.stdout.startswith("True Handlers.SIG_DFL")


def test_what_goes_on_after_an_error_does_not_after_a_signal():
    def work():
        for _ in range(3):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
            except UnipError:
                continue  # such as a frame that cannot be read
        raise AssertionError("it went on")

    with pytest.raises(Interrupted, match="interrupted"), stoppable("Run it again."):
        work()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 7), (signal.SIGTERM, 1)])
def test_a_forked_process_leaves_ctrl_c_to_its_parent(number, code):
    """Also before it has said so, in the moment after the fork: no traceback of a worker."""
    with stoppable("Run it again."):
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), number)
            sum(range(10000))
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code


# Processes whose parent is killed ------------------------------------------------------------------------------------

LOADS = """
import sys, time
from torch.utils.data import DataLoader
from unip.runtime.signals import follow_parent
class Data:
    def __len__(self): return 10
    def __getitem__(self, i):
        print(__import__("os").getpid(), flush=True)
        time.sleep(30)
for _ in DataLoader(Data(), num_workers=1, worker_init_fn=follow_parent, multiprocessing_context="fork"): pass
"""
SERVES = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-P", "-m", "unip.suites.worker"], stdin=-1, stdout=-1, start_new_session=1)
if sys.argv[1:]: worker.stdin.write(b"a task"); worker.stdin.flush()
print(worker.pid, flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize(
    ("script", "words"), [(LOADS, []), (SERVES, []), (SERVES, ["busy"])], ids=["loader", "bench", "busy bench"]
)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc to look for processes in")
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path, script, words):
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    environment = dict(os.environ)
    if script == SERVES:  # it is killed while torch is being imported
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-c", script, *words]
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    if script == SERVES:
        time.sleep(1)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


SHARES = """
import multiprocessing, sys, time
from multiprocessing import resource_sharer
from multiprocessing.connection import Client
from unip.runtime.signals import follow_parent
def work(pipe):
    follow_parent()
    pipe.send(resource_sharer.DupFd(1)._id)  # starts the thread that hands descriptors over
    time.sleep(30)
mine, its = multiprocessing.Pipe()
multiprocessing.get_context("fork").Process(target=work, args=(its,)).start()
address, _ = mine.recv()
half = multiprocessing.connection.SocketClient(address)  # asks, and dies before it answers
time.sleep(1)
print("asked", flush=True)
time.sleep(30)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_worker_says_nothing_of_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", SHARES], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "asked\n"
    parent.kill()
    assert parent.communicate(timeout=10)[1] == ""  # until the worker has ended, too


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
