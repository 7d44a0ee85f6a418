"""What docs/models-in-python.md says to users of other packages runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unip
from tests.deployment.as_a_user import at_work  # noqa: F401

PAGE = Path(__file__).parents[2] / "docs" / "models-in-python.md"


def lines_of(page: str) -> list[str]:
    """Return the code in the last column of the table, in its order."""
    table = page.split("## If you come from Ultralytics or lightly-train")[1].split("\n## ")[0]
    rows = [row.strip("|\n ").split(" | ")[-1] for row in table.splitlines() if row.startswith("|")][2:]
    return [code for row in rows for code in re.findall(r"(?<!\[)`([^`]+)`", row)]


def test_every_line_for_those_who_come_from_elsewhere(at_work: Path) -> None:  # noqa: F811
    pandas = pytest.importorskip("pandas", reason="the table shows a pandas.DataFrame")
    grey = np.random.default_rng(0).integers(0, 255, (32, 40, 1), np.uint8)
    there: dict[str, Any] = {
        "unip": unip,
        "np": np,
        "pandas": pandas,
        "bgr": grey.repeat(3, 2),
        "rgb": grey.repeat(3, 2),
    }
    codes = lines_of(PAGE.read_text(encoding="utf-8"))
    assert len(codes) > 20
    for code in codes:
        try:
            exec(code, there)
        except Exception as error:
            pytest.fail(f"{code}: {error!r}")
    for name in ("mask.png", "overlay.png", "predictions/masks/0.png"):
        assert (at_work / name).is_file()
    (scores,) = [eval(code, there) for code in codes if "evaluate" in code]
    assert 0 < scores < 1
