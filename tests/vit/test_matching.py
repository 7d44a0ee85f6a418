"""Right or refused: checkpoints of many kinds, given alone and under many names, and where each advice leads."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from unip.errors import UnipError
from unip.vit import backbone as backbones
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import Backbone, load_backbone
from unip.vit.hub import timm_model
from unip.vit.spec import build_backbone
from unip.vit.weights import load_into, read_checkpoint

State = dict[str, Tensor]
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}
PLAIN = "deit_tiny_patch16_224"
NAMES = (
    PLAIN,
    "deit3_small_patch16_224",
    "vit_base_patch16_siglip_224",
    "vit_base_patch16_clip_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_giant_patch14_dinov2",
    "vit_small_patch16_dinov3",
    "vit_small_patch16_dinov3_qkvb",
    "vit_small_patch16_rope_mixed_224",
    "eva02_base_patch14_224",
    "eva_giant_patch14_224",
)


def model_of(name: str, **arguments: Any) -> nn.Module:
    """A tiny model of a timm architecture, every tensor of which is random."""
    torch.manual_seed(0)
    model = build_backbone(BackboneSpec(timm_name=name, arguments={**TINY, **arguments})).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def state_of(name: str = PLAIN, **arguments: Any) -> State:
    return dict(model_of(name, **arguments).state_dict())


def renamed(state: State, *pairs: tuple[str, str]) -> State:
    for pattern, by in pairs:
        state = {re.sub(pattern, by, name): value for name, value in state.items()}
    return state


def without(pattern: str, state: State | None = None) -> State:
    return {name: value for name, value in (state or state_of()).items() if not re.search(pattern, name)}


def with_blocks(state: State | None = None, **tensors: Tensor) -> State:
    """Add tensors to each block; two underscores stand for a dot."""
    extra = {f"blocks.{i}.{name.replace('__', '.')}": value for i in range(2) for name, value in tensors.items()}
    return {**(state or state_of()), **extra}


def in_parts(state: State) -> State:
    """Cut the fused projections into three."""
    parts = {}
    for name, value in state.items():
        if ".qkv." in name:
            parts |= {name.replace("qkv", f"{p}_proj"): cut for p, cut in zip("qkv", value.chunk(3), strict=True)}
    return {**without(r"\.qkv\.", state), **parts}


def beit() -> State:
    state = without(r"pos_embed|qkv\.bias")
    table = {"attn__relative_position_bias_table": torch.randn(52, 2), "gamma_1": torch.ones(128) / 10}
    return with_blocks(state, **table, attn__q_bias=torch.randn(128), attn__v_bias=torch.randn(128))


def clip(**arguments: Any) -> State:
    names = [("norm_pre", "ln_pre"), ("^norm", "ln_post"), (r"\.norm", ".ln_"), ("patch_embed.proj", "conv1")]
    names += [("^blocks", "transformer.resblocks"), (r"qkv\.", "in_proj_"), (r"attn\.proj", "attn.out_proj")]
    names += [
        ("fc1", "c_fc"),
        ("fc2", "c_proj"),
        ("pos_embed", "positional_embedding"),
        ("cls_token", "class_embedding"),
    ]
    state = renamed(state_of("vit_base_patch16_clip_224", **arguments), *names)
    state = {f"visual.{k}": v[0] if "positional" in k else v[0, 0] if "class" in k else v for k, v in state.items()}
    return {**state, "token_embedding.weight": torch.zeros(4, 64), "logit_scale": torch.zeros(())}


def dinov3(bias: float = 0.0) -> State:
    """Meta's names of a DINOv3, with the mask of the keys' bias."""
    mask = torch.cat([torch.ones(128), torch.zeros(128), torch.ones(128)])
    state = renamed(
        state_of("vit_small_patch16_dinov3"), ("reg_token", "storage_tokens"), (r"gamma_(\d)", r"ls\1.gamma")
    )
    state |= {"mask_token": torch.zeros(1, 128), "rope_embed.periods": torch.ones(16)}
    return with_blocks(state, attn__qkv__bias=torch.full((384,), bias), attn__qkv__bias_mask=mask)


def chunked(state: State) -> State:
    return renamed(state, (r"^blocks\.(\d+)", r"blocks.0.\1"))


HF = (
    (r"^blocks\.(\d+)\.attn\.([qkv])_proj", r"vit.encoder.layer.\1.attention.attention.\2"),
    (r"^blocks\.(\d+)\.", r"vit.encoder.layer.\1."),
    (r"^patch_embed\.proj", "vit.embeddings.patch_embeddings.projection"),
    (r"^cls_token", "vit.embeddings.cls_token"),
)
MM = (
    (r"^blocks\.(\d+)\.norm", r"backbone.layers.\1.ln"),
    (r"^blocks\.(\d+)\.", r"backbone.layers.\1."),
    (r"^patch_embed\.proj", "backbone.patch_embed.projection"),
    (r"^(cls_token|pos_embed)", r"backbone.\1"),
)
HEADS = {"mask_token": torch.zeros(1, 128), "dino_head.mlp.0.weight": torch.zeros(4, 128)}
SCALED: dict[str, Any] = {"init_values": 1e-5}
WIDE: dict[str, Any] = {"embed_dim": 192, "num_heads": 3}


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint.

    Attributes:
        make: Gives what the file holds.
        bare: Whether the file alone says enough.
        names: timm's names under which it is right; under all others it is refused.
        saved: The model that was saved, for :func:`model_of`; None: compared with each other only.
    """

    make: Callable[[], Any]
    bare: bool = False
    names: tuple[str, ...] = ()
    saved: tuple[str, dict[str, Any]] | None = (PLAIN, {})


KINDS = {
    # right
    "timm": Kind(state_of, True, (PLAIN,)),
    "float16": Kind(lambda: {k: v.half() for k, v in state_of().items()}, True, (PLAIN,)),
    "bfloat16": Kind(lambda: {k: v.bfloat16() for k, v in state_of().items()}, True, (PLAIN,)),
    "float64": Kind(lambda: {k: v.double() for k, v in state_of().items()}, True, (PLAIN,)),
    "model and model_ema": Kind(
        lambda: {"model": {k: v + 1 for k, v in state_of().items()}, "model_ema": state_of()}, True, (PLAIN,)
    ),
    "settings under a wrapper's name": Kind(lambda: {"teacher": {"name": "x"}, "model": state_of()}, True, (PLAIN,)),
    "MAE": Kind(
        lambda: {"model": {**state_of(), "mask_token": torch.zeros(1), "decoder_pred.bias": torch.zeros(3)}},
        True,
        (PLAIN,),
    ),
    "DINO": Kind(lambda: {"teacher": {f"backbone.{k}": v for k, v in state_of().items()} | HEADS}, True, (PLAIN,)),
    "iBOT": Kind(lambda: {**state_of(), "masked_embed": torch.zeros(1, 128)}, True, (PLAIN,)),
    "DINOv2's training": Kind(
        lambda: {"teacher": {f"backbone.{k}": v for k, v in chunked(state_of()).items()} | HEADS}, True, (PLAIN,)
    ),
    "DINOv2's training, student and teacher": Kind(
        lambda: {
            "model": {f"student.backbone.{k}": v + 1 for k, v in chunked(state_of()).items()}
            | {f"teacher.backbone.{k}": v for k, v in chunked(state_of()).items()}
        },
        True,
        (PLAIN,),
    ),
    "layer scale": Kind(
        lambda: state_of(**SCALED), True, ("deit3_small_patch16_224", "vit_small_patch14_dinov2"), saved=(PLAIN, SCALED)
    ),
    "DeiT III": Kind(
        lambda: {"model": renamed(state_of("deit3_small_patch16_224"), (r"ls(\d)\.gamma", r"gamma_\1"))},
        True,
        ("deit3_small_patch16_224", "vit_small_patch14_dinov2"),
        saved=("deit3_small_patch16_224", {}),
    ),
    "registers": Kind(
        lambda: state_of("vit_small_patch14_reg4_dinov2"),
        True,
        ("vit_small_patch14_reg4_dinov2",),
        saved=("vit_small_patch14_reg4_dinov2", {}),
    ),
    "SigLIP": Kind(
        lambda: {**state_of("vit_base_patch16_siglip_224"), "attn_pool.latent": torch.zeros(1)},
        True,
        ("vit_base_patch16_siglip_224",),
        saved=("vit_base_patch16_siglip_224", {}),
    ),
    "a norm behind the pooling": Kind(lambda: renamed(state_of(), ("^norm", "fc_norm")), True, (PLAIN,)),
    "no qkv bias": Kind(lambda: state_of(qkv_bias=False), True, saved=(PLAIN, {"qkv_bias": False})),
    "q/k norms": Kind(
        lambda: state_of("vit_tiny_patch16_224", qk_norm=True), True, saved=("vit_tiny_patch16_224", {"qk_norm": True})
    ),
    "another depth": Kind(lambda: state_of(depth=4), True, saved=(PLAIN, {"depth": 4})),
    "another width": Kind(lambda: state_of(**WIDE), True, saved=(PLAIN, WIDE)),
    "another MLP": Kind(lambda: state_of(mlp_ratio=2), True, saved=(PLAIN, {"mlp_ratio": 2})),
    "half of the blocks": Kind(lambda: without(r"blocks\.[23]", state_of(depth=4)), True, (PLAIN,), saved=None),
    # right under a name
    "DINOv3": Kind(
        dinov3,
        names=("vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"),
        saved=("vit_small_patch16_dinov3", {}),
    ),
    "DINOv3 with biases": Kind(lambda: dinov3(0.5), names=("vit_small_patch16_dinov3_qkvb",), saved=None),
    "EVA-02": Kind(
        lambda: state_of("eva02_base_patch14_224"),
        names=("eva02_base_patch14_224",),
        saved=("eva02_base_patch14_224", {}),
    ),
    "EVA": Kind(
        lambda: state_of("eva_giant_patch14_224"), names=("eva_giant_patch14_224",), saved=("eva_giant_patch14_224", {})
    ),
    "learnt rotary positions": Kind(
        lambda: state_of("vit_small_patch16_rope_mixed_224"),
        names=("vit_small_patch16_rope_mixed_224",),
        saved=("vit_small_patch16_rope_mixed_224", {}),
    ),
    "CLIP of OpenAI": Kind(clip, names=("vit_base_patch16_clip_224",), saved=("vit_base_patch16_clip_224", {})),
    "CLIP of timm": Kind(
        lambda: state_of("vit_base_patch16_clip_224"),
        names=("vit_base_patch16_clip_224",),
        saved=("vit_base_patch16_clip_224", {}),
    ),
    "gated MLPs": Kind(
        lambda: state_of("vit_giant_patch14_dinov2"),
        names=("vit_giant_patch14_dinov2",),
        saved=("vit_giant_patch14_dinov2", {}),
    ),
    # wrong under every name
    "BEiT": Kind(beit),
    "BEiT, shared table": Kind(
        lambda: {**without("bias_table", beit()), "rel_pos_bias.relative_position_bias_table": torch.randn(52, 2)}
    ),
    "SAM": Kind(lambda: with_blocks(attn__rel_pos_h=torch.randn(7, 64), attn__rel_pos_w=torch.randn(7, 64))),
    "transformers": Kind(lambda: renamed(in_parts(state_of()), *HF)),
    "mmpretrain": Kind(lambda: {"state_dict": renamed(state_of(), *MM)}),
    "split qkv": Kind(lambda: in_parts(state_of())),
    "an adapter": Kind(lambda: with_blocks(attn__qkv__lora_A__weight=torch.randn(4, 128))),
    "rotary tables": Kind(lambda: {**state_of(), "rope.freqs_cos": torch.randn(16, 64)}),
    "something unknown in blocks": Kind(lambda: with_blocks(attn__gate__weight=torch.randn(2, 128))),
    "something unknown beside blocks": Kind(lambda: {**state_of(), "level_embed": torch.randn(3, 128)}),
    "no positions": Kind(lambda: without("pos_embed")),
    "no final norm": Kind(lambda: without("^norm")),
    "no norms": Kind(lambda: without("norm1")),
    "no biases of the MLPs": Kind(lambda: without(r"fc1\.bias")),
    "no patch embedding": Kind(lambda: without("patch_embed")),
    "a missing block": Kind(lambda: without(r"blocks\.1", state_of(depth=3))),
    "a bias missing in one block": Kind(lambda: without(r"blocks\.1\.mlp\.fc2\.bias")),
    "layer scale missing in one block": Kind(lambda: without(r"blocks\.1\.ls2", state_of(**SCALED))),
    "blocks of two sizes": Kind(
        lambda: {
            **state_of(),
            "blocks.1.mlp.fc1.weight": torch.zeros(99, 128),
            "blocks.1.mlp.fc1.bias": torch.zeros(99),
        }
    ),
    "integers": Kind(lambda: {k: (v * 100).to(torch.int8) for k, v in state_of().items()}),
    "one tensor of integers": Kind(
        lambda: {**state_of(), "blocks.1.attn.proj.bias": torch.ones(128, dtype=torch.int64)}
    ),
    "complex numbers": Kind(lambda: {**state_of(), "cls_token": torch.ones(1, 1, 128, dtype=torch.complex64)}),
    "sparse": Kind(lambda: {**state_of(), "norm.weight": torch.ones(128).to_sparse()}),
    "NaN": Kind(lambda: {**state_of(), "norm.weight": torch.full((128,), torch.nan)}),
    "infinity": Kind(lambda: {**state_of(), "norm.weight": torch.full((128,), torch.inf).half()}),
    "flat positions": Kind(lambda: {**state_of(), "pos_embed": torch.zeros(17)}),
    "chunks that count again": Kind(lambda: renamed(state_of(), (r"^blocks\.(\d+)", r"blocks.\1.0"))),
    "a convolution network": Kind(lambda: {"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(3)}),
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every timm architecture tiny."""

    def small(name: str) -> tuple[BackboneSpec, PretrainedCfg]:
        spec, described = timm_model(name)
        return spec.model_copy(update={"arguments": TINY}), described

    monkeypatch.setattr(backbones, "timm_model", small)


def load(source: str) -> Backbone | UnipError:
    try:
        return load_backbone(source)
    except UnipError as error:
        return error


def outputs(model: Any) -> Tensor:
    torch.manual_seed(1)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        features: Tensor = model.eval().forward_features(images)
    return features


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_right_or_refused_and_no_advice_leads_back(tmp_path: Path, kind: str, tiny: None) -> None:
    wanted, file = KINDS[kind], tmp_path / "file.pth"
    torch.save(wanted.make(), file)
    alone = load(str(file))
    named = {name: load(f"timm:{name}@{file}") for name in NAMES}
    assert isinstance(alone, Backbone) == wanted.bare, alone
    assert {name for name, result in named.items() if isinstance(result, Backbone)} == set(wanted.names)
    right = [outputs(result.model) for result in (alone, *named.values()) if isinstance(result, Backbone)]
    reference = outputs(model_of(wanted.saved[0], **wanted.saved[1])) if wanted.saved else right[0]
    tolerance = 0.02 if kind in ("float16", "bfloat16") else 1e-3  # the epsilon of norms differs between names
    for result in right:
        torch.testing.assert_close(result, reference, rtol=tolerance, atol=tolerance)
    for refused in named.values():
        if isinstance(refused, UnipError):  # a name was given: nothing leads back to giving one, or to the file alone
            assert refused.fix and "@FILE" not in refused.fix and " alone" not in refused.fix
    if isinstance(alone, UnipError):  # an architecture is advised where one can take such tensors
        assert alone.fix
        advised = "for instance" in alone.fix
        assert advised == bool(wanted.names) or kind in ("split qkv", "rotary tables")


def test_a_bias_of_zeros_needs_no_place_and_a_key_bias_of_dinov3_does(tmp_path: Path, tiny: None) -> None:
    file = tmp_path / "file.pth"
    state = state_of()
    torch.save({k: torch.zeros_like(v) if k.endswith("qkv.bias") else v for k, v in state.items()}, file)
    bare = build_backbone(BackboneSpec(timm_name=PLAIN, arguments={**TINY, "qkv_bias": False}))
    load_into(bare, read_checkpoint(file))
    torch.testing.assert_close(outputs(bare), outputs(load_backbone(str(file)).model))
    masked = dinov3(0.5)
    torch.save({k: v for k, v in masked.items() if not k.endswith("bias_mask")}, file)
    with pytest.raises(UnipError, match=r"holds blocks\.0\.attn\.qkv\.bias.* no place for"):
        load_backbone(f"timm:vit_small_patch16_dinov3_qkvb@{file}")


def test_both_depths_and_what_is_in_the_file_are_said(tmp_path: Path, tiny: None) -> None:
    torch.save(without(r"blocks\.1"), tmp_path / "half.pth")
    with pytest.raises(
        UnipError, match=r"has 1 blocks, but the model has 2\nUse a complete file.*width 128, patches of 8"
    ):
        load_backbone(f"timm:{PLAIN}@{tmp_path / 'half.pth'}")


def test_another_grid_and_patch_size_are_said_whatever_their_names(tmp_path: Path, tiny: None) -> None:
    torch.save(clip(img_size=48), tmp_path / "clip.pth")
    report = load_backbone(f"timm:vit_base_patch16_clip_224@{tmp_path / 'clip.pth'}").report
    assert report is not None and report.resized == ("visual.positional_embedding (37, 128) -> (1, 17, 128)",)
    torch.save(state_of(img_size=64, patch_size=16), tmp_path / "patches.pth")
    report = load_backbone(f"timm:{PLAIN}@{tmp_path / 'patches.pth'}").report
    assert report is not None and report.resized == ("patch_embed.proj.weight (128, 3, 16, 16) -> (128, 3, 8, 8)",)


@pytest.mark.parametrize("depth", [0, 100])
def test_dictionaries_in_each_other_end(tmp_path: Path, depth: int) -> None:
    payload: dict[str, Any] = {}
    payload["model"] = payload if depth == 0 else state_of()
    for _ in range(depth):
        payload = {"model": payload}
    torch.save(payload, tmp_path / "deep.pth")
    with pytest.raises(UnipError, match=r"nested more than 8 deep, or one holds itself \(model > model"):
        load_backbone(str(tmp_path / "deep.pth"))


@pytest.mark.parametrize(
    ("heads", "shown"),
    [
        (torch.zeros(2), r"of shape \(2,\) and of torch\.float32"),
        (torch.tensor(2.0), r"of shape \(\) and of torch\.float32"),
        (torch.tensor(0), "0"),
        (torch.tensor(10**9), "1000000000"),
    ],
)
def test_a_head_count_that_cannot_be(tmp_path: Path, heads: Tensor, shown: str) -> None:
    torch.save({**state_of(), "blocks.1.attn.num_heads": heads}, tmp_path / "guard.pth")
    with pytest.raises(UnipError, match=rf"blocks\.1\.attn\.num_heads, the head count of a block, is {shown}"):
        load_backbone(str(tmp_path / "guard.pth"))
    torch.save({"model": state_of(), "args": argparse.Namespace(last_heads=-3)}, tmp_path / "args.pth")
    with pytest.raises(UnipError, match=r"args\.last_heads, the head count of a block, is -3"):
        load_backbone(str(tmp_path / "args.pth"))
