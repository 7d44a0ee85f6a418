"""How often verbs open each image: once to list it, once for choosing layers and pictures, once for the crops."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.analysis.undrawn import leave_undrawn
from unip import opening
from unip.analysis.verbs import analyze
from unip.data.statistics import stats
from unip.data.verbs import build, check, pack
from unip.features.verbs import dedup
from unip.pretraining.verbs import pretrain
from unip.vit.architecture import BackboneSpec
from unip.vit.spec import build_backbone

SHOWN = 2  # images of a picture

Counted = Callable[[Callable[[], Any]], Counter[str]]


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    """Twenty images: infrared and RGB by the names of their folders, and some of which pixels must tell."""
    rng = np.random.default_rng(0)
    for folder, count, shape in (("scene/thermal", 8, ()), ("scene/rgb", 6, (3,)), ("camera", 6, ())):
        (tmp_path / "mix" / folder).mkdir(parents=True)
        for number in range(count):
            frame = rng.integers(0, 256, (64, 80, *shape), dtype=np.uint8)
            Image.fromarray(frame).save(tmp_path / "mix" / folder / f"{number}.{'jpg' if shape else 'png'}")
    return tmp_path / "mix"


@pytest.fixture
def count(mix: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Count how often a call opens each image; a look at its first bytes costs no more than a `stat` and is none."""
    opened: Counter[str] = Counter()
    real = opening.regular

    def counting(path: Any, *rest: Any, **options: Any) -> int:
        if os.fsdecode(path).endswith((".png", ".jpg")) and os.fsdecode(path).startswith(str(mix)):
            opened[os.path.relpath(os.fsdecode(path), mix)] += 1
        return real(path, *rest, **options)

    def counted(call: Callable[[], Any]) -> Counter[str]:
        opened.clear()
        call()
        return opened.copy()

    monkeypatch.setattr(opening, "regular", counting)
    return counted


def backbone_file(path: Path) -> str:
    torch.manual_seed(0)
    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 64, "depth": 4, "num_heads": 1}
    model = build_backbone(BackboneSpec(arguments=arguments))
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.1)
    save_file(model.state_dict(), path)
    return str(path)


def test_pretraining(mix: Path, tmp_path: Path, count: Counted) -> None:
    values: dict[str, Any] = {
        "data": (str(mix),),
        "teacher": backbone_file(tmp_path / "teacher.safetensors"),
        "student": "unip_micro",
        "size": 32,
        "steps": 3,
        "batch_size": 4,
        "checkpoint_every": 1,
        "picture_every": 1,
        "workers": 0,
        "device": "cpu",
        "tensorboard": False,
    }
    infrared = 14  # of which the layer is chosen and pictures are drawn
    dry = count(lambda: pretrain(**values, out=tmp_path / "dry", dry_run=True))
    assert dry.total() == 20 + infrared and max(dry.values()) == 2
    for cache, crops in (("ram", 20), ("none", 3 * 4)):
        run = tmp_path / cache

        def again(cache: str = cache, run: Path = run) -> None:
            pretrain(**values, out=run, cache=cache)

        assert count(again).total() == 20 + infrared + crops
        assert not count(again)  # it is finished
        shutil.rmtree(run / "checkpoints/step-00000003")
        crops = 20 if cache == "ram" else 4
        resumed = count(again)
        assert resumed.total() == SHOWN + crops and max(resumed.values()) <= 2
        shutil.rmtree(run / "checkpoints")
        assert not count(again)
        shutil.copy(mix / "scene/thermal/0.png", mix / "scene/thermal/1.png")
        assert count(again) == {"scene/thermal/1.png": 1}


def test_data_verbs(mix: Path, tmp_path: Path, count: Counted) -> None:
    every = {os.path.relpath(path, mix): 1 for path in mix.rglob("*.*")}
    assert count(lambda: build(sources=(str(mix),), out=tmp_path / "built")) == every
    assert count(lambda: pack(manifest=tmp_path / "built/manifest.parquet", out=tmp_path / "packed")) == every
    assert count(lambda: dedup(sources=(str(mix),), out=tmp_path / "dedup")) == every
    assert count(lambda: stats(sources=(str(mix),))) == every
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(mix / "scene/thermal/0.png")  # small, and nothing in it
    checked = count(lambda: check(sources=(str(mix),), out=tmp_path / "checked", min_contrast=1, max_saturated=1))
    assert checked == {**every, "scene/thermal/0.png": 2}  # and for its picture


def test_a_check_of_labels(mix: Path, tmp_path: Path, count: Counted) -> None:
    shutil.copytree(mix / "camera", mix / "seg/images")
    shutil.move(mix / "camera", mix / "seg/masks")
    for path in (mix / "seg/masks").iterdir():
        Image.fromarray(np.repeat(np.arange(3, dtype=np.uint8), (30, 20, 30))[None].repeat(64, 0)).save(path)
    (mix / "seg/classes.json").write_text(json.dumps({"names": ["sky", "car", "road"]}))
    every = {os.path.relpath(path, mix): 1 for path in (mix / "seg").rglob("*.png")}
    limits = {"min_contrast": 1, "max_saturated": 1}
    assert len(every) == 12
    assert count(lambda: check(sources=(str(mix / "seg"),), out=tmp_path / "sources", **limits)) == every
    assert count(lambda: check(data=mix / "seg", out=tmp_path / "data", **limits)) == every


def test_analysis(mix: Path, tmp_path: Path, count: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_undrawn(monkeypatch)
    models = tuple(backbone_file(tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    for folder in ("pair", "seg/train/images", "seg/train/masks", "seg/val/images", "seg/val/masks"):
        shutil.copytree(mix / "camera", mix / folder)
        for path in (mix / folder).iterdir() if "masks" in folder else ():
            Image.fromarray(np.arange(64 * 80, dtype=np.uint8).reshape(64, 80) % 2).save(path)
    (mix / "seg/classes.json").write_text(json.dumps({"names": ["sky", "car"], "ignore_index": 255}))
    probe: dict[str, Any] = {"probe": mix / "seg", "probe_side": 32, "probe_images": (5, 5), "size": 32}
    pairs = {"images": (str(mix / "camera"),), "pair": (str(mix / "pair"),), "max_images": 4}
    opened = count(lambda: analyze(models=models, out=tmp_path / "out", **pairs, **probe))
    assert max(opened.values()) == 1
    assert Counter(os.path.dirname(path) for path in opened) == {
        "camera": 4,
        "pair": 4,
        "seg/train/images": 5,
        "seg/train/masks": 6,  # all, to draw such that each class occurs
        "seg/val/images": 5,
        "seg/val/masks": 6,
    }
