"""Exported backbones: readable by us and by timm, and guarded where timm would be silently wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from unip.errors import UnipError
from unip.outputs import output_folder
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import load_timm, save_backbone
from unip.vit.spec import build_backbone, set_last_heads
from unip.vit.student import student_spec
from unip.vit.weights import load_into, read_checkpoint

INFO = {"made_by": "a test", "licence": "CC BY 4.0", "attribution": "Somebody, Somewhere"}
SMALL = {"img_size": 32, "patch_size": 16, "embed_dim": 128, "depth": 2, "num_heads": 2}


def save(model: nn.Module, spec: BackboneSpec, folder: Path) -> Path:
    return save_backbone(model, spec, folder, mean=[0.38] * 3, std=[0.19] * 3, input_size=32, info=INFO)


def features(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model.eval().forward_features(torch.randn(2, 3, 32, 32))


def code_of_card(folder: Path, variable: str) -> str:
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    return next(block for block in blocks if f"{variable} =" in block).replace("model.safe", f"{folder}/model.safe")


def run(code: str) -> Any:
    scope: dict[str, Any] = {}
    exec(code, scope)
    return scope["model"]


@pytest.mark.parametrize(
    "spec",
    [
        student_spec("unip_micro"),
        BackboneSpec(arguments={**SMALL, "init_values": 1e-5, "reg_tokens": 2, "no_embed_class": True}),
        BackboneSpec(timm_name="vit_small_patch16_dinov3", arguments={"embed_dim": 128, "depth": 2, "num_heads": 2}),
        BackboneSpec(timm_name="vit_base_patch16_siglip_224", arguments=SMALL),
    ],
)
def test_uniform_heads_load_strictly_with_plain_timm_as_the_card_says(tmp_path: Path, spec: BackboneSpec) -> None:
    model = build_backbone(spec)
    folder = save(model, spec, tmp_path / "model")
    plain = run(code_of_card(folder, "model"))
    torch.testing.assert_close(features(plain), features(model), rtol=0, atol=0)
    torch.testing.assert_close(features(load_timm(folder)), features(model), rtol=0, atol=0)


def test_own_last_heads_fail_clearly_in_plain_timm_and_load_with_ours(tmp_path: Path) -> None:
    spec = student_spec("unip_micro", last_heads=16)
    model = build_backbone(spec)
    folder = save(model, spec, tmp_path / "model")
    file = folder / "model.safetensors"
    shape = {"embed_dim": 96, "depth": 6, "num_heads": 3}
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"blocks\.5\.attn\.num_heads\""):
        timm.create_model("vit_tiny_patch16_224", num_classes=0, checkpoint_path=str(file), **shape)
    with safe_open(file, framework="pt") as archive:
        assert archive.metadata()["last_heads"] == "16"
        assert int(archive.get_tensor("blocks.5.attn.num_heads")) == 16
    right = load_timm(file)
    torch.testing.assert_close(features(right), features(model), rtol=0, atol=0)
    torch.testing.assert_close(features(run(code_of_card(folder, "model"))), features(model), rtol=0, atol=0)
    set_last_heads(right, 3)  # what plain timm would have computed without the guard
    assert (features(right) - features(model)).abs().max() > 1e-4


def test_the_guard_alone_tells_the_heads(tmp_path: Path) -> None:
    spec = BackboneSpec(arguments=SMALL, last_heads=8)
    model = build_backbone(spec)
    folder = save(model, spec, tmp_path / "model")
    with safe_open(folder / "model.safetensors", framework="pt") as archive:
        state = {name: archive.get_tensor(name) for name in archive.keys()}
    torch.save(state, tmp_path / "copy.pth")  # converted by someone: the metadata is lost
    torch.testing.assert_close(features(load_timm(tmp_path / "copy.pth")), features(model), rtol=0, atol=0)


@pytest.mark.parametrize("heads", [13, 20])
def test_heads_that_do_not_divide_the_width_load_from_everywhere(tmp_path: Path, heads: int) -> None:
    spec = student_spec("unip_micro", last_heads=heads)
    model = build_backbone(spec)
    folder = save(model, spec, tmp_path / "model")
    file = folder / "model.safetensors"
    copied = load_file(file)
    torch.save(copied, tmp_path / "copy.pth")
    named = f"timm:vit_tiny_patch16_224@{file}"
    for source in (folder, file):
        torch.testing.assert_close(features(load_timm(source)), features(model), rtol=0, atol=0)
    read = read_checkpoint(tmp_path / "copy.pth")  # metadata lost, the guard tells the heads
    assert read.last_heads == heads
    with pytest.raises(UnipError, match=f"was trained with {heads} heads in its last block, but the model has 3"):
        load_into(build_backbone(student_spec("unip_micro")), read)
    with pytest.raises(UnipError, match="is 96 wide, but the model is 192 wide"):
        load_backbone(named)
    assert f"{heads} heads in the last block of {-(-96 // heads)} channels each" in (folder / "README.md").read_text()


def test_a_bare_file_of_128_channels_is_read_with_its_uneven_heads(tmp_path: Path) -> None:
    spec = BackboneSpec(arguments=SMALL, last_heads=13)
    model = build_backbone(spec)
    file = save(model, spec, tmp_path / "model") / "model.safetensors"
    torch.save(load_file(file), tmp_path / "copy.pth")
    torch.testing.assert_close(features(load_timm(tmp_path / "copy.pth")), features(model), rtol=0, atol=0)
    bare = {name: value for name, value in load_file(file).items() if "num_heads" not in name}
    torch.save(bare, tmp_path / "bare.pth")  # nothing tells 13 x 10 from 10 x 13
    with pytest.raises(
        UnipError, match=r"last block cannot be inferred from the tensors: they may be 5, 10, 13, 26, 65"
    ):
        load_backbone(str(tmp_path / "bare.pth"))
    with pytest.raises(UnipError, match="are 130 channels wide together, but the model's 2 heads 128"):
        load_into(build_backbone(BackboneSpec(arguments=SMALL)), read_checkpoint(tmp_path / "bare.pth"))


def test_a_bare_file_whose_uneven_heads_can_only_be_one_count(tmp_path: Path) -> None:
    model = build_backbone(BackboneSpec(arguments=SMALL, last_heads=100))  # 100 x 2 and nothing else makes 200
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    found = load_backbone(str(tmp_path / "bare.pth"))
    assert found.spec.last_heads == 100
    torch.testing.assert_close(features(found.model), features(model), rtol=0, atol=0)


def test_lists_in_the_card_are_told_in_words(tmp_path: Path) -> None:
    spec = BackboneSpec(arguments=SMALL)
    info = {"teachers": [{"source": "a", "layer": 3}, {"source": "b", "layer": 4}]}
    folder = save_backbone(
        build_backbone(spec), spec, tmp_path / "model", mean=[0.38] * 3, std=[0.19] * 3, input_size=32, info=info
    )
    assert "- teachers: source a, layer 3; source b, layer 4\n" in (folder / "README.md").read_text()


def test_the_folder_holds_config_and_card(tmp_path: Path) -> None:
    spec = student_spec("unip_micro", last_heads=16)
    folder = save(build_backbone(spec), spec, tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == "unip-backbone-1"
    assert BackboneSpec.make(**config["spec"]) == spec
    assert (config["mean"], config["std"], config["input_size"], config["info"]) == ([0.38] * 3, [0.19] * 3, 32, INFO)
    card = (folder / "README.md").read_text()
    for part in ("embed_dim 96", "16 heads in the last block", "licence: CC BY 4.0", "attribution: Somebody", "0.38"):
        assert part in card


def test_saving_again_replaces_the_folder(tmp_path: Path) -> None:
    spec = BackboneSpec(arguments=SMALL)
    save(build_backbone(spec), spec, tmp_path / "model")
    second = build_backbone(spec)
    with pytest.raises(UnipError, match="model exists"):
        save(second, spec, tmp_path / "model")
    with output_folder(tmp_path / "out"):
        save(build_backbone(spec), spec, tmp_path / "out/model")
        folder = save(second, spec, tmp_path / "out/model")
    torch.testing.assert_close(features(load_timm(folder)), features(second), rtol=0, atol=0)


def test_a_spec_that_does_not_describe_the_model_is_a_mistake(tmp_path: Path) -> None:
    model = build_backbone(student_spec("unip_micro", last_heads=16))
    with pytest.raises(ValueError, match="the last block has 16 heads, the spec says None"):
        save(model, student_spec("unip_micro"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spec = BackboneSpec(arguments=SMALL)
    with pytest.raises(UnipError, match="cannot write"):
        save(build_backbone(spec), spec, tmp_path / "file" / "model")
