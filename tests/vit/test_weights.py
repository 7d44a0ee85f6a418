"""Reading checkpoints of every layout: tiny random ones, written in the layout, loaded, features compared."""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unip.errors import UnipError
from unip.files import sha256
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.spec import build_backbone
from unip.vit.weights import load_into, read_checkpoint

SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}
State = dict[str, Tensor]


def reference(**arguments: Any) -> VisionTransformer:
    """A plain ViT of timm whose every tensor is random, biases, norms and tokens included."""
    torch.manual_seed(0)
    model = VisionTransformer(**{**SHAPE, "num_classes": 5, **arguments}).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def backbone_state(model: nn.Module) -> State:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("head")}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def timm_pth(model: nn.Module) -> Any:
    return model.state_dict()


def wrapped(model: nn.Module) -> Any:
    return {"epoch": 3, "state_dict": prefixed(model.state_dict(), "module.")}


def mae(model: nn.Module) -> Any:
    decoder = {
        "mask_token": torch.zeros(1, 1, 64),
        "decoder_pos_embed": torch.zeros(1, 17, 64),
        "decoder_embed.weight": torch.zeros(64, 128),
        "decoder_blocks.0.attn.qkv.weight": torch.zeros(192, 64),
    }
    args = argparse.Namespace(model="mae_vit_tiny", blr=1.5e-4, betas=(0.9, 0.95))
    return {"model": {**backbone_state(model), **decoder}, "optimizer": {"state": {}}, "epoch": 1, "args": args}


def dino(model: nn.Module) -> Any:
    head = {"head.mlp.0.weight": torch.zeros(4, 128), "head.last_layer.weight_g": torch.zeros(4, 1)}
    student = prefixed({**prefixed(reference().state_dict(), "backbone."), **head}, "module.")
    other = {name: torch.full_like(value, 9.0) for name, value in student.items()}
    teacher = {**prefixed(backbone_state(model), "backbone."), **head}
    return {"student": other, "teacher": teacher, "epoch": 1, "args": argparse.Namespace(arch="vit_tiny")}


def ibot(model: nn.Module) -> Any:
    state = {**backbone_state(model), "masked_embed": torch.zeros(1, 128)}
    head = {"module.head.mlp.0.weight": torch.zeros(4, 128), "module.head.last_layer2.weight": torch.zeros(4, 1)}
    return {"student": {**prefixed(state, "module.backbone."), **head}}


def deit(model: nn.Module) -> Any:
    return {"model": model.state_dict()}


def mmseg(model: nn.Module) -> Any:
    decode = {"decode_head.conv_seg.weight": torch.zeros(3, 8, 1, 1)}
    return {"meta": {"epoch": 1}, "state_dict": {**prefixed(backbone_state(model), "backbone."), **decode}}


def dinov2(model: nn.Module) -> Any:
    return {**backbone_state(model), "mask_token": torch.zeros(1, 128)}


def deit3(model: nn.Module) -> Any:
    names = {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    return {"model": state}


MOVED = ("fc_norm.weight -> norm.weight", "fc_norm.bias -> norm.bias")
LAYER_SCALE = {"init_values": 1e-5}
LAYOUTS: list[tuple[Callable[[nn.Module], Any], dict[str, Any], str, int]] = [
    (timm_pth, {}, "ViT", 2),
    (timm_pth, {"qkv_bias": False, "mlp_ratio": 8 / 3}, "ViT", 2),
    (timm_pth, {"class_token": False, "global_pool": "avg", "fc_norm": False}, "ViT", 2),
    (timm_pth, {"global_pool": "avg", "fc_norm": True}, "ViT", 2),
    (timm_pth, {"qk_norm": True, "num_heads": 4}, "ViT", 2),
    (timm_pth, {"reg_tokens": 4, "no_embed_class": True}, "ViT", 2),
    (timm_pth, {"reg_tokens": 2}, "ViT", 2),
    (wrapped, {}, "ViT in 'state_dict'", 2),
    (mae, {}, "MAE", 4),
    (dino, {}, "DINO", 2),
    (ibot, {}, "iBOT", 3),
    (deit, {}, "ViT in 'model'", 2),
    (mmseg, {}, "ViT in 'state_dict'", 1),
    (deit3, {"no_embed_class": True, **LAYER_SCALE}, "DeiT III", 2),
    (dinov2, LAYER_SCALE, "DINOv2", 1),
]


@pytest.mark.parametrize(("write", "arguments", "layout", "ignored"), LAYOUTS)
def test_every_layout_gives_the_same_features(
    tmp_path: Path, write: Callable[[nn.Module], Any], arguments: dict[str, Any], layout: str, ignored: int
) -> None:
    model = reference(**arguments)
    torch.save(write(model), tmp_path / "file.pth")
    backbone = load_backbone(str(tmp_path / "file.pth"))
    report = backbone.report
    assert report is not None
    assert (report.layout, report.resized) == (layout, ())
    assert report.matched == len(backbone_state(model)) == len(backbone.model.state_dict())
    assert report.moved == (MOVED if arguments.get("fc_norm") else ())
    assert len(report.ignored) == ignored
    assert backbone.input_size == 32
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.fc_norm(model.forward_features(images))  # fc_norm is a no-op in most
        ours = backbone.model.eval().forward_features(images)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_dinov2_registers_have_no_position_and_the_class_token_has(tmp_path: Path) -> None:
    model = reference(init_values=1e-5)
    registers = torch.randn(1, 4, 128)
    torch.save({**dinov2(model), "register_tokens": registers}, tmp_path / "reg.pth")
    backbone = load_backbone(str(tmp_path / "reg.pth"))
    assert backbone.report is not None
    assert (backbone.report.layout, backbone.report.ignored) == ("DINOv2", ("mask_token",))
    assert backbone.report.matched == len(backbone.model.state_dict())
    assert backbone.model.num_prefix_tokens == 5
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        patches = model.patch_embed(images) + model.pos_embed[:, 1:]
        first = model.cls_token + model.pos_embed[:, :1]
        tokens = torch.cat([first.expand(2, -1, -1), registers.expand(2, -1, -1), patches], dim=1)
        expected = model.norm(model.blocks(tokens))
        ours = backbone.model.eval().forward_features(images)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_distilled_deit(tmp_path: Path) -> None:
    spec = BackboneSpec(timm_name="deit_tiny_distilled_patch16_224", arguments=SHAPE)
    model = build_backbone(spec).eval()
    heads = {"head.weight": torch.zeros(5, 128), "head_dist.weight": torch.zeros(5, 128)}
    torch.save({"model": {**model.state_dict(), **heads}}, tmp_path / "distilled.pth")
    backbone = load_backbone(str(tmp_path / "distilled.pth"))
    assert backbone.report is not None
    assert backbone.report.layout == "DeiT, distilled"
    assert backbone.report.ignored == ("head.weight", "head_dist.weight")
    assert backbone.model.num_prefix_tokens == 2
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        ours = backbone.model.eval().forward_features(images)
        torch.testing.assert_close(ours, model.forward_features(images), rtol=0, atol=0)


def test_unip_files_carry_the_last_blocks_heads(tmp_path: Path) -> None:
    payload = {"model": backbone_state(reference()), "args": argparse.Namespace(last_heads=8)}
    torch.save(payload, tmp_path / "unip.pth")
    backbone = load_backbone(str(tmp_path / "unip.pth"))
    assert backbone.report is not None
    assert backbone.report.layout == "UNIP"
    assert [block.attn.num_heads for block in backbone.model.blocks] == [2, 8]
    assert backbone.spec.last_heads == 8
    assert (backbone.mean, backbone.std) == ((0.3801,) * 3, (0.1871,) * 3)  # as trained
    uniform = build_backbone(BackboneSpec(arguments=SHAPE))
    with pytest.raises(UnipError, match=r"8 heads in its last block, but the model has 2 there\nBuild .*last_heads=8"):
        load_into(uniform, read_checkpoint(tmp_path / "unip.pth"))


def test_half_precision_is_cast_to_float32(tmp_path: Path) -> None:
    model = reference()
    save_file({name: value.half() for name, value in model.state_dict().items()}, tmp_path / "half.safetensors")
    backbone = load_backbone(str(tmp_path / "half.safetensors"))
    for name, value in backbone.model.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, model.state_dict()[name].half().float(), rtol=0, atol=0)


def dinov3_state(model: Eva) -> State:
    """Meta's names of a DINOv3: fused q/k/v bias with its mask, LayerScale modules, storage tokens, periods."""
    state: State = {"mask_token": torch.zeros(1, 128), "rope_embed.periods": torch.ones(16)}
    for name, value in model.state_dict().items():
        name = name.replace("reg_token", "storage_tokens")
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        state[name] = value
        if name.endswith("attn.qkv.weight"):
            state[name.replace("weight", "bias")] = torch.zeros(384)
            state[name.replace("weight", "bias_mask")] = torch.zeros(384)
    return state


def test_dinov3_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = BackboneSpec(timm_name="vit_small_patch16_dinov3", arguments={"embed_dim": 128, "depth": 2, "num_heads": 2})
    source, target = build_backbone(spec).eval(), build_backbone(spec).eval()
    torch.save(dinov3_state(source), tmp_path / "dinov3.pth")
    report = load_into(target, read_checkpoint(tmp_path / "dinov3.pth"))
    assert (report.layout, report.matched) == ("DINOv3", len(target.state_dict()))
    images = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(target.forward_features(images), source.forward_features(images), rtol=0, atol=0)
    with pytest.raises(UnipError, match=r"it is a DINOv3\nName it with timm:NAME@FILE.*dinov3@FILE"):
        load_backbone(str(tmp_path / "dinov3.pth"))


def test_positions_are_resized_bicubic(tmp_path: Path) -> None:
    model = reference()
    torch.save(model.state_dict(), tmp_path / "small.pth")
    target = build_backbone(BackboneSpec(arguments={**SHAPE, "img_size": 48}))
    report = load_into(target, read_checkpoint(tmp_path / "small.pth"))
    assert report.resized == ("pos_embed (1, 17, 128) -> (1, 37, 128)",)
    grid = model.pos_embed.detach()[:, 1:].reshape(1, 4, 4, 128).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(target.pos_embed[:, 1:], grid.flatten(2).transpose(1, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(target.pos_embed[:, 0], model.pos_embed[:, 0], rtol=0, atol=0)


@pytest.mark.parametrize("bare_file", [True, False])
def test_a_class_position_is_added_or_folded_where_the_model_has_it_otherwise(tmp_path: Path, bare_file: bool) -> None:
    model = reference(no_embed_class=bare_file)
    torch.save(model.state_dict(), tmp_path / "file.pth")
    target = build_backbone(BackboneSpec(arguments={**SHAPE, "no_embed_class": not bare_file})).eval()
    load_into(target, read_checkpoint(tmp_path / "file.pth"))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        ours = target.forward_features(images)
        torch.testing.assert_close(ours, model.forward_features(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["pos_embed", "cls_token"])
@pytest.mark.parametrize("bare_file", [True, False])
def test_prefix_tensors_of_other_shapes_are_refused(tmp_path: Path, bare_file: bool, name: str) -> None:
    state = reference(no_embed_class=bare_file).state_dict()
    count = state["pos_embed"].shape[1]
    shapes = [
        (count, 1, 128),
        (2, count, 128),
        (1, count, 64),
        (count, 128),
        (1, 1, 1, 128),
        (0, count, 128),
        (1, 0, 128),
    ]
    for shape in shapes:
        torch.save({**state, name: torch.zeros(shape)}, tmp_path / "file.pth")
        target = build_backbone(BackboneSpec(arguments={**SHAPE, "no_embed_class": not bare_file}))
        with pytest.raises(UnipError):
            load_into(target, read_checkpoint(tmp_path / "file.pth"))


def test_the_report_says_file_hash_and_keys(tmp_path: Path) -> None:
    state = {**backbone_state(reference()), "head.weight": torch.zeros(5, 128), "neck.weight": torch.zeros(1)}
    file = tmp_path / "file.safetensors"
    save_file(state, file)
    report = load_into(build_backbone(BackboneSpec(arguments=SHAPE)), read_checkpoint(file))
    assert (report.file, report.sha256) == (str(file), sha256(file))
    assert (report.matched, report.ignored) == (30, ("head.weight", "neck.weight"))
    text = str(report)
    for part in (
        str(file),
        report.sha256[:12],
        "ViT layout",
        "matched 30 tensors",
        "ignored 2: head.weight, neck.weight",
    ):
        assert part in text
    save_file({**state, "adapter.weight": torch.ones(1)}, file)
    with pytest.raises(UnipError, match=r"holds adapter\.weight, which the model has no place for"):
        load_into(build_backbone(BackboneSpec(arguments=SHAPE)), read_checkpoint(file))
    del state["norm.bias"]
    save_file(state, file)
    with pytest.raises(UnipError, match=r"has no norm\.bias, which the model needs\nUse a complete file"):
        load_into(build_backbone(BackboneSpec(arguments=SHAPE)), read_checkpoint(file))


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    payload = {"model": backbone_state(reference()), "args": Evil(tmp_path / "ran")}
    file = tmp_path / "evil.pth"
    if zipped:
        torch.save(payload, file)
    else:
        file.write_bytes(pickle.dumps({"args": payload["args"]}))
    with pytest.raises(UnipError, match=r"would run \w+\.mkdir when loaded; it was refused and nothing was run"):
        read_checkpoint(file)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()  # the trap works where nothing stops it


def test_only_a_namespace_is_allowed_besides_tensors(tmp_path: Path) -> None:
    torch.save({"model": backbone_state(reference()), "args": Path("x")}, tmp_path / "path.pth")
    with pytest.raises(UnipError, match="would run pathlib"):
        read_checkpoint(tmp_path / "path.pth")


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.99])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_truncated_files(tmp_path: Path, name: str, share: float) -> None:
    file = tmp_path / name
    if name.endswith("pth"):
        torch.save(reference().state_dict(), file)
    else:
        save_file(reference().state_dict(), file)
    cut(file, share)
    with pytest.raises(UnipError, match=f"{name} is truncated or not a checkpoint"):
        read_checkpoint(file)


def test_a_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.bin").write_text("<html>404</html>" * 20)
    with pytest.raises(UnipError, match="truncated or not a checkpoint"):
        read_checkpoint(tmp_path / "notes.bin")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_name_the_tensor(tmp_path: Path, bad: float) -> None:
    state = backbone_state(reference())
    state["blocks.1.mlp.fc1.bias"][3] = bad
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(UnipError, match=r"tensor blocks\.1\.mlp\.fc1\.bias holds NaN or infinity"):
        read_checkpoint(tmp_path / "nan.pth")


def load_state(tmp_path: Path, state: State, **arguments: Any) -> None:
    torch.save(state, tmp_path / "file.pth")
    load_into(build_backbone(BackboneSpec(arguments={**SHAPE, **arguments})), read_checkpoint(tmp_path / "file.pth"))


def test_another_width_names_both(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match=r"file\.pth is 128 wide, but the model is 64 wide"):
        load_state(tmp_path, reference().state_dict(), embed_dim=64)


def test_more_blocks_than_the_model_has(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match=r"has 2 blocks, but the model has 1"):
        load_state(tmp_path, reference().state_dict(), depth=1)


def test_another_shape(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match=r"blocks\.0\.mlp\.fc1\.weight is \(512, 128\), but the model has \(256, 128\)"):
        load_state(tmp_path, reference().state_dict(), mlp_ratio=2)


def test_positions_that_are_no_grid(tmp_path: Path) -> None:
    state = backbone_state(reference())
    state["pos_embed"] = torch.zeros(1, 15, 128)
    with pytest.raises(UnipError, match="its positions or names do not fit VisionTransformer"):
        load_state(tmp_path, state)


def test_a_backbone_that_would_stay_random_is_refused(tmp_path: Path) -> None:
    state = {name: value for name, value in backbone_state(reference()).items() if not name.startswith("blocks.")}
    with pytest.raises(UnipError, match=r"has no blocks\.0.*and 20 more, which the model needs\nUse a complete file"):
        load_state(tmp_path, state)


def test_missing_file_folder_and_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match=r"no\.pth does not exist"):
        read_checkpoint(tmp_path / "no.pth")
    with pytest.raises(UnipError, match="is a folder"):
        read_checkpoint(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UnipError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "empty.pth")


def changed(**tensors: Tensor | None) -> State:
    state = {**backbone_state(reference()), **{name.replace("__", "."): t for name, t in tensors.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"norm.weight": torch.zeros(128)}, "holds no ViT: there is no tensor patch_embed"),
        ({"embeddings.patch_embeddings.projection.weight": torch.zeros(1)}, "names of Hugging Face transformers"),
        (
            changed(**dict.fromkeys(("blocks__0__mlp__w12__weight", "blocks__1__mlp__w12__weight"), torch.zeros(1))),
            r"it holds blocks\.0\.mlp\.w12\.weight, which a plain",
        ),
        (changed(norm_pre__weight=torch.zeros(128)), "it holds norm_pre.weight, which"),
        (changed(patch_embed__proj__bias=None), "it has no patch_embed.proj.bias"),
        (changed(pos_embed=None), "it has no pos_embed"),
        (
            changed(**{f"blocks__{i}__mlp__fc2__weight": torch.zeros(128, 256) for i in range(2)}),
            "its MLPs are gated",
        ),
        (changed(pos_embed=torch.zeros(1, 15, 128)), "its 15 positions are no square grid"),
        (changed(patch_embed__proj__weight=torch.zeros(128, 4, 8, 8)), "is not one of 3-channel images"),
        (changed(patch_embed__proj__weight=torch.zeros(100, 3, 8, 8)), "100 channels are no multiple of 64"),
    ],
)
def test_what_cannot_be_told_from_tensors_is_refused(tmp_path: Path, state: State, message: str) -> None:
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(UnipError, match=message):
        load_backbone(str(tmp_path / "odd.pth"))


def test_vit_huge_has_sixteen_heads(tmp_path: Path) -> None:
    model = reference(embed_dim=1280, depth=1, num_heads=16, mlp_ratio=0.1)
    torch.save(model.state_dict(), tmp_path / "huge.pth")
    assert load_backbone(str(tmp_path / "huge.pth"), random_weights=True).spec.arguments["num_heads"] == 16


REAL = Path(__file__).parents[3] / "shared" / "weights" / "deit_tiny_patch16_224.fp16.safetensors"


@pytest.mark.skipif(not REAL.is_file(), reason="the trained DeiT-Tiny is not on this machine")
def test_a_trained_deit_tiny_loads_as_a_file_and_by_name() -> None:
    by_file, by_name = load_backbone(str(REAL)), load_backbone(f"timm:deit_tiny_patch16_224@{REAL}")
    assert by_file.report is not None and by_name.report is not None
    assert by_file.report.matched == by_name.report.matched == 150
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        first, second = (b.model.eval().forward_features(images) for b in (by_file, by_name))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
