import os
from pathlib import Path

import torch

from unip.runtime.compile_cache import VARIABLE, keep_compiled


def test_torch_keeps_kernels_in_the_users_cache_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    keep_compiled()
    assert os.environ[VARIABLE].startswith(os.environ["XDG_CACHE_HOME"]) and "unip" in os.environ[VARIABLE]
    monkeypatch.setenv(VARIABLE, "mine")
    keep_compiled()
    assert os.environ[VARIABLE] == "mine"


def test_torch_knows_the_variable():
    """By its source, as importing its compiler takes long."""
    sources = (Path(torch.__file__).parent / "_inductor").rglob("*cache*.py")
    assert any(f'"{VARIABLE}"' in source.read_text() for source in sources)
