"""Which tests `make check` runs for a change."""

from __future__ import annotations

import subprocess
import sys

import pytest

from touched_tests import ALWAYS, ROOT, select_tests


@pytest.fixture
def repository(tmp_path):
    """A repository in small: rooms with tests, a room within a room, modules beside the rooms."""
    rooms = ("data/test_splitting", "data/images/test_decoding", "suites/test_docs", "suites/test_suites")
    rooms += ("vit/test_export", "vit/test_spec", "vit/tiny")
    for name in (*ALWAYS, *(f"tests/{room}.py" for room in rooms)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "tests/test_outputs.py").write_text("from unip.outputs import x\nimport unip.written\n")
    (tmp_path / "tests/test_stubs.py").write_text("import write_stubs\n")
    (tmp_path / "tests/test_cli.py").write_text("import unip.cli\n")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ("src/unip/vit/spec.py", ("tests/vit/test_export.py", "tests/vit/test_spec.py")),
        ("src/unip/vit/inner/new.py", ("tests/vit/test_export.py", "tests/vit/test_spec.py")),
        ("src/unip/data/splitting.py", ("tests/data/test_splitting.py",)),
        ("src/unip/data/images/readers/flir.py", ("tests/data/images/test_decoding.py",)),
        ("src/unip/written.py", ("tests/test_outputs.py",)),
        ("src/unip/cli.py", ("tests/test_cli.py",)),
        ("tests/vit/test_spec.py", ("tests/vit/test_spec.py",)),
        ("tests/vit/tiny.py", ("tests/vit/test_export.py", "tests/vit/test_spec.py")),
        ("tests/vit/test_deleted.py", ()),
        ("src/unip/recipes/x.yaml", ("tests/suites/test_suites.py",)),
        ("docs/bench.md", ("tests/suites/test_docs.py",)),
        ("tools/write_stubs.py", ("tests/test_stubs.py",)),
        ("requirements.lock", ()),
    ],
)
def test_tests_of_a_changed_file(repository, changed, wanted):
    assert select_tests([changed], repository) == sorted({*ALWAYS, *wanted})


def test_every_test_that_always_runs_is_there():
    assert all((ROOT / name).is_file() for name in ALWAYS)


def test_a_base_that_git_does_not_know_is_no_reason_to_test_nothing():
    done = subprocess.run(
        [sys.executable, "tools/touched_tests.py", "no-such-commit"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "no-such-commit" in done.stderr and not done.stdout
