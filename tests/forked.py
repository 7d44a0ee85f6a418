"""Processes that are forked from the tests' own, where torch is imported already: starting Python takes seconds."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO

from unip import cli
from unip.runtime.workers import compute_alone


class Forked:
    """A forked process with the part of ``subprocess.Popen`` that the tests use.

    Args:
        run: What the process does; its stdin is a pipe, as are its stdout and stderr.
        visible: Its CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, run: Callable[[], object], visible: str = "") -> None:
        pipes = [os.pipe() for _ in range(3)]
        (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = pipes
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        self.returncode: int | None = None
        if self.pid == 0:
            os.setsid()
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
            for number, end in enumerate((stdin, stdout, stderr)):
                os.dup2(end, number)
            for end in itertools.chain(*pipes):
                os.close(end)
            _live(run)
        for end in (stdin, stdout, stderr):
            os.close(end)
        self.stdin: IO[bytes] = os.fdopen(to_stdin, "wb", buffering=0)
        self.stdout: IO[bytes] = os.fdopen(from_stdout, "rb", buffering=0)
        self.stderr: IO[bytes] = os.fdopen(from_stderr, "rb", buffering=0)

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what it wrote to stdout and stderr (there, less than 64 KiB)."""
        said = self.stdout.read().decode(), self.stderr.read().decode()
        return self.wait(), *said

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        """Return the exit code once there is one."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)


def _live(run: Callable[[], object]) -> None:
    """Run in the child, and end it without what the tests' process would do at its end."""
    code = 1
    try:
        compute_alone()
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_unip(*words: object) -> Forked:
    """Start ``unip`` with arguments."""

    def run() -> None:
        sys.argv = ["unip", *map(str, words)]
        cli.main()

    return Forked(run)
