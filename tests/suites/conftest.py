"""A suite small enough to run in seconds: generated scenes, a ViT of 16 channels, a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from unip.data.synthetic.config import ScenesConfig
from unip.data.synthetic.files import write_scenes
from unip.vit.architecture import BackboneSpec
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone

VIT = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2})
STEPS: dict[str, Any] = {
    "steps": 2,
    "batch_size": 2,
    "crop": 32,
    "base": [64, 32],
    "decoder": "light",
    "channels": 8,
    "lr": 1e-3,
    "compile": False,
    "workers": 0,
    "tensorboard": False,
}
PROBE = {**{key: value for key, value in STEPS.items() if key not in ("decoder", "channels")}, "lr": 1e-2}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """12 scenes of 64 x 48 pixels: 6 to train, 3 to choose, 3 to test."""
    out = tmp_path_factory.mktemp("bench") / "scenes"
    write_scenes(ScenesConfig.make(out=out, count=12, size=(48, 64), splits=(6, 3, 3), workers=1))
    return out


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A folder with two backbones, `a` and `b`."""
    out = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        model = build_backbone(VIT)
        save_backbone(model, VIT, out / name, mean=[0.4] * 3, std=[0.2] * 3, input_size=32, info={})
    return out


@pytest.fixture
def make_suite(tmp_path) -> Callable[..., Path]:
    """Write a suite of two starts and one fine-tuning; arguments change it."""

    def make(**changes: Any) -> Path:
        values = {
            "title": "Tiny",
            "inits": {"a": "{weights}/a", "b": "{weights}/b"},
            "datasets": {"scenes": {"data": "{scenes}", "val": "val"}},
            "protocols": {"fine-tuned": {"kind": "finetune", "settings": STEPS}},
            "seeds": [0],
            "baseline": "b",
            "speed_batch": 1,
        }
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**values, **changes}))
        return path

    return make
