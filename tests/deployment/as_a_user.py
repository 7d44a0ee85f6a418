"""A folder in which what docs and examples tell a user to write runs in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import unip
from tests.segmentation.conftest import NAMES
from unip.data.labelled.classes import Classes
from unip.deployment import verbs
from unip.deployment.config import LoadConfig
from unip.deployment.engine import Engine
from unip.deployment.engines import exported
from unip.deployment.engines.opening import open_engine
from unip.deployment.export.config import ExportConfig
from unip.deployment.export.files import ExportFiles
from unip.segmentation.model import Segmenter
from unip.segmentation.storage import save_segmenter


@pytest.fixture
def at_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_run: dict[str, Any],
    make_segmenter: Callable[..., Segmenter],
) -> Path:
    """The working folder: DATA/mine with labels, DATA/new-frames, frame.png; all models are tiny, exports pretended."""
    monkeypatch.chdir(tmp_path)
    shutil.move(small_run["data"], "DATA/mine")
    classes = Path("DATA/mine/classes.json")
    classes.write_text(classes.read_text().replace(NAMES[1], "person").replace(NAMES[2], "vehicle"))
    shutil.copytree("DATA/mine/test/images", "DATA/new-frames")
    shutil.copy("DATA/new-frames/0.png", "frame.png")
    save_segmenter(make_segmenter(classes=Classes(("background", "person", "vehicle"))), Path("tiny"))
    small = {key: value for key, value in small_run.items() if key not in ("data", "out")}
    small |= {"steps": 2, "crop": 32, "base": (40, 32), "batch_size": 2, "val": "test"}
    monkeypatch.setattr(unip, "finetune", partial(unip.finetune, **small))
    load = unip.load
    monkeypatch.setattr(
        unip, "load", lambda model, **how: load("tiny" if model == "unip-aerial-tiny" else model, **how)
    )
    monkeypatch.setattr(verbs, "export", pretend_to_export)
    monkeypatch.setattr(exported, "open_exported", pretend_to_open)
    return tmp_path


def pretend_to_export(config: ExportConfig) -> SimpleNamespace:
    """Write a file where the verb would, which takes much longer; test_exported.py has what it really does."""
    files = ExportFiles.of(config)
    files.out.mkdir(parents=True)
    (files.out / files.made).touch()
    return SimpleNamespace(file=files.out / files.made)


def pretend_to_open(name: str, config: LoadConfig) -> Engine:
    """Open the model whose file it would be."""
    assert Path(name).is_file()
    return open_engine(str(Path(name).parents[1]), config)
