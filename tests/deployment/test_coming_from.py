"""What docs/models-in-python.md says to users of other packages runs as it stands there."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import unip
from tests.segmentation.conftest import NAMES
from unip.deployment import verbs
from unip.deployment.config import LoadConfig
from unip.deployment.engine import Engine
from unip.deployment.engines import exported
from unip.deployment.engines.opening import open_engine
from unip.deployment.export.config import ExportConfig
from unip.deployment.export.files import ExportFiles

PAGE = Path(__file__).parents[2] / "docs" / "models-in-python.md"


def lines_of(page: str) -> list[str]:
    """Return the code in the last column of the table, in its order."""
    table = page.split("## If you come from Ultralytics or lightly-train")[1].split("\n## ")[0]
    rows = [row.strip("|\n ").split(" | ")[-1] for row in table.splitlines() if row.startswith("|")][2:]
    return [code for row in rows for code in re.findall(r"(?<!\[)`([^`]+)`", row)]


def pretend_to_export(config: ExportConfig) -> SimpleNamespace:
    """Write a file where the verb would, which takes much longer; test_exported.py has what it really does."""
    files = ExportFiles.of(config)
    files.out.mkdir(parents=True)
    (files.out / files.made).touch()
    return SimpleNamespace(file=files.out / files.made)


def pretend_to_open(name: str, config: LoadConfig) -> Engine:
    """Open the model whose file it would be."""
    assert Path(name).is_file()
    return open_engine("runs/ft", config)


def test_every_line_for_those_who_come_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_run: dict[str, Any]
) -> None:
    pandas = pytest.importorskip("pandas", reason="the table shows a pandas.DataFrame")
    monkeypatch.chdir(tmp_path)
    shutil.move(small_run["data"], "DATA/mine")
    classes = Path("DATA/mine/classes.json")
    classes.write_text(classes.read_text().replace(NAMES[1], "person").replace(NAMES[2], "vehicle"))
    shutil.copytree("DATA/mine/test/images", "DATA/new-frames")
    shutil.copy("DATA/new-frames/0.png", "frame.png")
    small = {key: value for key, value in small_run.items() if key not in ("data", "out")}
    small |= {"steps": 2, "crop": 32, "base": (40, 32), "batch_size": 2, "val": "test"}
    monkeypatch.setattr(unip, "finetune", partial(unip.finetune, **small))
    monkeypatch.setattr(verbs, "export", pretend_to_export)
    monkeypatch.setattr(
        exported, "open_exported", lambda name, config: Path(name).is_file() and open_engine("runs/ft", config)
    )
    bgr = np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)
    there: dict[str, Any] = {"unip": unip, "np": np, "pandas": pandas, "bgr": bgr, "rgb": bgr[..., ::-1]}
    codes = lines_of(PAGE.read_text(encoding="utf-8"))
    assert len(codes) > 20
    for code in codes:
        try:
            exec(code, there)
        except Exception as error:
            pytest.fail(f"{code}: {error!r}")
    assert Path("mask.png").is_file() and Path("overlay.png").is_file() and Path("predictions/masks/0.png").is_file()
    (scores,) = [eval(code, there) for code in codes if "evaluate" in code]
    assert 0 < scores < 1
