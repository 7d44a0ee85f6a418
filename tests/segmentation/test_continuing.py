"""Training a segmentation model further: what it keeps, what is new, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.labelled.classes import Classes
from unip.errors import UnipError
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.continuing import find_continued, is_segmenter
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.segmentation.verbs import finetune

from .conftest import NAMES


@pytest.fixture
def model(tmp_path, make_segmenter) -> Path:
    """A segmentation model with an odd decoder, so that nothing of it is what would be chosen."""
    segmenter = make_segmenter(decoder="light", pyramid="fpn", short_side=48, crop=24, auxiliary_weight=0.3)
    with torch.no_grad():  # rows that can be told apart
        for row in range(3):
            segmenter.head.classifier.weight[row] = row + 1
            segmenter.auxiliary.classifier.bias[row] = -row
    save_segmenter(segmenter, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def settings(model, small_run) -> dict[str, Any]:
    return {**small_run, "model": str(model), "steps": 1, "lr": 1e-12, "weight_decay": 0.0, "batch_size": 2}


def name_classes(folder: Path, *names: str) -> None:
    """Name the classes of the folder by their ids, and label a corner of each frame as the last."""
    (folder / "classes.json").write_text(json.dumps({"names": names, "ignore_index": 255}))
    for file in folder.glob("*/masks/*.png"):
        mask = np.array(Image.open(file))
        mask[-4:, -4:] = len(names) - 1
        Image.fromarray(np.where(mask == 255, 255, np.minimum(mask, len(names) - 1)).astype(np.uint8)).save(file)


def test_decoder_classes_and_sizes_are_kept(settings, model, capsys):
    before = load_segmenter(model)
    finetune(**settings)
    after = load_segmenter(settings["out"])
    assert after.spec.model_dump(exclude={"stride", "images"}) == before.spec.model_dump(exclude={"stride", "images"})
    for name, tensor in before.state_dict().items():
        if "num_batches" not in name and "running" not in name:
            torch.testing.assert_close(after.state_dict()[name], tensor, rtol=0, atol=1e-6, msg=name)
    said = capsys.readouterr().out
    assert f"continues {model}: decoder and 3 classes kept, 0 new, short side 48, crop 24" in said
    record = json.loads((settings["out"] / "model" / "config.json").read_text())
    assert record["info"]["continues"] == str(model)


def test_a_class_more_gets_a_row_and_others_keep_theirs_whatever_the_order(settings, model, capsys):
    name_classes(settings["data"], "Cold", "background", "hot", "bicycle")
    before = load_segmenter(model)
    finetune(**settings)
    after = load_segmenter(settings["out"])
    assert f"continues {model}: decoder and 3 classes kept, 1 new: bicycle," in capsys.readouterr().out
    assert after.spec.classes.names == ("Cold", "background", "hot", "bicycle")
    for part in ("head", "auxiliary"):
        for kind in ("weight", "bias"):
            name = f"{part}.classifier.{kind}"
            old, new = before.state_dict()[name], after.state_dict()[name]
            torch.testing.assert_close(new[:3], old[[2, 0, 1]], rtol=0, atol=1e-6)
            assert not any(torch.allclose(new[3], row) for row in old)


def test_a_class_less_is_refused_unless_it_is_given_up(settings, model, capsys):
    name_classes(settings["data"], "background", "hot")
    with pytest.raises(
        UnipError, match=r"segments cold, and .* has no such class \(it has: background, hot\)"
    ) as caught:
        finetune(**settings)
    for way in ("--remap NAME=cold", "--empty-classes cold", "--drop-classes cold", "--from-backbone"):
        assert way in caught.value.fix
    finetune(**settings, drop_classes="COLD")
    assert "2 classes kept, 0 new, 1 given up: cold" in capsys.readouterr().out
    after = load_segmenter(settings["out"])
    torch.testing.assert_close(after.head.classifier.weight, load_segmenter(model).head.classifier.weight[:2])


@pytest.mark.parametrize(("name", "why"), [("hot", "the data has it"), ("tree", "has: background, hot, cold")])
def test_only_a_class_that_is_gone_can_be_given_up(settings, name, why):
    with pytest.raises(UnipError, match=f"drop_classes: {name!r} is no class to give up: .*{why}"):
        finetune(**settings, drop_classes=name)


def test_classes_are_given_up_only_of_a_segmentation_model(settings, backbone_folder):
    for changed in ({"from_backbone": True}, {"model": str(backbone_folder)}):
        with pytest.raises(UnipError, match="drop_classes gives up classes of a segmentation model"):
            finetune(**{**settings, **changed}, drop_classes="cold")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"from_backbone": True}, "(from_backbone): decoder and classes are new"),
        ({"mode": "linear"}, "(mode linear): decoder and classes are new"),
    ],
)
def test_the_backbone_alone(settings, model, changed, line, capsys):
    name_classes(settings["data"], "sky", "ground")
    finetune(**{**settings, **changed})
    assert f"only the backbone of {model} is taken {line}" in capsys.readouterr().out
    after = load_segmenter(settings["out"])
    assert (after.spec.decoder, after.spec.crop) != ("light", 24)
    before = load_segmenter(model).state_dict()
    for name, tensor in after.state_dict().items():
        if name.startswith("backbone."):
            torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)
    assert "continues" not in json.loads((settings["out"] / "model" / "config.json").read_text())["info"]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"decoder": "upernet"}, "decoder is upernet, and the decoder of .* has light"),
        ({"layers": (3,)}, "layers is 3, and the decoder of .* has 1 2 3 4"),
        ({"channels": 16}, "channels is 16, and the decoder of .* has 8"),
        ({"auxiliary_weight": 0.4}, "auxiliary_weight is 0.4, and the decoder of .* has 0.3"),
        ({"probe_norm": True}, "probe_norm is True, and the decoder of .* has False"),
    ],
)
def test_another_decoder_is_refused(settings, changed, what):
    with pytest.raises(UnipError, match=what) as caught:
        finetune(**settings, **changed)
    assert "--from-backbone" in caught.value.fix


def test_the_same_decoder_may_be_given_and_other_sizes(settings, capsys):
    finetune(**settings, decoder="light", pyramid="fpn", channels=8, crop=32, base=(128, 32))
    spec = load_segmenter(settings["out"]).spec
    assert (spec.short_side, spec.crop) == (32, 32)
    assert "short side 32 (it had 48), crop 32 (it had 24)" in capsys.readouterr().out


def test_the_models_conversion_is_kept_and_another_is_told(settings, tmp_path, make_segmenter, capsys):
    conversion = {"method": "minmax"}
    save_segmenter(make_segmenter(decoder="light", auxiliary_weight=0.0, conversion=conversion), tmp_path / "minmax")
    values = {**settings, "model": str(tmp_path / "minmax")}
    finetune(**values)
    assert load_segmenter(settings["out"]).spec.conversion.method == "minmax"
    assert "note: counts become grey" not in capsys.readouterr().out
    finetune(**{**values, "out": tmp_path / "other"}, conversion="percentile")
    assert load_segmenter(tmp_path / "other").spec.conversion.method == "percentile"
    assert "note: counts become grey by percentiles" in capsys.readouterr().out


def test_a_continued_fine_tuning_resumes(settings, tmp_path):
    name_classes(settings["data"], "background", "cold", "hot", "bicycle")
    values = {**settings, "steps": 4, "lr": 1e-2}
    finetune(**values)
    other = {**values, "out": tmp_path / "other", "checkpoint_every": 2}
    finetune(**other)
    for path in (tmp_path / "other" / "checkpoints" / "step-00000004").iterdir():
        path.unlink()
    (tmp_path / "other" / "checkpoints" / "step-00000004").rmdir()
    finetune(**other)
    whole = load_segmenter(settings["out"]).state_dict()
    for name, tensor in load_segmenter(tmp_path / "other").state_dict().items():
        assert torch.equal(tensor, whole[name]), name


def test_a_run_and_a_name_of_the_zoo_are_segmenters_and_a_file_is_not(settings, model, backbone_folder):
    assert is_segmenter(str(model)) and is_segmenter("unip-aerial-tiny")
    assert not any(
        map(is_segmenter, (str(model / "model.safetensors"), str(backbone_folder), "unip_tiny", "deit-tiny"))
    )
    given = FinetuneConfig.make(**{**settings, "model": "unip-aerial-tiny"})
    known = load_segmenter("unip-aerial-tiny").spec.classes.names
    found = find_continued(given, Classes((*known, "bicycle2")))
    assert found is not None and found.rows == (*range(len(known)), None) and found.new == ("bicycle2",)


def test_names_that_are_one_class_are_refused(settings):
    name_classes(settings["data"], *NAMES, "Hot")
    with pytest.raises(UnipError, match="cannot be matched by name"):
        finetune(**settings)
