"""A model and folders small enough to train in a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.labelled.classes import Classes
from unip.segmentation.model import Segmenter, SegmenterSpec, default_layers
from unip.vit.architecture import BackboneSpec
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone

NAMES = ("background", "hot", "cold")
VIT = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2})


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # precision auto must not mean another one where tests happen to run on a processor with bfloat16
    monkeypatch.setattr("unip.runtime.device.native_bfloat16", lambda: "")


@pytest.fixture
def make_segmenter() -> Callable[..., Segmenter]:
    def make(backbone: BackboneSpec = VIT, **changes) -> Segmenter:
        decoder, pyramid = changes.get("decoder", "upernet"), changes.get("pyramid", "llfpn")
        depth = len(build_backbone(backbone).blocks)
        values = {
            "classes": Classes(NAMES),
            "layers": default_layers(decoder, pyramid, depth),
            "channels": 8,
            "mean": (0.4, 0.3, 0.2),
            "std": (0.2, 0.3, 0.4),
            "short_side": 32,
            "crop": 32,
            "stride": 21,
        }
        return Segmenter(SegmenterSpec(backbone=backbone, **{**values, **changes})).eval()

    return make


@pytest.fixture
def backbone_folder(tmp_path: Path) -> Path:
    """A backbone as pre-training leaves it: fixed positions and 4 heads in the last block, 2 in the others."""
    spec = VIT.model_copy(update={"last_heads": 4, "fixed_positions": True})
    folder = tmp_path / "backbone"
    save_backbone(build_backbone(spec), spec, folder, mean=[0.38] * 3, std=[0.19] * 3, input_size=32, info={})
    return folder


@pytest.fixture
def segmentation_folder(tmp_path: Path) -> Path:
    """Grey frames of 40 x 32 pixels with a bright and a dark square, splits train (6) and test (3)."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(110, 130, (32, 40), dtype=np.uint8)
            mask = np.zeros((32, 40), np.uint8)
            for label, level in ((1, 250), (2, 5)):
                top, left = rng.integers(0, 20), rng.integers(0, 28)
                image[top : top + 12, left : left + 12] = level
                mask[top : top + 12, left : left + 12] = label
            mask[0] = 255
            Image.fromarray(image).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"names": NAMES, "ignore_index": 255}))
    return root


@pytest.fixture
def small_run(tmp_path, backbone_folder, segmentation_folder):
    """What every small fine-tuning on this machine has in common."""
    run = {"model": str(backbone_folder), "data": segmentation_folder, "out": tmp_path / "run", "recipe": "fast"}
    return {**run, "device": "cpu", "workers": 0, "tensorboard": False}
