"""What the settings say of themselves: today's values, so that a change of one is seen."""

from __future__ import annotations

import pytest

from unip.config import Setting
from unip.pretraining.config import PretrainConfig
from unip.segmentation.config import FinetuneConfig
from unip.training.config import TrainingConfig

PRETRAIN = PretrainConfig.make(data="d", teacher="t", out="o")
FINETUNE = FinetuneConfig.make(model="m", data="d", out="o")
EVALUATED = FinetuneConfig.make(model="m", data="d", out="o", val="v", eval_every=3)
FREE = {
    "out",
    "workers",
    "checkpoint_activations",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "tensorboard",
    "overwrite",
    "dry_run",
    "cache",
    "max_pixels",
}


@pytest.mark.parametrize(
    ("config", "finished", "free"),
    [
        (PRETRAIN, False, FREE | {"picture_every", "init_share", "probe_data"}),
        (PRETRAIN, True, FREE | {"picture_every"}),
        (FINETUNE, False, FREE | {"val", "empty_classes", "minutes"}),
        (FINETUNE, True, FREE | {"val", "empty_classes", "minutes"}),
        (EVALUATED, False, FREE | {"empty_classes", "minutes"}),  # the best weights are chosen on val
        (EVALUATED, True, FREE | {"empty_classes", "minutes"}),
    ],
)
def test_what_may_differ_when_a_run_is_resumed(config: TrainingConfig, finished: bool, free: set[str]) -> None:
    assert {name for name, _ in config if config.may_change(name, finished=finished)} == free


@pytest.mark.parametrize("config", [PRETRAIN, FINETUNE])
def test_what_belongs_to_the_machine(config: TrainingConfig) -> None:
    own = {"picture_every"} if config is PRETRAIN else {"empty_classes", "minutes"}
    assert config.names_where(lambda setting: setting.machine) == FREE | own | {"device"}


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (PRETRAIN, {"lr", "warmup", "decoder_depth", "decoder_width", "teacher_precision"}),
        (
            FINETUNE,
            {"decoder", "channels", "auxiliary_weight", "loss", "lr", "layer_decay", "warmup", "crop", "photometric"}
            | {
                "rare_crops",
                "cache_features",
                "layers",
                "base",
                "ratio",
                "recipe",
                "mode",
                "minutes",
                "flip",
                "val_share",
            },
        ),
    ],
)
def test_what_is_left_to_be_chosen(config: TrainingConfig, left: set[str]) -> None:
    both = {"steps", "device", "precision", "compile", "workers", "cache"}
    assert {name for name, _ in config if config.is_open(name)} == left | both
    given = config.model_copy(update={"steps": 3, "base": (2, 1), "ratio": (1.0, 2.0), "layers": (3,), "lr": 0.1})
    assert {name for name, _ in config if given.is_open(name)} == (left | both) - {
        "steps",
        "base",
        "ratio",
        "layers",
        "lr",
    }


def test_what_the_bench_decides() -> None:
    cell = {"model", "data", "out", "split", "remap", "label_budget", "label_seed", "seed", "mode", "dry_run"}
    cell |= {"images", "masks", "mask_suffix", "mask_orientation"}
    cell |= {"val_share", "group", "from_backbone", "drop_classes", "pseudo"}
    assert FinetuneConfig.names_where(lambda setting: setting.decided_by is not None) == cell
    assert PretrainConfig.names_where(lambda setting: setting.decided_by == "bench") == {"out", "dry_run"}


def test_the_setting_that_ties_another_is_there() -> None:
    for config in (PretrainConfig, FinetuneConfig):
        tied = config.names_where(lambda setting: setting.resume_unless is not None)
        assert {config.about(name).resume_unless for name in tied} <= set(config.model_fields)
    assert PretrainConfig.about("lr") == Setting()
