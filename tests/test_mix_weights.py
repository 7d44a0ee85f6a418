"""tools/mix_weights.py: the average of two backbones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unip.errors import UnipError
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from mix_weights import main

SMALL = {"img_size": 32, "embed_dim": 12, "depth": 2, "num_heads": 3}


def save(folder: Path, seed: int, **more: object) -> str:
    torch.manual_seed(seed)
    spec = BackboneSpec(timm_name="vit_tiny_patch16_224", arguments={**SMALL, **more})
    save_backbone(build_backbone(spec), spec, folder, mean=(0.5,) * 3, std=(0.2,) * 3, input_size=32, info={})
    return str(folder)


def test_each_weight_is_the_average_and_the_lineage_names_both(tmp_path):
    first, second = save(tmp_path / "first", 0), save(tmp_path / "second", 1)
    main(first, second, 0.75, tmp_path / "mixed")
    one, two, mixed = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second", "mixed"))
    assert one.keys() == mixed.keys()
    for name, found in mixed.items():
        wanted = 0.75 * one[name].double().numpy() + 0.25 * two[name].double().numpy()
        np.testing.assert_allclose(found.double().numpy(), wanted, atol=1e-6, err_msg=name)
    backbone = load_backbone(str(tmp_path / "mixed"))
    assert backbone.mean == (0.5,) * 3 and backbone.input_size == 32
    text = (tmp_path / "mixed" / "config.json").read_text()
    assert '"first"' in text and '"second"' in text


def test_other_shapes_and_folders_that_are_there_are_refused(tmp_path):
    first, wide = save(tmp_path / "first", 0), save(tmp_path / "wide", 1, embed_dim=24)
    with pytest.raises(UnipError, match="not of one shape"):
        main(first, wide, 0.5, tmp_path / "mixed")
    with pytest.raises(UnipError, match="exists"):
        main(first, first, 0.5, tmp_path / "wide")
    assert not (tmp_path / "mixed").exists()
