"""Infer a plain ViT's architecture from the tensors of its checkpoint."""

from __future__ import annotations

import math
import re
from typing import Any

from unip.errors import UnipError
from unip.vit.architecture import BackboneSpec
from unip.vit.layouts import ANCHOR, NOT_BACKBONE, is_square
from unip.vit.matching import DENSE_ADVICE, some
from unip.vit.spec import head_width
from unip.vit.weights import Checkpoint

# Every tensor that a plain ViT can have here. A file with any other is of an architecture that its tensors do
# not tell fully (rotary positions, another activation, extra norms), so guessing would be silently wrong.
PLAIN = re.compile(
    r"(cls_token|pos_embed|reg_token|register_tokens|dist_token"
    r"|patch_embed\.proj\.(weight|bias)|(fc_)?norm\.(weight|bias)"
    r"|blocks\.\d+\.((norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
    r"|attn\.[qk]_norm\.(weight|bias)|ls[12]\.gamma|gamma_[12]))"
)
NEEDED = (
    *("pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"),
    *(f"blocks.0.{part}.{kind}" for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias")),
    *("blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.0.attn.proj.bias"),
)
DIMENSIONS = {ANCHOR: 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2, "blocks.0.mlp.fc2.weight": 2}
# Tensors that a plain ViT has not, and a timm architecture that has them: with its name, such a file can be loaded.
BY_NAME = (
    (r"storage_tokens|rope_embed", "vit_small_patch16_dinov3"),
    (r"visual\.class_embedding", "vit_base_patch16_clip_quickgelu_224"),
    (r"preprocessor\.patchifier", "aimv2_large_patch14_224"),
    (r"beit3\.", "beit3_base_patch16_224"),
    (r"norm_pre\.", "vit_base_patch16_clip_224"),
    (r"rope\.freqs$", "vit_small_patch16_rope_mixed_224"),
    (r"blocks\.\d+\.attn\.q_proj|blocks\.\d+\.mlp\.(w[123]|fc1_[gx]|ffn_ln)|rope", "eva02_base_patch14_224"),
    (r"blocks\.\d+\.attn\.[qv]_bias", "eva_giant_patch14_224"),
    (r"blocks\.\d+\.mlp\.w(12|3)\.", "vit_giant_patch14_dinov2"),
    (r"blocks\.\d+\.(attn|mlp)\.norm\.", "eva02_base_patch16_clip_224"),
)
UNKNOWN = f"unip does not know what this computes, so the file cannot be used. {DENSE_ADVICE}"
MISSING = "Use a complete file. If the architecture leaves this out and timm has it, name it with timm:NAME@FILE."
# ViT-H, -g and -G have 16 heads of 80, 88 and 104 channels; all other standard ViTs have heads of 64.
HEADS = {1280: 16, 1408: 16, 1664: 16}


def infer_spec(checkpoint: Checkpoint) -> BackboneSpec:
    """Infer the architecture of a plain ViT from its tensors.

    Heads are not in the tensors: q/k norms tell them, else they are 64 channels wide as in all standard ViTs up
    to ViT-L (16 heads in ViT-H, -g and -G).

    Args:
        checkpoint: What :func:`unip.vit.weights.read_checkpoint` gave.

    Returns:
        The architecture, with the file's own position grid.

    Raises:
        UnipError: It is not a ViT, or one that must be named with ``timm:NAME@FILE``.
    """
    state, file = checkpoint.state, checkpoint.file
    _refuse_unknown(checkpoint)
    kernel = state[ANCHOR]
    if kernel.shape[1] != 3:
        raise UnipError(f"{file}: its patch embedding {tuple(kernel.shape)} is not one of 3-channel images")
    width, patch = int(kernel.shape[0]), (int(kernel.shape[2]), int(kernel.shape[3]))
    hidden = int(state["blocks.0.mlp.fc1.weight"].shape[0])
    if state["blocks.0.mlp.fc2.weight"].shape[1] != hidden:
        raise _unclear(checkpoint, "its MLPs are gated (SwiGLU)", _named("vit_giant_patch14_dinov2"))
    registers = next((int(state[k].shape[1]) for k in ("reg_token", "register_tokens") if k in state), 0)
    prefix = registers + ("cls_token" in state) + ("dist_token" in state)
    side, bare = _grid(checkpoint, prefix)
    arguments: dict[str, Any] = {
        "img_size": side * patch[0] if patch[0] == patch[1] else [side * patch[0], side * patch[1]],
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "embed_dim": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        "num_heads": _heads(checkpoint, width),
        "mlp_ratio": _ratio(hidden, width),
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
    }
    if "blocks.0.attn.q_norm.weight" in state:
        arguments["qk_norm"] = True
    if "blocks.0.ls1.gamma" in state or "blocks.0.gamma_1" in state:
        arguments["init_values"] = 1e-5  # any value: the file holds the trained ones
    last = checkpoint.last_heads or _uneven_last_heads(checkpoint, arguments["depth"], width)
    heads = last if last != arguments["num_heads"] else None
    if "dist_token" in state:
        return BackboneSpec(timm_name="deit_base_distilled_patch16_224", arguments=arguments, last_heads=heads)
    arguments |= {"class_token": "cls_token" in state, "no_embed_class": bare, "reg_tokens": registers}
    return BackboneSpec(arguments=arguments, last_heads=heads)


def _refuse_unknown(checkpoint: Checkpoint) -> None:
    state = checkpoint.state
    odd = [name for name in state if not PLAIN.fullmatch(name) and not NOT_BACKBONE.search(name)]
    for sign, architecture in BY_NAME:
        if signs := [name for name in odd if re.match(sign, name)]:
            is_dinov3 = architecture.endswith("dinov3")
            why = "it is a DINOv3" if is_dinov3 else f"it holds {signs[0]}, which a plain ViT has not"
            raise _unclear(checkpoint, why, _named(architecture))
    if ANCHOR not in state:
        raise UnipError(
            f"{checkpoint.file} holds no ViT: there is no tensor {ANCHOR}; it begins with {some(state, 3)}",
            "Use a checkpoint of a ViT with timm's tensor names.",
        )
    if odd:
        raise _unclear(checkpoint, f"it holds {some(odd)}, which a plain ViT has not", UNKNOWN)
    norm = "norm" if "norm.weight" in state else "fc_norm"
    absent = [name for name in (*NEEDED, f"{norm}.weight", f"{norm}.bias") if name not in state]
    if absent:
        raise _unclear(checkpoint, f"it has no {some(absent)}", MISSING)
    for name, dimensions in DIMENSIONS.items():
        if state[name].ndim != dimensions:
            raise _unclear(checkpoint, f"its {name} has the shape {tuple(state[name].shape)}", UNKNOWN)


def _grid(checkpoint: Checkpoint, prefix: int) -> tuple[int, bool]:
    """Return the side of the square position grid and whether class and register tokens have no position."""
    count = int(checkpoint.state["pos_embed"].shape[1])
    if is_square(count):
        return math.isqrt(count), True
    if is_square(count - prefix):
        return math.isqrt(count - prefix), False
    if "register_tokens" in checkpoint.state and is_square(count - 1):
        return math.isqrt(count - 1), True  # DINOv2: only the class token has a position; it goes into the token
    fix = "Resize the positions to a square grid, or give the model folder that unip wrote."
    raise _unclear(checkpoint, f"its {count} positions are no square grid", fix)


def _heads(checkpoint: Checkpoint, width: int) -> int:
    norm = checkpoint.state.get("blocks.0.attn.q_norm.weight")
    if norm is not None:
        return width // int(norm.shape[0])
    if width in HEADS or width % 64 == 0:
        return HEADS.get(width, width // 64)
    raise _unclear(checkpoint, f"its head count cannot be inferred ({width} channels are no multiple of 64)", _named())


def _uneven_last_heads(checkpoint: Checkpoint, depth: int, width: int) -> int | None:
    """Tell the last block's head count where its heads together are wider than the tokens, if only one count fits."""
    projection = checkpoint.state.get(f"blocks.{depth - 1}.attn.qkv.weight")
    if projection is None or projection.shape[0] == 3 * width:
        return None
    together = int(projection.shape[0]) // 3
    fitting = [heads for heads in range(1, width + 1) if heads * head_width(width, heads) == together]
    if len(fitting) == 1:
        return fitting[0]
    counts = f"may be {', '.join(map(str, fitting))}" if fitting else f"have {together} channels"
    raise UnipError(
        f"{checkpoint.file}: the heads of its last block cannot be inferred from the tensors: they {counts}",
        "Give the run folder or its model/, whose config.json tells the count.",
    )


def _ratio(hidden: int, width: int) -> float:
    exact = hidden / width
    return exact if int(width * exact) == hidden else (hidden + 0.5) / width  # timm truncates


def _named(example: str = "vit_base_patch16_224") -> str:
    return f"Name it with timm:NAME@FILE, for instance timm:{example}@FILE."


def _unclear(checkpoint: Checkpoint, why: str, fix: str) -> UnipError:
    return UnipError(f"{checkpoint.file}: the architecture cannot be inferred from the tensors: {why}", fix)
