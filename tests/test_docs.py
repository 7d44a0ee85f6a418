"""The option tables of the docs name every setting of the verb, and no other."""

import re
from pathlib import Path

import pytest

from unip.data.corruptions import CORRUPTIONS
from unip.data.images.conversion import ReadingOptions
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.evaluation import EvaluateConfig
from unip.suites.program import BenchConfig
from unip.training.config import TrainingConfig

DOCS = Path(__file__).parents[1] / "docs"


def options(page: str) -> set[str]:
    text = (DOCS / page).read_text(encoding="utf-8").split("## Options", 1)[-1]
    rows = [line for line in text.splitlines() if line.startswith("| `--")]
    return {name.replace("-", "_") for row in rows for name in re.findall(r"`--([a-z0-9-]+)`", row.split(" | ")[0])}


@pytest.mark.parametrize(
    ("config", "page", "elsewhere"),
    [
        (BenchConfig, "bench.md", ()),
        (EvaluateConfig, "evaluate.md", ()),
        (FinetuneConfig, "finetune.md", (TrainingConfig, ReadingOptions)),
    ],
)
def test_options(config, page, elsewhere):
    found = {name for name in options(page) if not name.startswith("no_")}
    shared = {name for other in elsewhere for name in other.model_fields}
    assert set(config.model_fields) - shared <= found <= set(config.model_fields)


def test_corruptions():
    rows = [line for line in (DOCS / "corruptions.md").read_text(encoding="utf-8").splitlines() if "| `" in line]
    table = {row.split("`")[1]: row.split("|")[-2] for row in rows}
    assert list(table) == list(CORRUPTIONS)
    for name, corruption in CORRUPTIONS.items():
        if name != "polarity":
            shown = [float(number) for number in re.findall(r"[\d.]+", table[name])]
            assert shown == pytest.approx(list(corruption.by_severity)), name
