"""Two ranks agree on what is best, when to stop and where to continue; forked from here, where imports are done."""

import hashlib
import json
import os
import socket
import sys

import pytest
import torch

from tests.forked import Forked
from tests.training.test_loop import config_for, ranked, run
from unip.errors import UnipError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def on_two_ranks(work, folder, port):
    """Fork two ranks; write what each returns, or the message of its error, and return their exit codes."""
    children = []
    for rank in (0, 1):
        child = os.fork()
        if not child:
            where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
            where |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({key: str(value) for key, value in where.items()})
            code = 1
            try:
                (folder / f"{rank}.json").write_text(json.dumps(work(folder)))
                code = 0
            except UnipError as error:
                (folder / f"{rank}.json").write_text(json.dumps([error.what, error.quiet]))
                code = error.exit_code
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def digest(weights):
    return hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights.values())).hexdigest()


def judged(folder):
    judge, seen = ranked(0.1, 0.5, 0.3, 0.2, 0.9)
    config = config_for(folder / "run", steps=40, log_every=3, ema=0.8)
    result, _, weights = run(config, judge=judge, patience=2)
    return [result.steps, result.best.step, result.best.score, len(seen), digest(weights)]


def unjudged(folder):
    result, losses, weights = run(config_for(folder / "run"), dropout=0.0)
    return [result.steps, losses, digest(weights)]


def damage(folder, *steps):
    """Train on one rank, then damage the checkpoints of some steps."""
    _, losses, _ = run(config_for(folder / "run"), dropout=0.0)
    (folder / "losses.json").write_text(json.dumps(losses))
    for step in steps:
        (folder / f"run/checkpoints/step-{step:08d}/optimizer.safetensors").write_bytes(b"123")


def run_forked(folder, work, *damaged):
    """Return exit code, stdout and stderr of a process that forks two ranks, and what each of them wrote."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def ranks():
        torch.set_num_threads(1)
        if damaged:
            damage(folder, *damaged)
        sys.exit(max(on_two_ranks(work, folder, port)))

    done = Forked(ranks).finish()
    return done, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_ranks_agree(tmp_path):
    (code, *said), (first, second) = run_forked(tmp_path, judged)
    assert code == 0, said
    assert first[:4] == [8, 4, 0.5, 4]
    assert second[:4] == [8, 4, 0.5, 0]  # only the first rank judges
    assert first[4] == second[4]


def test_ranks_continue_from_the_whole_checkpoint_that_the_first_one_found(tmp_path):
    (code, *said), (first, second) = run_forked(tmp_path, unjudged, 12)
    assert code == 0, said
    assert said[0].count("is damaged") == 1 and "continuing from" in said[0]
    assert (tmp_path / "run/checkpoints/damaged-step-00000012").is_dir()
    assert first == second and first[0] == 12
    assert first[1] == pytest.approx(json.loads((tmp_path / "losses.json").read_text()), rel=1e-4)


def test_ranks_end_together_where_no_checkpoint_is_whole(tmp_path):
    (code, *said), (first, second) = run_forked(tmp_path, unjudged, 9, 12)
    assert code == 2, said
    assert "no whole checkpoint is left" in first[0] and first[0] == second[0]
    assert (first[1], second[1]) == (False, True)  # one of them says it
    assert (tmp_path / "run/checkpoints/step-00000012").is_dir()
