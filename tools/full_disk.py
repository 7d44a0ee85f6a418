"""Run every verb on a disk of random size, a read-only one, and with a stdout that takes nothing; then on a sound one.

    python tools/full_disk.py --sizes 20 --workers 16 --out DIR

Each trial mounts a small tmpfs as the output folder, in a private mount namespace (`unshare -m`; without the permission
for it nothing is tried, and that is said). The call must end with 0, 2 or 130 and without a traceback; then the disk
becomes sound, and the same command must give the result of a call that never had a problem. The same command of this
tool goes on with the trials that are missing. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from trials import (
    NOT_TRIED,
    Things,
    differences,
    is_whole,
    kill_all,
    recipe_name,
    start,
    tracebacks,
    verbs,
    wait,
)

PAGE = 4096  # bytes; a tmpfs has whole ones
SOUND = "256m"
MOST_SECONDS = 900.0  # of a call
PRIVATE = "UNIP_PRIVATE_MOUNTS"
PROBLEMS = ("read-only", "stdout full", "stdout closed")  # beside sizes


@dataclass(frozen=True)
class Trial:
    """A call with a problem, and the same one without.

    Attributes:
        verb: What was run.
        problem: What it met: one of PROBLEMS, or ``size N`` with the number of the trial.
        size: Bytes of its disk; 0 where that is not the problem.
        code: Its exit code.
        again: Exit code of the same command on a sound disk.
        wrong: What is wrong.
        said: The last of what it wrote to stderr.
    """

    verb: str
    problem: str
    size: int
    code: int | None
    again: int | None
    wrong: list[str]
    said: str


def draw_size(whole: int, seed: str) -> int:
    """Return the size of a disk: up to a little more than a result takes, small ones as often as large ones."""
    draw = random.Random(seed)
    most = whole * 1.1
    size = draw.uniform(PAGE, most) if draw.random() < 0.5 else PAGE * (most / PAGE) ** draw.random()
    return max(1, round(size / PAGE)) * PAGE


@contextmanager
def mounted(place: Path, size: int | str) -> Iterator[None]:
    """Mount a tmpfs."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    """Change a mounted tmpfs."""
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def try_problem(things: Things, verb: str, problem: str, size: int, place: Path, wanted: Path) -> Trial:
    """Make a trial in a folder of its own, which stays (without its output) if something is wrong."""
    shutil.rmtree(place, ignore_errors=True)
    with mounted(place / "out", size or SOUND):
        if problem == "read-only":
            remount(place / "out", "ro")
        code = call(things, verb, place, "first", problem)
        wrong = [] if code in (0, 2, 130) else [f"exit code {code}"]
        wrong += ["it went on"] if problem == "read-only" and code == 0 else []
        wrong += [f"it ended with {code}"] if problem.startswith("stdout") and code not in (0, 2) else []
        wrong += tracebacks(place)
        remount(place / "out", f"rw,size={SOUND}")
        again = call(things, verb, place, "again", "")
        said = (place / "again.err").read_text(errors="replace")
        wrong += [] if again == 0 or is_whole(again, said) else [f"the same command ends with {again}: {said[-500:]}"]
        wrong += differences(wanted, place / "out")
    said = (place / "first.err").read_text(errors="replace")[-300:]
    if not wrong:
        shutil.rmtree(place)
    return Trial(verb, problem, size, code, again, wrong, said)


def call(things: Things, verb: str, place: Path, name: str, problem: str) -> int | None:
    """Run a verb to its end."""
    token = f"disk-{place.name}-{name}"
    descriptor = stdout_of(problem)
    process = start(things.words(verb), place, token, name, descriptor)
    if descriptor is not None:
        os.close(descriptor)
    code = wait(process, MOST_SECONDS)
    if code is None:
        kill_all(token)
    return code


def stdout_of(problem: str) -> int | None:
    """Return a descriptor that takes nothing, or None."""
    if problem == "stdout full":
        return os.open("/dev/full", os.O_WRONLY)
    if problem == "stdout closed":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return None


def make_reference(things: Things, verb: str, place: Path) -> tuple[Path, int]:
    """Run a verb without problems, once for all trials; return its output and the bytes that it takes on a disk."""
    if not (place / "whole").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if code := call(things, verb, place, "run", ""):
            sys.exit(f"{verb} fails without any problem ({code}): {(place / 'run.err').read_text()[-2000:]}")
        sizes = (-(-path.stat().st_size // PAGE) * PAGE for path in (place / "out").rglob("*") if path.is_file())
        (place / "whole").write_text(str(sum(sizes)))
    return place / "out", int((place / "whole").read_text())


def table(trials: list[Trial]) -> str:
    """Return a row for each verb."""
    head = ["verb", "disks", "full", "read-only", "stdout full or closed", "result right afterwards", "wrong"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for verb in [*dict.fromkeys(trial.verb for trial in trials), "all"]:
        mine = [trial for trial in trials if verb in (trial.verb, "all")]
        sized = [trial for trial in mine if trial.size]
        bad = sum(bool(trial.wrong) for trial in mine)
        counts = [len(sized), sum(trial.code != 0 for trial in sized)]
        counts += [sum(trial.problem == "read-only" for trial in mine)]
        counts += [sum(trial.problem.startswith("stdout") for trial in mine), len(mine) - bad, bad]
        lines.append(f"| {' | '.join(map(str, [verb, *counts]))} |")
    return "\n".join([*lines, "", *(f"Not tried: {name}, which {why}." for name, why in NOT_TRIED.items())])


def enter_private_mounts() -> str | None:
    """Start this tool again where nobody else sees its mounts; return why that is not possible."""
    if PRIVATE in os.environ:
        return None
    unshare = ["unshare", "-m", "--propagation", "private", *(["-r"] if os.geteuid() else [])]
    try:
        tried = subprocess.run([*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    if tried.returncode:
        return tried.stderr.strip()
    os.environ[PRIVATE] = "1"
    os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


def main() -> int:
    """Make the trials that are missing, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, default=20, help="disks of each verb")
    parser.add_argument("--workers", type=int, default=1, help="trials at once")
    parser.add_argument("--out", type=Path, required=True, help="folder of inputs, references and trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", choices=verbs(), default=verbs())
    given = parser.parse_args()
    if why := enter_private_mounts():
        print(f"skipped: this system permits no private mounts ({why})")
        return 0
    out = given.out.absolute()
    things = Things(out / "things", frames=200, steps=12)
    things.make()
    told = out / "trials.jsonl"
    lines = told.read_text().splitlines() if told.exists() else []
    done = {(trial.verb, trial.problem): trial for trial in (Trial(**json.loads(line)) for line in lines)}
    problems = [*PROBLEMS, *(f"size {number}" for number in range(given.sizes))]
    todo = [(verb, problem) for problem in problems for verb in given.verbs if (verb, problem) not in done]
    lock = threading.Lock()
    with ThreadPoolExecutor(given.workers) as pool:
        named = list(dict.fromkeys(verb for verb, _ in todo))
        made = pool.map(lambda verb: make_reference(things, verb, out / "references" / recipe_name(verb)), named)
        references = dict(zip(named, made, strict=True))

        def run(item: tuple[str, str]) -> None:
            verb, problem = item
            wanted, whole = references[verb]
            size = draw_size(whole, f"{given.seed} {verb} {problem}") if problem not in PROBLEMS else 0
            place = out / "trials" / f"{recipe_name(verb)}-{problem.replace(' ', '-')}"
            begun = time.monotonic()
            trial = try_problem(things, verb, problem, size, place, wanted)
            with lock:
                done[item] = trial
                with told.open("a") as file:
                    file.write(json.dumps(asdict(trial)) + "\n")
                seconds = round(time.monotonic() - begun)
                print(verb, problem, size, trial.code, trial.again, trial.wrong, f"{seconds} s", flush=True)

        list(pool.map(run, todo))
    print(table(list(done.values())))
    return int(any(trial.wrong for trial in done.values()))


if __name__ == "__main__":
    sys.exit(main())
