"""Give every reader thousands of bad files, and write a table of how that went.

    python tools/fuzz.py --inputs 2000 --out fuzz --workers 8 --page docs/reliability.md

Bad files are made from good ones, see ``tests/fuzzing``; file N of a reader is the same every time. Each worker process
reads in itself; a part of the files also go through the command line (``--commands`` of each reader that has one).
A call with the same ``--out`` goes on where the last one ended. Files that were not handled well are kept in
``OUT/failures``, with the traceback; ``--reader NAME --number N`` reads one of them again. The exit code is 1 if there
are any.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

CHUNK = 100  # files that a worker is given at once
SILENT_SECONDS = 45  # after which a worker is ended: what it reads does not listen to signals
ADDRESS_SPACE = 8 << 30  # bytes beyond what a worker has at its start
COMMAND_SECONDS = 60
BEGIN, END = "<!-- table of tools/fuzz.py: begin -->", "<!-- end -->"
BAD = ("wrong", "unexpected", "hung", "large", "died")


@dataclass(frozen=True)
class Task:
    """Files ``first`` to ``last - 1`` of a reader, in the worker itself or through the command line."""

    reader: str
    first: int
    last: int
    command: bool
    seed: int

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.reader} {'command ' * self.command}{self.first}-{self.last} seed {self.seed}"


@dataclass
class Count:
    """How the files of a task went."""

    reader: str
    command: bool
    kinds: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    sound_bytes: int = 0
    seconds: float = 0.0

    def add(self, kind: str, count: int = 1) -> None:
        """Count a file."""
        self.kinds[kind] = self.kinds.get(kind, 0) + count

    def join(self, other: Count) -> None:
        """Add another count."""
        for kind, count in other.kinds.items():
            self.add(kind, count)
        self.bytes, self.seconds = max(self.bytes, other.bytes), max(self.seconds, other.seconds)
        self.sound_bytes = max(self.sound_bytes, other.sound_bytes)


def work(pipe: Connection, out: Path) -> None:
    """Serve tasks: for each file its number when it begins, and how it went when it is done."""
    from tests.fuzzing.checking import Subject
    from tests.fuzzing.readers import READERS

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and others print there
    os.dup2(2, 1)
    logging.disable()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE,) * 2)
    subjects: dict[str, Subject] = {}
    runs: set[str] = set()  # readers whose good file went through the command line
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        while True:
            task: Task = pipe.recv()
            if task.reader not in subjects:
                place = Path(folder) / str(len(subjects))
                place.mkdir()
                subject = subjects[task.reader] = Subject(task.reader, READERS[task.reader], place)
                sound = subject.attempt()
                if sound.kind != "accepted":
                    pipe.send(("unusable", f"{task.reader}: the good file is {sound.kind}: {sound.detail}"))
                pipe.send(("sound", sound.bytes))
            subject = subjects[task.reader]
            if task.command and task.reader not in runs:
                runs.add(task.reader)
                subject.path.write_bytes(subject.good)
                sound = run_command(subject)
                if sound.kind != "accepted":
                    pipe.send(("unusable", f"{task.reader}: the command fails on the good file: {sound.detail}"))
            for number in range(task.first, task.last):
                subject.put(number, task.seed)
                pipe.send(("begin", number))
                outcome = run_command(subject) if task.command else subject.attempt()
                if outcome.kind in BAD:
                    keep(out, task, number, subject.path, outcome.detail)
                pipe.send(("end", outcome))
            pipe.send(("done", None))


def run_command(subject: Any) -> Any:
    """Read the file by the command line, with the modules that this process sees, installed or not."""
    from tests.fuzzing.checking import LARGE_BYTES, Outcome

    words = subject.reader.command(subject.path)
    modules = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
    environment = {**os.environ, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "unip", *words], stdout=output, stderr=output, env=environment, cwd=subject.folder
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid or time.perf_counter() - start > COMMAND_SECONDS:
                break
            time.sleep(0.02)
        if not pid:
            process.kill()
            pid, status, usage = os.wait4(process.pid, 0)
            return Outcome("hung", COMMAND_SECONDS, 1024 * usage.ru_maxrss, " ".join(words))
        process.returncode = code = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    peak = 1024 * usage.ru_maxrss
    kind = {0: "accepted", 2: "refused", 130: "refused"}.get(code, "unexpected")
    kind = "unexpected" if "Traceback" in text else "large" if peak > 2 * LARGE_BYTES else kind
    return Outcome(kind, time.perf_counter() - start, peak, f"{' '.join(words)}\nexit code {code}\n{text}")


def keep(out: Path, task: Task, number: int, path: Path, detail: str) -> None:
    """Keep a file that was not handled well."""
    name = f"{task.reader}{' by command' * task.command} {number}".replace("/", "-").replace(" ", "_")
    (out / "failures").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, out / "failures" / f"{name}{path.suffix}")
    (out / "failures" / f"{name}.txt").write_text(detail, errors="backslashreplace")


class Worker:
    """A process that reads, and what it was given."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.task: Task | None = None
        self.start()

    def start(self) -> None:
        """Start the process."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.out), daemon=True)
        self.process.start()
        theirs.close()
        self.heard, self.number = time.monotonic(), -1

    def give(self, task: Task) -> None:
        """Let it do a task."""
        self.task = task
        self.count = Count(task.reader, task.command)
        self.heard, self.number = time.monotonic(), -1
        self.pipe.send(task)

    def listen(self) -> Count | None:
        """Take one message; return the count of a task that is done."""
        try:
            what, value = self.pipe.recv()
        except (EOFError, OSError):
            return self.lose("died")
        self.heard = time.monotonic()
        if what == "sound":
            self.count.sound_bytes = value
        elif what == "unusable":
            raise SystemExit(value)
        elif what == "begin":
            self.number = value
        elif what == "end":
            self.count.add(value.kind)
            self.count.bytes = max(self.count.bytes, value.bytes)
            self.count.seconds = max(self.count.seconds, value.seconds)
        else:
            self.task = None
            return self.count
        return None

    def lose(self, kind: str) -> Count | None:
        """Note the file that the process died of, and go on behind it in another."""
        assert self.task is not None
        self.process.kill()
        self.process.join()
        if self.number < 0:
            raise SystemExit(f"the worker ended before its first file of {self.task.reader}: run it alone to see why")
        self.count.add(kind)
        self.count.seconds = max(self.count.seconds, time.monotonic() - self.heard)
        place = self.out / "failures"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{self.task.key}_{self.number}_{kind}.txt".replace("/", "-").replace(" ", "_")).write_text(
            f"--reader {self.task.reader!r} --number {self.number}: exit code {self.process.exitcode}\n"
        )
        left = replace(self.task, first=self.number + 1)
        done = self.count
        self.start()
        if left.first >= left.last:
            self.task = None
            return done
        self.task = left
        self.pipe.send(left)
        return None


def tasks_of(readers: dict[str, Any], inputs: int, commands: int, seed: int) -> Iterator[Task]:
    """Yield all tasks, those by the command line first, which take longest."""
    for name, reader in readers.items():
        if reader.command:
            for first in range(0, commands, 10):
                yield Task(name, first, min(first + 10, commands), True, seed)
    for first in range(0, inputs, CHUNK):
        for name in readers:
            yield Task(name, first, min(first + CHUNK, inputs), False, seed)


def read_results(file: Path) -> dict[str, Count]:
    """Return the counts of tasks that are done; a line that a kill has cut is not."""
    found = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        key = record.pop("key")
        found[key] = Count(**record)
    return found


def campaign(out: Path, tasks: list[Task], workers: int) -> dict[str, Count]:
    """Do what is not yet done, and return all counts."""
    file = out / "results.jsonl"
    wanted = {task.key for task in tasks}
    done = {key: count for key, count in read_results(file).items() if key in wanted}
    waiting = [task for task in tasks if task.key not in done][::-1]
    team = [Worker(out) for _ in range(min(workers, len(waiting)))]
    keys: dict[int, str] = {}
    total, began, said = len(tasks), time.monotonic(), 0.0
    with file.open("a") as log:
        while waiting or any(worker.task for worker in team):
            for worker in team:
                if worker.task is None and waiting:
                    task = waiting.pop()
                    keys[id(worker)] = task.key
                    worker.give(task)
            busy = {worker.pipe: worker for worker in team if worker.task}
            ready = wait(list(busy), timeout=1)
            counts = [(busy[pipe], busy[pipe].listen()) for pipe in ready]  # type: ignore[index]
            late = [each for each in busy.values() if each.task and time.monotonic() - each.heard > limit_of(each)]
            counts += [(worker, worker.lose("hung")) for worker in late]
            for worker, count in counts:
                if count is not None:
                    done[keys[id(worker)]] = count
                    log.write(json.dumps({"key": keys[id(worker)], **asdict(count)}) + "\n")
                    log.flush()
            if time.monotonic() - said > 30:
                said = time.monotonic()
                bad = sum(count.kinds.get(kind, 0) for count in done.values() for kind in BAD)
                print(f"{len(done)} of {total} tasks, {bad} failures, {said - began:.0f} s", flush=True)
    for worker in team:
        worker.process.kill()
    return {task.key: done[task.key] for task in tasks}


def limit_of(worker: Worker) -> float:
    """Return after how many seconds of silence a worker is ended; making good files takes a while."""
    task = worker.task
    return 300 if worker.number < 0 else 2 * COMMAND_SECONDS if task and task.command else SILENT_SECONDS


def table(counts: dict[str, Count], command: str) -> str:
    """Return the table in Markdown, with a line for each reader."""
    rows: dict[str, Count] = {}
    for count in counts.values():
        name = f"{count.reader}{', command line' * count.command}"
        rows.setdefault(name, Count(name, count.command)).join(count)
    whole = Count("**all**", False)
    for row in rows.values():
        whole.join(row)
    heading = ("reader", "inputs", "accepted", "refused", *BAD, "peak, MB", "slowest, s")
    lines = [
        f"Printed by `{command}`. *Peak* is the memory of the worker over what it had before; by the command line, "
        "that of the whole process, and never less than the worker's own.",
        "",
        f"| {' | '.join(heading)} |",
        f"|---|{'---:|' * (len(heading) - 1)}",
    ]
    for row in [*rows.values(), whole]:
        numbers = [f"{row.kinds.get(kind, 0):,}" for kind in ("accepted", "refused", *BAD)]
        cells = [row.reader, f"{sum(row.kinds.values()):,}", *numbers, f"{row.bytes / 1e6:,.0f}", f"{row.seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def put_into(page: Path, text: str) -> None:
    """Put the table between the marks of a page."""
    content = page.read_text(encoding="utf-8")
    before, after = content.split(BEGIN)[0], content.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def read_one(name: str, number: int, seed: int) -> None:
    """Read one file here, and print how that went."""
    from tests.fuzzing.checking import Subject
    from tests.fuzzing.readers import READERS

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    subject = Subject(name, READERS[name], folder)
    subject.put(number, seed)
    print(f"{subject.path}\n{subject.attempt()}".replace("\\n", "\n"))


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000, help="bad files for each reader")
    parser.add_argument("--commands", type=int, default=20, help="of these, by the command line too")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="folder of the results")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="other files for each seed")
    parser.add_argument("--reader", help="this one alone, or all whose names begin so")
    parser.add_argument("--number", type=int, help="read this one file of --reader, and print how that went")
    parser.add_argument("--page", type=Path, help="page that gets the table, between its marks")
    given = parser.parse_args()
    if given.number is not None:
        read_one(given.reader, given.number, given.seed)
        return 0
    from tests.fuzzing.readers import READERS

    readers = {name: each for name, each in READERS.items() if name.startswith(given.reader or "")}
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out.resolve()
    tasks = list(tasks_of(readers, given.inputs, given.commands, given.seed))
    counts = campaign(out, tasks, given.workers)
    command = f"python tools/fuzz.py --inputs {given.inputs} --commands {given.commands}"
    text = table(counts, command)
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    if given.page:
        put_into(given.page, text)
    return int(any(count.kinds.get(kind) for count in counts.values() for kind in BAD))


if __name__ == "__main__":
    sys.exit(main())
