"""The recipe, the mode, the model and the minutes where none is given; and what the recipe quick makes of them."""

import json

import pytest

from unip.errors import UnipError
from unip.runtime import device
from unip.segmentation import budgeting, preparing
from unip.segmentation.budget import Costs
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.describe import describe_pace
from unip.segmentation.recipes import default_model_text, settle
from unip.segmentation.storage import load_segmenter
from unip.segmentation.verbs import finetune
from unip.zoo.catalogue import catalogue


def settled(*, on_gpu=False, ranks=1, **given):
    config, lines = settle(FinetuneConfig.make(data="d", out="o", **given), on_gpu=on_gpu, ranks=ranks)
    return (config.recipe, config.mode, config.minutes), " ".join(lines)


@pytest.mark.parametrize(
    ("given", "expected", "why"),
    [
        ({}, ("quick", "frozen", 5.0), "there is no GPU"),
        ({"on_gpu": True}, ("fast", "full", 0.0), "there is a GPU"),
        ({"on_gpu": True, "recipe": "quick"}, ("quick", "frozen", 5.0), ""),
        ({"minutes": 12}, ("quick", "frozen", 12.0), "no GPU"),
        ({"recipe": "quick", "corrupt": 0.2}, ("quick", "frozen", 0.0), ""),
        ({"recipe": "quick", "ranks": 2}, ("quick", "frozen", 0.0), ""),
        ({"ranks": 2}, ("fast", "full", 0.0), "2 processes"),
        ({"recipe": "fast"}, ("fast", "full", 0.0), ""),
        ({"recipe": "paper"}, ("paper", "full", 0.0), ""),
        ({"mode": "linear"}, ("fast", "linear", 0.0), "mode linear is given"),
        ({"mode": "full"}, ("fast", "full", 0.0), "mode full is given"),
        ({"mode": "frozen"}, ("quick", "frozen", 5.0), "no GPU"),
        ({"lora": 4}, ("fast", "full", 0.0), "lora is given"),
        ({"freeze_layers": 2}, ("fast", "full", 0.0), "freeze_layers is given"),
        ({"ratio": (0.5, 2.0)}, ("fast", "full", 0.0), "ratio is given"),
        ({"corrupt": 0.2}, ("fast", "full", 0.0), "corrupt is given"),
        ({"rare_crops": 0.3}, ("fast", "full", 0.0), "rare_crops is given"),
        ({"photometric": True}, ("fast", "full", 0.0), "photometric is given"),
        ({"inverted": 0.25}, ("fast", "full", 0.0), "inverted is given"),
        ({"cache_features": False}, ("fast", "full", 0.0), "cache_features is given"),
        ({"model": "unip_tiny"}, ("fast", "full", 0.0), "weights of unip_tiny are random"),
    ],
)
def test_without_a_gpu_the_recipe_is_quick_where_it_can_be(given, expected, why):
    found, said = settled(**given)
    assert found == expected and why in said
    assert settled(recipe=found[0], mode=found[1], minutes=found[2]) == (found, "")  # a config that is repeated


@pytest.mark.parametrize("given", [{"mode": "linear"}, {"mode": "full"}, {"lora": 4}, {"freeze_layers": 1}])
def test_the_recipe_quick_trains_no_backbone(given):
    with pytest.raises(UnipError, match="recipe quick"):
        FinetuneConfig.make(data="d", out="o", recipe="quick", **given)


def test_the_model_by_default_is_said_with_the_cost_of_a_larger_one():
    assert FinetuneConfig.make(data="d", out="o").model == "unip-ir-tiny"
    text = default_model_text()
    assert "unip-ir-tiny, since none is given; unip-ir-small would be about 3.7 times the work" in text
    assert ("not in the package" in text) == (not catalogue()["unip-ir-small"].shipped)


SLOW = {"seconds": 12.3, "left": 200}


@pytest.mark.parametrize(
    ("given", "pace", "on_gpu", "said"),
    [
        ({}, SLOW, False, ["12 s a step: about 41 min for the 200 steps", "--recipe quick trains a decoder"]),
        ({}, SLOW, True, ["12 s a step: about 41 min"]),
        ({}, {"seconds": 0.3, "left": 200}, False, ["0.3 s a step: about 60 s"]),
        ({"mode": "linear"}, SLOW, False, ["12 s a step", "that is long: fewer --steps"]),
        ({"model": "unip_tiny"}, SLOW, False, ["12 s a step", "that is long: fewer --steps"]),
    ],
)
def test_a_long_training_on_a_cpu_is_said_with_a_way_out(given, pace, on_gpu, said):
    config, _ = settle(FinetuneConfig.make(data="d", out="o", recipe="fast", **given), on_gpu=on_gpu, ranks=1)
    lines = describe_pace(config, **pace, on_gpu=on_gpu)
    assert len(lines) == len(said) and all(text in line for text, line in zip(said, lines, strict=True))


@pytest.fixture
def quick(small_run):
    return {**small_run, "recipe": "auto", "batch_size": 4}


@pytest.fixture
def machine(monkeypatch):
    def set_costs(*costs):
        monkeypatch.setattr("unip.segmentation.preparing.measure_costs", lambda *_: Costs(*costs))

    return set_costs


def test_it_learns_and_its_config_repeats_it(quick, tmp_path, capsys):
    """On this machine, as it is measured; what it measured changes nothing in a run from its config."""
    result = finetune(**quick, steps=30, channels=16, base=(128, 32), crop=32, log_every=10, val="test")
    said = capsys.readouterr().out
    assert "recipe quick: there is no GPU" in said and "from files to model" in said
    recorded = FinetuneConfig.from_yaml(result.run / "config.yaml")
    assert (recorded.recipe, recorded.mode, recorded.minutes, recorded.flip) == ("quick", "frozen", 5.0, 0.5)
    log = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    again = finetune(FinetuneConfig.from_yaml(result.run / "config.yaml", out=tmp_path / "again"))
    ours, theirs = (load_segmenter(run).state_dict() for run in (result.run, again.run))
    assert all((tensor == theirs[name]).all() for name, tensor in ours.items())


@pytest.mark.parametrize(
    ("seconds", "expected"), [([9.0, 1.0, 1.1, 5.0], 1.1), ([9.0, 2.0], 2.0), ([3.0], 3.0), ([9.0, 1.0, 3.0], 2.0)]
)
def test_a_first_pass_and_other_work_do_not_count(seconds, expected):
    assert budgeting.median_when_warm(seconds) == expected


def test_what_a_slow_machine_leaves_out_is_said(quick, machine, capsys):
    machine(20, 5.0, 1.0)  # 9 windows of the mirrored and resized frames, and 400 steps
    assert finetune(**quick, crop=16, dry_run=True) is None
    said = " ".join(capsys.readouterr().out.split())
    assert "left out, to stay within 5 min and the memory: no mirror images (flip 0)" in said
    assert "of --minutes" in said or "steps instead of 400" in said


def test_given_settings_are_never_left_out(quick, machine, capsys):
    machine(20, 50.0, 50.0)
    finetune(**quick, crop=16, base=(128, 32), flip=0.5, dry_run=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "100 steps instead of 400; see --minutes" in said and "no mirror" not in said and "short side" not in said
    assert "note: that is more than the 5 min of --minutes" in said


def test_no_minutes_measure_nothing(quick, monkeypatch, capsys):
    monkeypatch.setattr("unip.segmentation.preparing.measure_costs", None)  # whoever calls it fails
    finetune(**quick, minutes=0, dry_run=True)
    assert "from files to model" not in capsys.readouterr().out


def test_features_that_fit_no_memory_are_refused(quick, machine, monkeypatch):
    machine(1, 0.01, 0.01)
    monkeypatch.setattr(budgeting, "free_memory", lambda: 1000)
    with pytest.raises(UnipError, match="more than a quarter of the free memory"):
        finetune(**quick, dry_run=True)


def test_minutes_are_for_cached_features(quick):
    with pytest.raises(UnipError, match="minutes are for features that are computed once"):
        finetune(**{**quick, "recipe": "fast"}, minutes=5, dry_run=True)


@pytest.mark.parametrize(("native", "said"), [("AMX", True), ("", False)])
def test_bfloat16_where_the_processor_has_it(quick, monkeypatch, capsys, native, said):
    monkeypatch.setattr(device, "native_bfloat16", lambda: native)
    monkeypatch.setattr(preparing, "native_bfloat16", lambda: native)
    finetune(**quick, minutes=0, dry_run=True)
    assert ("precision bf16, which this processor computes fast (AMX)" in capsys.readouterr().out) == said
    finetune(**quick, minutes=0, precision="fp32", dry_run=True)
    assert "bf16" not in capsys.readouterr().out
