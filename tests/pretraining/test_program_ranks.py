"""Several ranks: equal results, other numbers of ranks when going on, and what happens when one dies.

Two processes on the CPU, forked after the imports, which take longer than the runs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pretraining.test_program import losses, place, settings  # noqa: F401  (place is a fixture)
from unip.pretraining.config import PretrainConfig

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

LAUNCH = """
import gc, json, os, sys

import pyarrow
import torch
import unip.pretraining.program  # all that the ranks need, once
from unip.cli import main

pyarrow.array(["imports what is slow, if it is there"])
gc.freeze()
torch.set_num_threads(1)
for line in sys.stdin:
    order, children = json.loads(line), []
    for rank in range(order["ranks"]):
        child = os.fork()
        if not child:
            said = open(f"{order['recipe']}.{rank}.said", "a", buffering=1)
            os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
            sys.stdout = sys.stderr = said
            if order["ranks"] > 1:
                ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": order["ranks"]}
                ranks |= {"LOCAL_WORLD_SIZE": order["ranks"], "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": order["port"]}
                os.environ.update({key: str(value) for key, value in ranks.items()})
            if order["code"]:
                exec(order["code"])
            sys.argv = ["unip", "pretrain", "--config", order["recipe"]]
            try:
                main()
                code = 0
            except SystemExit as error:
                code = error.code
            said.flush()
            os._exit(code)  # tearing the interpreter down takes seconds after a fork
        children.append(child)
    print(json.dumps(children), flush=True)
    codes = dict(os.wait() for _ in children)
    print(json.dumps([os.waitstatus_to_exitcode(codes[child]) for child in children]), flush=True)
"""


class Launcher:
    """Runs `unip pretrain` on some ranks; `meanwhile` gets the processes' ids."""

    def __init__(self, process: subprocess.Popen[str], data: Path) -> None:
        self.process, self.data = process, data

    def __call__(self, run: Path, *, ranks: int = 1, code: str = "", meanwhile=lambda ids: None, **changes):
        recipe = run.parent / f"{run.name}.yaml"
        values = {"steps": 8, "batch_size": 4, "drop_path": 0.4, "teacher_layer": 3, "compile": False, **changes}
        recipe.write_text(PretrainConfig.make(**settings(self.data, run, **values)).to_yaml())
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        order = {"recipe": str(recipe), "ranks": ranks, "port": port, "code": code}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        meanwhile(json.loads(self.process.stdout.readline()))
        begun = time.monotonic()
        codes = json.loads(self.process.stdout.readline())
        self.seconds = time.monotonic() - begun
        said = [Path(f"{recipe}.{rank}.said") for rank in range(ranks)]
        self.said = [file.read_text() for file in said]
        for file in said:
            file.unlink()
        return codes


@pytest.fixture(scope="module")
def launch(place):  # noqa: F811
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LAUNCH]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Launcher(process, place)
        process.stdin.close()


@pytest.fixture(scope="module")
def whole(launch, tmp_path_factory) -> list[float]:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert launch(run) == [0], launch.said
    return losses(run)


def once_logged(run: Path, lines: int, act):
    """Return what waits for a run's log to have some lines, and then acts on the processes' ids."""

    def wait(ids: list[int]) -> None:
        deadline = time.monotonic() + 60
        while not (run / "log.jsonl").exists() or (run / "log.jsonl").read_text().count("\n") < lines:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        act(ids)

    return wait


def errors(launch) -> list[str]:
    return [line for text in launch.said for line in text.splitlines() if line.startswith("error: ")]


def test_ranks_and_passes_share_a_batch_and_change_nothing(launch, whole, tmp_path):
    assert launch(tmp_path / "two", ranks=2) == [0, 0], launch.said
    assert losses(tmp_path / "two") == pytest.approx(whole, rel=1e-5)
    assert launch(tmp_path / "passes", accumulate=2) == [0], launch.said
    assert losses(tmp_path / "passes") == pytest.approx(whole, rel=1e-5)
    assert launch(tmp_path / "both", ranks=2, accumulate=2, ema=0.9, checkpoint_activations=True) == [0, 0], launch.said
    assert losses(tmp_path / "both") == pytest.approx(whole, rel=1e-5)


LONG = {"steps": 28, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def long(launch, tmp_path_factory) -> list[float]:
    run = tmp_path_factory.mktemp("long") / "run"
    assert launch(run, **LONG) == [0], launch.said
    return losses(run)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_with_one_message_and_one_rank_goes_on(launch, long, tmp_path, victim):
    run = tmp_path / "run"
    kill = once_logged(run, 6, lambda ids: os.kill(ids[victim], signal.SIGKILL))
    codes = launch(run, ranks=2, meanwhile=kill, **LONG)
    assert codes == ([-signal.SIGKILL, 2] if victim == 0 else [2, -signal.SIGKILL]), launch.said
    assert launch.seconds < 60
    assert errors(launch) == [f"error: rank {victim} of 2 is gone: its process or its machine ended without a message"]
    assert "Traceback" not in "".join(launch.said)
    assert list((run / "checkpoints").glob("step-*")) and not (run / "model").exists()
    assert launch(run, **LONG) == [0], launch.said
    assert "continuing from" in launch.said[0]
    assert losses(run) == pytest.approx(long, rel=1e-4)


def test_stopped_on_one_rank_and_continued_on_two(launch, long, tmp_path):
    run = tmp_path / "run"
    stop = once_logged(run, 6, lambda ids: os.kill(ids[0], signal.SIGTERM))
    assert launch(run, meanwhile=stop, **LONG) == [130], launch.said
    stop = once_logged(run, 15, lambda ids: os.kill(ids[1], signal.SIGTERM))
    assert launch(run, ranks=2, meanwhile=stop, **LONG) == [130, 130], launch.said  # all stop at one step
    assert "".join(launch.said).count("stopped at step") == 1 and not errors(launch)
    assert launch(run, ranks=2, **LONG) == [0, 0], launch.said
    assert losses(run) == pytest.approx(long, rel=1e-4)


FAILING = """
from unip.data.sampling.pretraining_crops import PretrainDataset
from unip.errors import UnipError

def fail(self, position, crop=PretrainDataset.__getitem__):
    if position == 14:  # of the second rank, at step 3
        raise UnipError("frame.png is truncated", "Remove it.")
    return crop(self, position)

PretrainDataset.__getitem__ = fail
"""


def test_what_one_rank_finds_is_said_once_and_ends_all(launch, tmp_path):
    assert launch(tmp_path / "run", ranks=2, code=FAILING) == [2, 2]
    assert errors(launch) == ["error: frame.png is truncated"]
    assert "Remove it." in launch.said[0]
    assert "Traceback" not in "".join(launch.said)
    assert launch(tmp_path / "run", ranks=2, lr=1e30) == [2, 2]  # found by all at once
    assert len(errors(launch)) == 1 and "the loss became nan" in errors(launch)[0]


STUCK = """
import threading
import unip.training.ranks

unip.training.ranks.GRACE_SECONDS = 0.2
from unip.data.sampling.pretraining_crops import PretrainDataset

def stand_still(self, position):
    if rank:
        os.kill(os.getpid(), 9)
    threading.Event().wait()  # as in a collective on a GPU whose peer is gone

PretrainDataset.__getitem__ = stand_still
"""


def test_a_rank_that_is_stuck_ends_too(launch, tmp_path):
    assert launch(tmp_path / "run", ranks=2, code=STUCK) == [2, -signal.SIGKILL]
    assert launch.seconds < 60
    assert errors(launch) == ["error: rank 1 of 2 is gone: its process or its machine ended without a message"]


def test_a_batch_that_ranks_cannot_share(launch, tmp_path):
    assert launch(tmp_path / "run", ranks=2, batch_size=5) == [2, 2]
    assert "batch_size 5 cannot be shared by 2 devices x 1 passes" in launch.said[0]


TERMINATED = """
import signal, time
from unip.training.ranks import _Links
from unip.training.run_folder import RunFolder

refused = order["recipe"] + ".refused"

def tell(self, error, tell=_Links.tell):
    quiet = tell(self, error)
    open(refused, "w").close()
    return quiet

def wait_for_torchrun(self, config, *, main_process, go_on=RunFolder.open):
    go_on(self, config, main_process=main_process)
    while not os.path.exists(refused):
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

_Links.tell, RunFolder.open = tell, wait_for_torchrun
"""


@pytest.mark.parametrize("code", ["", TERMINATED])
def test_what_the_first_rank_refuses_ends_all_with_its_message(launch, tmp_path, code):
    """Only the first rank looks into the run's folder; torchrun may end the other before it meets a collective."""
    assert launch(tmp_path / "run") == [0], launch.said
    assert launch(tmp_path / "run", ranks=2, lr=2e-3, code=code) == [2, 2], launch.said
    assert errors(launch) == [f"error: {tmp_path / 'run'} holds a run with other settings (lr: 0.001 there, 0.002 now)"]
    assert not launch.said[1] and "Traceback" not in launch.said[0]
