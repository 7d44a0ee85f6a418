"""Bad files of all kinds, a few of each; ``tools/fuzz.py`` reads thousands."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.fuzzing.checking import GOOD, Subject
from tests.fuzzing.readers import READERS

INPUTS = 40


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@pytest.mark.parametrize("name", READERS)
def test_bad_files_are_refused_or_read_right(tmp_path: Path, name: str) -> None:
    subject = Subject(name, READERS[name], tmp_path)
    sound = subject.attempt()
    assert sound.kind == "accepted", sound.detail
    outcomes = []
    for number in range(INPUTS):
        subject.put(number, seed=1)
        outcomes.append(subject.attempt())
    bad = [f"{number}: {each.kind}: {each.detail}" for number, each in enumerate(outcomes) if each.kind not in GOOD]
    assert bad == []
