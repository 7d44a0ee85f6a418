"""Nothing leaves the machine: no verb opens a connection or looks up a name, and no dependency does.

What was tried is noted and refused, so that a library which takes no offence at the refusal is found too.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import unip
from tests.test_kept_files import FUNCTIONS, run, things, undrawn  # noqa: F401

# For processes of their own: sees connections of Python and of modules in C that tell Python of them.
WATCHES = """
import os, sys
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto"):
        note(event, arguments)
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        note(event, arguments)
def note(*what):
    with open(os.environ["NOTED"], "a") as file:
        file.write(repr(what) + "\\n")
    raise OSError("no network in this test")
sys.addaudithook(watch)
"""
IMPORTS = """
import importlib, pkgutil, unip
for found in pkgutil.walk_packages(unip.__path__, "unip."):
    if not found.name.endswith(("__main__", "triton_loss")):
        importlib.import_module(found.name)
print("imported")
"""


@pytest.fixture
def tried(monkeypatch) -> list[str]:
    """Return what this process tries to reach; local sockets between processes may be used."""
    noted: list[str] = []

    def refusing(name, usual):
        def call(*arguments, **named):
            if name in ("connect", "connect_ex", "sendto") and arguments[0].family == getattr(socket, "AF_UNIX", None):
                return usual(*arguments, **named)
            noted.append(f"{name}{arguments}")
            raise OSError("no network in this test")

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refusing(name, getattr(socket.socket, name)))
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getfqdn", "create_connection"):
        monkeypatch.setattr(socket, name, refusing(name, getattr(socket, name)))
    return noted


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_verbs_reach_nothing(verb, things, tried, tmp_path):  # noqa: F811
    run(verb, things, tmp_path / "out")
    assert tried == []


def test_models_reach_nothing(things, tried):  # noqa: F811
    unip.models()
    model = unip.load(things["predict"]["model"])
    assert model(np.zeros((32, 40), np.uint8)).mask.shape == (32, 40)
    assert tried == []


def test_what_would_be_downloaded_is_seen(tried, tmp_path):
    """The other tests can fail: a model of the hub is asked for there."""
    with pytest.raises(unip.UnipError):
        unip.analyze(models=("hf:someone/no-such-model",), images=(str(tmp_path),), out=tmp_path / "out")
    with pytest.raises(OSError):
        socket.create_connection(("localhost", 9))
    assert tried


def watched(tmp_path: Path, command: list[str]) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(WATCHES)
    path = os.pathsep.join([str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "NOTED": str(tmp_path / "noted"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600, cwd=tmp_path
    )
    noted = tmp_path / "noted"
    return done, noted.read_text().splitlines() if noted.exists() else []


def test_imports_reach_nothing(tmp_path):
    done, noted = watched(tmp_path, ["-c", IMPORTS])
    assert (done.stdout, noted) == ("imported\n", []), done.stderr


def test_a_bench_and_its_workers_reach_nothing(things, tmp_path):  # noqa: F811
    suite = {
        "title": "Small",
        "inits": {"a": things["pretrain"]["teacher"]},
        "datasets": {"frames": {"data": str(things["finetune"]["data"]), "val": "test"}},
        "protocols": {"knn": {"kind": "knn", "settings": {"short_side": 32, "k": 3}}},
        "seeds": [0],
        "speed_batch": 1,
    }
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    command = ["-m", "unip", "bench", str(tmp_path / "suite.yaml"), "--out", "out", "--device", "cpu"]
    done, noted = watched(tmp_path, command)
    assert (done.returncode, noted) == (0, []), done.stderr
    assert json.loads(next(tmp_path.glob("out/cells/*/cell.json")).read_text())


def test_a_process_that_is_watched_is_seen(tmp_path):
    done, noted = watched(tmp_path, ["-c", "import urllib.request; urllib.request.urlopen('http://localhost:9')"])
    assert done.returncode == 1 and "no network in this test" in done.stderr
    assert "getaddrinfo" in noted[0] or "connect" in noted[0]
