"""Shapes of a timm ViT: depth, heads, patches."""

from __future__ import annotations

from typing import Any

from unip.errors import UnipError


def depth_of(model: Any) -> int:
    """Number of blocks of a timm ViT.

    Raises:
        UnipError: The model has no plain blocks with attention.
    """
    blocks = getattr(model, "blocks", None)
    if blocks is None or not all(hasattr(block, "attn") for block in blocks):
        raise UnipError(
            f"{type(model).__name__} is not a plain ViT: it has no `blocks` with `attn`",
            "Use timm's vit_*, deit*, eva02_* or dinov3 models.",
        )
    return len(blocks)


def check_layer(model: Any, layer: int) -> None:
    """Refuse a 1-based layer number that the model does not have.

    Raises:
        UnipError: The number is out of range.
    """
    depth = depth_of(model)
    if not 1 <= layer <= depth:
        raise UnipError(f"layer {layer} is out of range: this model has layers 1 to {depth}")


def heads_of(model: Any, layer: int) -> int:
    """Attention heads of a layer (1-based)."""
    return int(model.blocks[layer - 1].attn.num_heads)


def patch_size(model: Any) -> int:
    """Side of the square patches, in pixels."""
    side = model.patch_embed.patch_size
    return int(side[0] if isinstance(side, tuple) else side)


def prefix_tokens(model: Any) -> int:
    """Number of class and register tokens in front of the patches; a distillation token counts as a register."""
    return int(model.num_prefix_tokens)


def class_tokens(model: Any) -> int:
    """Number of class tokens, 0 or 1; it is the first prefix token."""
    return int(getattr(model, "cls_token", None) is not None)


def width_of(backbone: Any) -> int:
    """Return the channels of a timm ViT's tokens."""
    return int(backbone.embed_dim)
