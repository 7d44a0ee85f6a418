"""What a type checker says to the Python of README and docs, and to right and wrong calls of the verbs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RIGHT = ROOT / "tests/typing/right_calls.py"
WRONG = ROOT / "tests/typing/wrong_calls.py"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
ERROR = re.compile(r"^(.+?):(\d+): error: (.*)$", re.MULTILINE)


def python_of(page: Path) -> str:
    """Return the Python of a page as one module, each line with the number that it has in the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        code, start = block[1].splitlines(), text[: block.start(1)].count("\n")
        lines[start : start + len(code)] = code
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, dict[int, str]]:
    """Run mypy once over all; return its errors by file name and line."""
    folder = tmp_path_factory.mktemp("pages")
    for page in PAGES:
        if BLOCK.search(page.read_text(encoding="utf-8")):
            (folder / f"{page.stem.replace('-', '_')}_page.py").write_text(python_of(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *sorted(folder.glob("*.py")), RIGHT, WRONG],  # with the cache of `make lint`
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": "src", "NO_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 1, done.stdout + done.stderr  # wrong calls are wrong
    found: dict[str, dict[int, str]] = {}
    for file, line, what in ERROR.findall(done.stdout):
        of_file = found.setdefault(Path(file).name, {})
        of_file[int(line)] = "; ".join(filter(None, [of_file.get(int(line)), what]))
    return found


def test_python_of_readme_and_docs(errors):
    assert {name: found for name, found in errors.items() if name not in (RIGHT.name, WRONG.name)} == {}


def test_right_calls(errors):
    assert errors.get(RIGHT.name, {}) == {}


def test_wrong_calls(errors):
    lines = enumerate(WRONG.read_text(encoding="utf-8").splitlines(), 1)
    expected = {number: line.split("# refused: ")[1] for number, line in lines if "# refused: " in line}
    found = errors[WRONG.name]
    assert found.keys() == expected.keys()
    for number, reason in expected.items():
        assert reason in found[number], f"line {number}: {found[number]}"


def test_python_of_a_page_keeps_its_line_numbers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n```python\nx = 1\n```\n```\nno\n```\n```python\ny = 2\n```\n")
    assert python_of(page).splitlines()[2] == "x = 1"
    assert python_of(page).splitlines()[8] == "y = 2"
    assert "no" not in python_of(page)
