"""The models that have a name."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import get_pretrained_cfg

import unip
from unip.errors import UnipError
from unip.segmentation.storage import load_segmenter
from unip.vit.backbone import load_backbone
from unip.vit.sources import check_backbone, find_source, parse_source
from unip.zoo.catalogue import FILES, ZooModel, catalogue, shipped_folder
from unip.zoo.lineage import read_lineage

SHIPPED = [model for model in catalogue().values() if model.shipped]
OF_TIMM = [model for model in catalogue().values() if model.source and model.source.startswith("timm:")]
FROM_HUB = [model for model in catalogue().values() if model.repository]


def test_each_model_is_in_one_place() -> None:
    for model in catalogue().values():
        places = [model.shipped, bool(model.source), bool(model.repository), bool(model.how_to_make)]
        assert sum(places) == 1, model.name
        assert re.fullmatch(r"[a-z0-9-]+", model.name)


def test_the_package_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES.rglob("*") if file.is_file()) <= 14e6
    assert {folder.name for folder in FILES.iterdir()} == {model.name for model in SHIPPED}


@pytest.mark.parametrize("model", SHIPPED, ids=lambda model: model.name)
def test_shipped_models_load_and_tell_their_lineage(model: ZooModel) -> None:
    weights = model.folder / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == model.sha256
    backbone = load_backbone(model.name)  # a segmenter's too
    assert backbone.report is not None and backbone.report.matched == len(backbone.model.state_dict())
    assert sum(p.numel() for p in backbone.model.parameters()) / 1e6 <= model.parameters + 0.1
    if model.kind == "segmenter":
        segmenter = load_segmenter(model.name)
        assert sum(p.numel() for p in segmenter.parameters()) / 1e6 == pytest.approx(model.parameters, abs=0.1)
    record = json.loads((model.folder / "config.json").read_text())
    lineage = read_lineage(record, "config.json")
    assert lineage is not None and lineage.ancestors and not lineage.hindrances()
    assert all(one.licence for one in lineage.ancestors)
    assert {one.role for one in lineage.ancestors} >= {"init", "data"}
    assert "/" not in json.dumps(record.get("info", {})).replace("km/h", "")  # no paths of a machine


def test_the_shipped_segmenter_says_what_its_confidence_means(tmp_path) -> None:
    """Measured on frames that it was not trained on; `--risk` works without any further step."""
    calibration = unip.load("unip-aerial-tiny", device="cpu").calibration
    assert calibration is not None and calibration.images == 192
    assert calibration.data == "HIT-UAV, validation flights (CC BY 4.0)"  # no path of a machine
    card = (FILES / "unip-aerial-tiny" / "README.md").read_text(encoding="utf-8")
    assert f"192 images of {calibration.data}: temperature {calibration.temperature:g}" in card
    Image.fromarray(np.random.default_rng(0).integers(90, 140, (24, 24), np.uint8)).save(tmp_path / "a.png")
    found = unip.predict(
        model="unip-aerial-tiny", images=tmp_path / "a.png", out=tmp_path / "out", risk=0.05, device="cpu"
    )
    record = json.loads((found.out / "predictions.json").read_text())
    expected = calibration.thresholds(0.05)
    for name, threshold in zip(load_segmenter("unip-aerial-tiny").spec.classes.names, expected, strict=True):
        assert record["thresholds"][name] == (None if threshold > 1 else pytest.approx(float(threshold), abs=1e-6))
    mask = np.asarray(Image.open(found.masks[tmp_path / "a.png"]))
    assert record["images"][0]["unknown"] == pytest.approx((mask == 255).mean(), abs=1e-6)


@pytest.mark.parametrize("model", OF_TIMM, ids=lambda model: model.name)
def test_timms_models_exist_and_have_the_licence_and_the_size(model: ZooModel) -> None:
    name = parse_source(model.name).name
    described = get_pretrained_cfg(name)
    assert described is not None and described.hf_hub_id
    architecture = name.partition(".")[0]
    with torch.device("meta"):
        module = timm.create_model(architecture, num_classes=0, pretrained=False)
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(model.parameters, rel=0.01)
    stated = (described.license or "").lower()
    if stated != (model.licence or "").lower().replace(" ", "-"):
        assert model.note and stated.replace("-", " ") in model.note.lower().replace("-", " ")  # and the note says so


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("unip_tiny_mae-l.pth", "unip-paper-tiny-mae-l"),
        ("mae-l_distill_unip-s.pth", "unip-paper-small-mae-l"),
        ("UNIP-S_DINO-B.pth", "unip-paper-small-dino-b"),
        ("ibot-l_unip-s.safetensors", "unip-paper-small-ibot-l"),
        ("unip-b_mae-l.pth", "unip-paper-base-mae-l"),
    ],
)
def test_a_file_of_the_authors_is_one_models(file: str, name: str) -> None:
    assert [model.name for model in FROM_HUB if re.fullmatch(model.pattern or "", file)] == [name]


def test_names_that_are_not_here_say_what_to_do() -> None:
    with pytest.raises(UnipError, match="unip-ir-small is not in this package") as caught:
        check_backbone("unip-ir-small")
    assert "bench zoo" in caught.value.fix
    with pytest.raises(UnipError, match="no backbone 'unip-ir-tny'") as caught:
        find_source("unip-ir-tny")
    assert "unip-ir-tiny" in caught.value.fix


def test_a_name_of_the_other_kind() -> None:
    assert shipped_folder("unip-ir-tiny", "backbone") == FILES / "unip-ir-tiny"
    assert shipped_folder("deit-tiny", "backbone") is None
    with pytest.raises(UnipError, match="unip-ir-tiny is a backbone, and a segmenter is needed"):
        load_segmenter(Path("unip-ir-tiny"))
