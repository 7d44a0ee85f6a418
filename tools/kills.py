"""Stop and kill calls at random moments, run the same command again, and compare with a call that nothing stopped.

    python tools/kills.py --kills 200 --workers 16 --out DIR

Each trial sends SIGTERM, SIGKILL, or SIGTERM and SIGKILL soon after, at a moment drawn from the whole call or from the
time after its output folder was opened. It must end as it should (130; nothing for SIGKILL) without a traceback, leave
no process after 10 seconds, and the same command must then give the same result, by bytes or, where files hold
measurements, by values. The same command of this tool goes on with the trials that are missing. Linux only.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from trials import Things, differences, is_whole, kill_all, living, recipe_name, start, tracebacks, until, wait

VERBS = ("bench", "pretrain", "finetune", "data build", "data pack", "data dedup", "predict", "evaluate", "export")
BENCH_SHARE = 0.16  # of all kills; the others share the rest
HOWS = ("TERM", "KILL", "TERM+KILL")
MOST_SECONDS = 600.0  # of a call
SETTLE_SECONDS = 10.0  # that processes have to end after a kill
DRAWS = 6  # moments that are drawn, ever earlier, until one comes before the end


@dataclass(frozen=True)
class Trial:
    """A kill and what came of it.

    Attributes:
        number: Of the trial.
        verb: What was run.
        how: How it was ended.
        moment: Seconds after its start.
        code: Its exit code.
        left: Seconds until all of its processes were gone.
        again: Exit code of the same command.
        wrong: What is wrong.
    """

    number: int
    verb: str
    how: str
    moment: float
    code: int | None
    left: float | None
    again: int | None
    wrong: list[str]


@dataclass(frozen=True)
class Reference:
    """A call that nothing stopped: its folder, and how long it took, before and after its output folder was opened."""

    folder: Path
    opening: float
    working: float


def make_reference(things: Things, verb: str, place: Path) -> Reference:
    """Run a call, once for all trials of this tool's folder."""
    told = place / "reference.json"
    if not told.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        begun = time.monotonic()
        process = start(things.words(verb), place, f"reference-{recipe_name(verb)}", "run")
        opening = until(lambda: is_open(place) or process.poll() is not None, MOST_SECONDS) or 0.0
        code = wait(process, MOST_SECONDS)
        if code != 0:
            sys.exit(f"{verb} fails without any kill ({code}): {(place / 'run.err').read_text()[-2000:]}")
        told.write_text(json.dumps([opening, time.monotonic() - begun - opening]))
    return Reference(place / "out", *json.loads(told.read_text()))


def is_open(place: Path) -> bool:
    """Say whether a call has opened its output folder."""
    return (place / "out" / ".unip" / "lock").exists()


def try_kill(things: Things, reference: Reference, number: int, verb: str, place: Path, seed: int) -> Trial:
    """Make a trial in a folder of its own, which stays if something is wrong."""
    draw = random.Random(f"{seed} {number}")
    how = draw.choices(HOWS, (4, 4, 2))[0]
    for attempt in range(DRAWS):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        token = f"kill-{number}-{attempt}"
        begun = time.monotonic()
        process = start(things.words(verb), place, token, "killed")
        if draw.random() < 0.75:
            until(lambda p=process: is_open(place) or p.poll() is not None, MOST_SECONDS)
            time.sleep(draw.uniform(0, reference.working) / (attempt + 1))
        else:
            time.sleep(draw.uniform(0.3, reference.opening + reference.working) / (attempt + 1))
        moment = time.monotonic() - begun
        code = end(process, how, draw)
        if code != 0:
            break
    wrong = check_end(place, code, how)
    settles = draw.random() < 0.5  # else the same command comes at once
    left = until(lambda: not living(token), SETTLE_SECONDS) if settles else None
    again, problems = resume(things, verb, place, reference)
    wrong += problems + tracebacks(place)  # of processes, too, that ended after the one that was killed
    if (settles and left is None) or living(token):
        wrong.append("processes are left")
        kill_all(token)
    if not wrong:
        shutil.rmtree(place)
    return Trial(number, verb, how, round(moment, 2), code, left, again, wrong)


def end(process: subprocess.Popen[bytes], how: str, draw: random.Random) -> int | None:
    """End a call in one of the ways."""
    if how != "KILL":  # of one that has ended, nothing comes of it
        process.send_signal(signal.SIGTERM)
    if how == "TERM+KILL":
        time.sleep(draw.uniform(0, 1))
    if how != "TERM":
        process.kill()
    code = wait(process, 120)
    if code is None:
        process.kill()
    return code


def check_end(place: Path, code: int | None, how: str) -> list[str]:
    """Say what is wrong with how a call ended. It may end before the signal comes; Python starts without handlers."""
    allowed = {"TERM": [130, 0], "KILL": [-9, 0], "TERM+KILL": [130, -9, 0]}[how]
    allowed += [] if is_open(place) else [-signal.SIGTERM]
    return [] if code in allowed else [f"exit code {code}"]


def resume(things: Things, verb: str, place: Path, reference: Reference) -> tuple[int | None, list[str]]:
    """Run the same command again, and compare."""
    process = start(things.words(verb), place, f"again-{place.name}", "again")
    code = wait(process, MOST_SECONDS)
    if code is None:
        kill_all(f"again-{place.name}")
        return None, ["the same command hangs"]
    said = (place / "again.err").read_text(errors="replace")
    wrong = [] if code == 0 or is_whole(code, said) else [f"the same command ends with {code}: {said[-500:]}"]
    return code, wrong + differences(reference.folder, place / "out")


def share(kills: int, verbs: list[str]) -> list[str]:
    """Return the verb of each trial."""
    bench = round(kills * BENCH_SHARE) if "bench" in verbs else 0
    others = [verb for verb in verbs if verb != "bench"]
    rest = [others[i % len(others)] for i in range(kills - bench)] if others else ["bench"] * (kills - bench)
    return ["bench"] * bench + rest


def table(trials: list[Trial]) -> str:
    """Return a row for each verb."""
    head = ["verb", "kills", *HOWS, "result equal", "wrong"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for verb in [*dict.fromkeys(trial.verb for trial in trials), "all"]:
        mine = [trial for trial in trials if verb in (trial.verb, "all")]
        hows = [sum(trial.how == how for trial in mine) for how in HOWS]
        bad = sum(bool(trial.wrong) for trial in mine)
        lines.append(f"| {' | '.join(map(str, [verb, len(mine), *hows, len(mine) - bad, bad]))} |")
    return "\n".join(lines)


def main() -> int:
    """Make the trials that are missing, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="trials")
    parser.add_argument("--workers", type=int, default=1, help="trials at once")
    parser.add_argument("--out", type=Path, required=True, help="folder of inputs, references and trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--only", nargs="+", type=int, help="numbers of trials, of those that --kills and --verbs make")
    given = parser.parse_args()
    out = given.out.absolute()
    things = Things(out / "things", frames=600, steps=40)
    things.make()
    told = out / "trials.jsonl"
    lines = told.read_text().splitlines() if told.exists() else []
    done = {trial.number: trial for trial in (Trial(**json.loads(line)) for line in lines)}
    trials = [each for each in enumerate(share(given.kills, given.verbs)) if each[0] in (given.only or [each[0]])]
    todo = [(number, verb) for number, verb in trials if number not in done]
    lock = threading.Lock()
    with ThreadPoolExecutor(given.workers) as pool:
        named = sorted({verb for _, verb in todo}, key=VERBS.index)
        made = pool.map(lambda verb: make_reference(things, verb, out / "references" / recipe_name(verb)), named)
        references = dict(zip(named, made, strict=True))

        def run(item: tuple[int, str]) -> None:
            number, verb = item
            trial = try_kill(things, references[verb], number, verb, out / "trials" / str(number), given.seed)
            with lock:
                done[number] = trial
                with told.open("a") as file:
                    file.write(json.dumps(asdict(trial)) + "\n")
                print(*(getattr(trial, field.name) for field in fields(trial)), flush=True)

        list(pool.map(run, todo))
    print(table([done[number] for number in sorted(done)]))
    return int(any(trial.wrong for trial in done.values()))


if __name__ == "__main__":
    sys.exit(main())
