from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from torch._inductor.runtime.cache_dir_utils import cache_dir

from unip.runtime import compiling
from unip.runtime.compiling import (
    CACHE_VARIABLE,
    keep_kernels,
    note_compiled,
    obstacle_to_compiling,
    start_compilers,
    was_compiled,
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, with nothing said to torch about another one."""
    monkeypatch.setenv(CACHE_VARIABLE, "")  # so that it is put back afterwards
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr(compiling, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path


def test_kernels_are_kept_in_the_users_cache_folder(cache):
    keep_kernels()
    assert Path(cache_dir()) == cache / "unip" / "compiled"  # torch reads it there


def test_a_folder_that_torch_was_told_stays(cache, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, "elsewhere")
    keep_kernels()
    assert os.environ[CACHE_VARIABLE] == "elsewhere" and not (cache / "unip").exists()


def test_where_there_can_be_no_folder_torch_chooses(cache):
    (cache / "unip").write_text("a file is in the way")
    keep_kernels()
    assert CACHE_VARIABLE not in os.environ


def test_what_compiling_lacks(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else object())
    assert obstacle_to_compiling() == "triton is not installed"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert obstacle_to_compiling() == "there is no C compiler"
    monkeypatch.setattr(shutil, "which", lambda name: "/a/mine" if name == "mine" else None)
    monkeypatch.setenv("CC", "mine")
    assert obstacle_to_compiling() == ""


def test_what_was_compiled_is_noted_beside_the_kernels(cache, monkeypatch):
    kind = {"gpu": "G", "crop": "512"}
    assert not was_compiled(kind)
    for _ in range(2):  # the second finds the note
        note_compiled(kind)
    assert was_compiled(dict(reversed(kind.items()))) and not was_compiled({**kind, "crop": "256"})
    assert [path.parent for path in cache.rglob("*.json")] == [cache / "unip" / "compiled" / "unip"]
    monkeypatch.setenv(CACHE_VARIABLE, str(cache / "other"))
    assert not was_compiled(kind)  # there are no such kernels


def test_where_nothing_can_be_noted_nothing_fails(cache):
    (cache / "unip").write_text("a file is in the way")
    note_compiled({"gpu": "G"})
    assert not was_compiled({"gpu": "G"})


def test_the_compiling_processes_are_torchs(monkeypatch):
    """It has a function that starts them, which is called."""
    started = []
    monkeypatch.setattr("torch._inductor.async_compile.maybe_warm_pool", lambda: started.append(True))
    start_compilers()
    assert started == [True]
