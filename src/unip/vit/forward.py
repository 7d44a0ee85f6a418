"""The steps of a timm ViT's forward one by one, for programs that end it early or run it on some of the tokens.

timm's own ``forward_features`` runs all blocks on all tokens and gives no way in. What is done here is what it does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


def embed(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Turn images into the tokens that enter the first block.

    Args:
        model: A timm ``VisionTransformer`` or ``Eva``.
        images: Normalised, (B, 3, H, W), or (B, 1, H, W): grey, which stands for three equal channels.

    Returns:
        Tokens (B, L, C), class token and registers first, and the rotary positions that the blocks take (or None).
    """
    patches = grey_patches(model.patch_embed, images) if images.shape[1] == 1 else model.patch_embed(images)
    placed = model._pos_embed(patches)
    tokens, rope = placed if isinstance(placed, tuple) else (placed, None)
    return model.norm_pre(tokens), rope


def grey_patches(patch_embed: Any, images: torch.Tensor) -> torch.Tensor:
    """Embed the patches of grey images as a timm ``PatchEmbed`` does those of images with three equal channels.

    The kernel's channels are added up first, and where patches do not overlap, the convolution is one product, which
    takes next to no time.

    Args:
        patch_embed: timm's module.
        images: (B, 1, H, W), sides of whole patches.

    Returns:
        What the module returns: (B, L, C), or (B, h, w, C) where positions are fitted to the image's size.
    """
    project = patch_embed.proj
    channels_last = str(getattr(patch_embed, "output_fmt", "")).rpartition(".")[2] == "NHWC"
    if project.stride != project.kernel_size or not (patch_embed.flatten or channels_last):
        as_rgb: torch.Tensor = patch_embed(images.expand(-1, 3, -1, -1))
        return as_rgb
    tokens = F.linear(patchify(images, *project.kernel_size), project.weight.sum(dim=1).flatten(1), project.bias)
    normed: torch.Tensor = patch_embed.norm(tokens)
    rows = images.shape[2] // project.kernel_size[0]
    return normed if patch_embed.flatten else normed.reshape(len(images), rows, -1, normed.shape[-1])


def patchify(images: torch.Tensor, high: int, wide: int) -> torch.Tensor:
    """Cut (B, 1, H, W), sides of whole patches, into (B, L, high * wide), row by row."""
    rows, columns = images.shape[2] // high, images.shape[3] // wide
    cut = images.reshape(-1, rows, high, columns, wide).transpose(2, 3)
    return cut.reshape(-1, rows * columns, high * wide)


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
