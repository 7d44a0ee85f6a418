"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from unip.errors import UnipError
from unip.lock import locked

HOLDS = """
import os, sys, time
from pathlib import Path
from unip.lock import locked
with locked(Path(sys.argv[1]), Path("runs/ft")):
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(30)
    print("held", flush=True)
    time.sleep(30)
"""


@pytest.fixture
def holder(tmp_path, request):
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "lock"), *getattr(request, "param", [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_the_process_that_holds_it_is_named(holder, tmp_path):
    with pytest.raises(UnipError, match=rf"runs/ft is in use by process {holder.pid} on .* since .*lock") as caught:
        with locked(tmp_path / "lock", "runs/ft"):
            raise AssertionError("not reached")
    assert caught.value.fix == "Wait until it ends, or choose another --out."


@pytest.mark.parametrize("holder", [[], ["fork"]], indirect=True)
def test_a_killed_holder_holds_nobody_up(holder, tmp_path):
    """Nor do its forked workers, which may live a little longer."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    begun = time.monotonic()
    with locked(tmp_path / "lock", "runs/ft"):
        pass
    assert time.monotonic() - begun < 5
    assert (tmp_path / "lock").read_bytes() == b""


def test_a_child_that_inherits_it_holds_it_too(tmp_path):
    with locked(tmp_path / "lock", "runs/ft") as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    try:
        with pytest.raises(UnipError, match="in use by another process"), locked(tmp_path / "lock", "runs/ft"):
            raise AssertionError("not reached")
    finally:
        child.communicate(b"\n", timeout=30)
    with locked(tmp_path / "lock", "runs/ft"):
        pass


INHERITS = """
import subprocess, sys, time
from pathlib import Path
from unip.lock import locked
with locked(Path(sys.argv[1]), Path("runs/ft")) as lock:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"], pass_fds=(lock,), stdout=subprocess.DEVNULL)
    print("held", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize("waits", [True, False])
def test_children_of_a_killed_holder_are_waited_for(tmp_path, monkeypatch, waits):
    command = [sys.executable, "-c", INHERITS, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.kill()
    if waits:
        with locked(tmp_path / "lock", "runs/ft"):
            return
    monkeypatch.setattr("unip.lock.SETTLE_SECONDS", 0.1)
    with pytest.raises(UnipError, match=f"processes that process {holder.pid} on .* has started and that are still"):
        with locked(tmp_path / "lock", "runs/ft"):
            raise AssertionError("not reached")


def test_it_is_held_once_in_a_process_too(tmp_path):
    with locked(tmp_path / "lock", "runs/ft"):
        with pytest.raises(UnipError, match=f"in use by process {os.getpid()}"), locked(tmp_path / "lock", "runs/ft"):
            raise AssertionError("not reached")


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnipError, match="cannot write"), locked(tmp_path / "file/lock", "runs/ft"):
        raise AssertionError("not reached")
