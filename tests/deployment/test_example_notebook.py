"""examples/segment.ipynb runs from its first cell to the last one, without Jupyter, and holds nobody's frames."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import unip
from tests.deployment.as_a_user import at_work  # noqa: F401

NOTEBOOK = Path(__file__).parents[2] / "examples" / "segment.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def run(code: str, there: dict[str, Any]) -> object:
    """Run a cell; return the value of its last line, if that is one."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), there)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), there)


def test_it_holds_no_outputs(cells):
    assert len(cells) > 5
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)


def test_every_cell_runs(cells, at_work):  # noqa: F811
    there: dict[str, Any] = {}
    try:
        values = [run("".join(cell["source"]), there) for cell in cells]
    finally:
        unip.log.show()  # as all other tests have it
    shown = [value for value in values if hasattr(value, "_repr_html_")]
    assert len(shown) >= 3 and all("<table>" in value._repr_html_() for value in shown)
    for name in ("overlay.png", "mask.png", "runs/mine/model/config.json", "runs/mine/export/mine-fp32.onnx"):
        assert (at_work / name).is_file()
