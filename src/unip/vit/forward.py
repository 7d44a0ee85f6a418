"""The steps of a timm ViT's forward one by one, for programs that end it early or run it on some of the tokens.

timm's own ``forward_features`` runs all blocks on all tokens and gives no way in. What is done here is what it does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def embed(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Turn images into the tokens that enter the first block.

    Args:
        model: A timm ``VisionTransformer`` or ``Eva``.
        images: Normalised, (B, 3, H, W).

    Returns:
        Tokens (B, L, C), class token and registers first, and the rotary positions that the blocks take (or None).
    """
    placed = model._pos_embed(model.patch_embed(images))
    tokens, rope = placed if isinstance(placed, tuple) else (placed, None)
    return model.norm_pre(tokens), rope


def run_block(
    model: Any, block: Any, tokens: torch.Tensor, rope: torch.Tensor | None = None, *, index: int = 0
) -> torch.Tensor:
    """Run one block, checkpointed where the model asks for that (timm's ``set_grad_checkpointing``).

    Args:
        model: The ViT that the block belongs to.
        block: The block.
        tokens: (B, L, C).
        rope: What :func:`embed` returned.
        index: 0-based place of the block: where rotary positions are learnt, each block has its own.

    Returns:
        Tokens (B, L, C).
    """
    named: dict[str, Any] = {} if rope is None else {"rope": block_rope(model, rope, index)}
    if model.grad_checkpointing and torch.is_grad_enabled():
        again: torch.Tensor = checkpoint(block, tokens, use_reentrant=False, **named)
        return again
    out: torch.Tensor = block(tokens, **named)
    return out


def block_rope(model: Any, rope: torch.Tensor | None, index: int) -> torch.Tensor | None:
    """Return the rotary positions of the block at a 0-based index."""
    return rope[index] if rope is not None and getattr(model, "rope_mixed", False) else rope
