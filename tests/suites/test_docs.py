"""The page in the docs: its options are those there are, and its example is a suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from unip.suites.config import BenchConfig
from unip.suites.suite import Suite

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not beside the tests")


def test_options():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `--")]
    found = {re.findall(r"`--([a-z-]+)`", row)[0].replace("-", "_"): row.split(" | ")[-1].rstrip(" |") for row in rows}
    assert list(found) == list(BenchConfig.model_fields)
    for name, field in BenchConfig.model_fields.items():
        assert found[name].startswith(str(field.description)), name


def test_the_example_is_a_suite():
    text = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    suite = Suite.make(**{**yaml.safe_load(text), "protocols": {"p": {}}})
    assert suite.cells()
    protocols = yaml.safe_load(text)["protocols"]
    with_val = {"yard": {"data": "{yard}", "val": "val"}}
    assert len(Suite.make(**{**yaml.safe_load(text), "datasets": with_val}).protocols) == len(protocols) == 5
