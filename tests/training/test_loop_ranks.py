"""Two ranks of a judged run agree on what is best and on when to stop; forked after the imports, which are slow."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

TWO_RANKS = """
import hashlib, json, os, sys
from pathlib import Path

import torch
from test_loop import config_for, ranked, run

torch.set_num_threads(1)
folder, port = Path(sys.argv[1]), sys.argv[2]
children = []
for rank in (0, 1):
    child = os.fork()
    if not child:
        where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        os.environ.update({key: str(value) for key, value in where.items()}, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        judge, seen = ranked(0.1, 0.5, 0.3, 0.2, 0.9)
        config = config_for(folder / "run", steps=40, log_every=3, ema=0.8)
        result, _, weights = run(config, judge=judge, patience=2)
        digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights.values())).hexdigest()
        found = [result.steps, result.best.step, result.best.score, len(seen), digest]
        (folder / f"{rank}.json").write_text(json.dumps(found))
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_ranks_agree(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    there = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", TWO_RANKS, str(tmp_path), str(port)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": there}, timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first[:4] == [8, 4, 0.5, 4]
    assert second[:4] == [8, 4, 0.5, 0]  # only the first rank judges
    assert first[4] == second[4]
