"""Bad files of all kinds, a few of each; ``tools/fuzz.py`` reads thousands."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.fuzzing.checking import GOOD, Subject
from tests.fuzzing.readers import READERS

INPUTS = 40
OPEN = {"backbone config.json": "mean, std and input size of a file are not checked"}


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xfail(reason=OPEN[name])) if name in OPEN else name for name in READERS],
)
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
