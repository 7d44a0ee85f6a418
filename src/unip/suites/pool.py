"""Worker processes, one or more a device, and the queue that feeds them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from unip.documents import parse_json
from unip.errors import UnipError
from unip.limits import max_pixels
from unip.runtime.workers import usable_cores
from unip.suites.tasks import Outcome, Task
from unip.training.loop import check_gpu

SAVE_TIMEOUT_SECONDS = 120.0  # that a process has to save its state
LOOK_EVERY_SECONDS = 0.2  # between checks whether someone asked to stop


@dataclass(frozen=True)
class VisibleDevice:
    """What a worker process sees: the value of CUDA_VISIBLE_DEVICES, empty for the CPU."""

    visible: str


def find_devices(kind: str) -> list[VisibleDevice]:
    """Return the devices to work on: every GPU that this process may see, or the CPU.

    Raises:
        UnipError: GPUs are asked for and there are none.
    """
    check_gpu(kind)
    count = 0 if kind == "cpu" else torch.cuda.device_count()
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return [VisibleDevice(name.strip()) for name in (allowed or map(str, range(count)))][:count] or [VisibleDevice("")]


class Worker:
    """A child process that runs one task at a time, started when it gets the first and again after it died.

    Args:
        device: What it may see.
        sharing: How many workers share this machine's cores.
        keep_open: File descriptors that it is to hold as long as it lives.
    """

    def __init__(self, device: VisibleDevice, *, sharing: int = 1, keep_open: tuple[int, ...] = ()) -> None:
        self.device, self.sharing, self.keep_open = device, sharing, keep_open
        self.process: subprocess.Popen[bytes] | None = None

    def submit(self, task: Task) -> None:
        """Start a task."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        assert self.process.stdin is not None
        self.process.stdin.write(task.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()

    def result(self) -> Outcome:
        """Wait for the outcome of the task; a process that died is an outcome too."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            outcome = parse_json(line, "a worker", Outcome, file_names=True)
            if outcome.fresh:
                self.close()
            return outcome
        code = self.process.wait()
        self.close()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Outcome(state="died", what=f"its process {how}", fix="SIGKILL often means that memory ran out.")

    def close_pipes(self) -> None:
        """Tell the process to end as soon as it has saved its state."""
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()

    def close(self) -> None:
        """Let the process end."""
        if self.process is None:
            return
        self.close_pipes()
        try:
            self.process.wait(SAVE_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self) -> None:
        """Ask the process to save its state and end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        if self.process is not None:
            self.process.kill()

    @property
    def pipe(self) -> int:
        """The file descriptor that tells of an outcome."""
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def _start(self) -> subprocess.Popen[bytes]:
        own = str(Path(__file__).parents[2])
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": self.device.visible}
        environment["PYTHONPATH"] = os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])])
        if self.sharing > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // self.sharing)))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "unip.suites.worker", str(max_pixels())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that select sees every line that came
            env=environment,
            pass_fds=self.keep_open,
            start_new_session=True,  # Ctrl-C is the parent's to hear
        )


def close_all(workers: Sequence[Worker]) -> None:
    """Let processes end, all at the same time: each may have a state to save."""
    for worker in workers:
        worker.close_pipes()
    for worker in workers:
        worker.close()


class Job(Protocol):
    """What the queue needs to know of a job."""

    @property
    def needs(self) -> Job | None:
        """The job that must be done before."""

    def pending_task(self) -> Task | None:
        """Return the task, or None if it is done already; a UnipError fails the job."""


@dataclass(frozen=True)
class JobResult:
    """A job and how it went; ``seconds`` is None for one that was done before."""

    job: Any
    outcome: Outcome
    seconds: float | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended without being done, though nobody stopped it."""
        return self.outcome.state in ("failed", "died")


def run_queue(jobs: Sequence[Job], workers: Sequence[Worker], stopped: Callable[[], bool]) -> Iterator[JobResult]:
    """Run jobs on workers, in their order as far as what they need is done; yield each as it ends.

    Args:
        jobs: What one needs comes before it, or is not among them.
        workers: Idle ones; they stay alive.
        stopped: Says whether to stop. Then workers are told to save their state, and jobs that wait are dropped.

    Yields:
        Every job that ended. One whose need failed has failed too.
    """
    queue = _Queue(list(jobs))
    while queue.waiting or queue.running:
        if stopped():
            queue.stop()
        for worker in (worker for worker in workers if worker not in queue.running):
            yield from queue.feed(worker)
            if stopped():
                break
        yield from queue.wait()


@dataclass
class _Queue:
    """Jobs that wait, those that run, and which have failed."""

    waiting: list[Job]
    running: dict[Worker, tuple[Job, float]] = field(default_factory=dict)  # with the times when they began
    failed: set[int] = field(default_factory=set)
    deadline: float | None = None  # of workers that were told to stop

    def feed(self, worker: Worker) -> Iterator[JobResult]:
        """Start the next task on an idle worker; yield the jobs that end without one."""
        while job := self._next():
            self.waiting.remove(job)
            task = self._task(job)
            if not isinstance(task, Outcome):
                worker.submit(task)
                self.running[worker] = (job, time.monotonic())
                return
            yield self._ended(job, task)

    def wait(self) -> Iterator[JobResult]:
        """Wait a little for tasks to end; yield those that did."""
        pipes = {worker.pipe: worker for worker in self.running}
        for pipe in select.select(list(pipes), [], [], LOOK_EVERY_SECONDS)[0] if pipes else []:
            worker = pipes[pipe]
            job, begun = self.running.pop(worker)
            outcome = worker.result()
            if self.deadline is not None and outcome.state == "died":
                outcome = Outcome(state="interrupted")
            yield self._ended(job, outcome, time.monotonic() - begun)

    def stop(self) -> None:
        """Drop what waits and tell workers to save their state; end those that take too long."""
        if self.deadline is None:
            self.waiting, self.deadline = [], time.monotonic() + SAVE_TIMEOUT_SECONDS
            for worker in self.running:
                worker.stop()
        elif time.monotonic() > self.deadline:
            for worker in self.running:
                worker.kill()

    def _next(self) -> Job | None:
        pending = {id(job) for job in (*self.waiting, *(job for job, _ in self.running.values()))}
        return next((job for job in self.waiting if job.needs is None or id(job.needs) not in pending), None)

    def _task(self, job: Job) -> Task | Outcome:
        """Return the task of a job, or how the job ends without one."""
        if job.needs is not None and id(job.needs) in self.failed:
            return Outcome(state="failed", what=f"its pre-training failed: {job.needs}")
        try:
            return job.pending_task() or Outcome(state="done")
        except UnipError as error:
            return Outcome(state="failed", what=error.what, fix=error.fix)

    def _ended(self, job: Job, outcome: Outcome, seconds: float | None = None) -> JobResult:
        if outcome.state != "done":
            self.failed.add(id(job))
        return JobResult(job, outcome, seconds)
