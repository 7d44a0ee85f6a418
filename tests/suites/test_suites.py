"""The suites that ship: every cell of them is one that `unip finetune` takes."""

from __future__ import annotations

import re

import pytest
import torch

from unip.data.labelled.datasets import split_kind
from unip.pretraining.config import PretrainConfig
from unip.recipes import HERE
from unip.suites.grid import BenchPlan
from unip.suites.settings import check_settings
from unip.suites.suite import TRAINED_KINDS, Locations, Suite, read_suite
from unip.suites.tasks import CellTask
from unip.vit.backbone import load_backbone

FOLDER = HERE / "suites"
SUITES = sorted(FOLDER.glob("*.yaml"))


def task_of(suite: Suite, axes, tmp_path) -> CellTask:
    init, source, protocol = suite.inits[axes.init], suite.datasets[axes.dataset], suite.protocols[axes.protocol]
    return CellTask(
        axes=vars(axes),
        kind=protocol.kind,
        folder=tmp_path,
        key="",
        settings={**protocol.settings, **source.settings, **init.settings},
        model=init.model,
        data=source.data,
        train=source.train,
        val=source.val,
        test=source.test,
        remap=source.remap,
        choose=protocol.choose,
        corruptions=suite.corruptions_of(axes.protocol),
        device="cpu",
        keep_model=True,
    )


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_shows_its_command_and_every_cell_parses(path, tmp_path):
    assert path.read_text(encoding="utf-8").startswith(f"# unip bench {path.stem} --data ")
    suite = read_suite(path)
    for axes in suite.cells():
        assert suite.protocols[axes.protocol].kind in TRAINED_KINDS
        check_settings(task_of(suite, axes, tmp_path))
    for name, settings in suite.pretrain.items():
        PretrainConfig.make(**settings, out=tmp_path / name)


def test_the_papers_suite_has_every_published_number_and_every_model_exists():
    suite = read_suite(FOLDER / "paper.yaml")
    assert suite.published is not None
    assert set(suite.published.miou) == set(suite.protocols)
    for numbers in suite.published.miou.values():
        assert list(numbers) == list(suite.inits)
    assert suite.published.miou["fine-tuned"]["unip-mae-s"] == 64.4
    assert suite.published.miou["linear-probe"]["ibot-l"] == 49.5
    assert [split_kind(source.data)[0] for source in suite.datasets.values()] == ["soda", "mfnet", "scut"]
    for init in suite.inits.values():
        if init.model.startswith("timm:"):
            with torch.device("meta"):  # shapes without weights
                assert load_backbone(init.model, random_weights=True).report is None
        else:
            assert re.fullmatch(r"\{weights\}/[a-z0-9_]+\.pth", init.model)


def test_quick_cells_depend_on_no_machine(tmp_path):
    suite = read_suite(FOLDER / "quick.yaml")
    tasks = {axes.protocol: task_of(suite, axes, tmp_path) for axes in suite.cells()}
    found = {name: check_settings(task) for name, task in tasks.items()}
    assert {name: (config.recipe, config.mode) for name, config in found.items()} == {
        "quick": ("quick", "frozen"),
        "full": ("fast", "full"),
    }
    assert {config.minutes for config in found.values()} == {0.0}
    assert check_settings(tasks["full"].model_copy(update={"settings": {}})).recipe == "fast"  # never auto


@pytest.mark.parametrize("name", ["ten_minutes", "hituav", "hituav_pretraining", "hituav_finetuning"])
def test_hituav_has_the_budget_of_the_reference(name):
    suite = read_suite(FOLDER / f"{name}.yaml")
    for settings in suite.pretrain.values():
        crops = settings["steps"] * settings["batch_size"]
        # 512,000 to compare layers; 102,400 large ones after small ones
        assert crops in (1_323_520, 512_000) or (crops == 102_400 and settings["init"].startswith("pretrain:"))
    for protocol in suite.protocols.values():
        assert (protocol.settings["steps"], protocol.settings["batch_size"]) == (1200, 8)
    assert len(suite.seeds) >= 3


@pytest.mark.parametrize("name", ["gentle_adapting", "hituav_adapting", "hituav_settings", "tirss_adapting"])
def test_what_chooses_never_sees_test(name):
    assert {source.test for source in read_suite(FOLDER / f"{name}.yaml").datasets.values()} == {"val"}


def test_the_longest_chain_of_pre_training_comes_first(tmp_path):
    suite = read_suite(FOLDER / "hituav.yaml")
    names = [str(job) for job in BenchPlan(suite, Locations([], None), tmp_path, "cpu").jobs(suite.cells())[:6]]
    assert names[:5] == [f"pretrain:{name}" for name in ("small-crops", "mae", "nmi-had", "distilled", "adapted")]
    assert names[5] == "scratch_hit-uav_linear-probe_100pct_seed0"
