"""The steps of a timm ViT's forward one by one, for programs that end it early or run it on some of the tokens.

timm's own ``forward_features`` runs all blocks on all tokens and gives no way in. What is done here is what it does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


def embed(model: Any, images: torch.Tensor, *, product: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Turn images into the tokens that enter the first block.

    Args:
        model: A timm ``VisionTransformer`` or ``Eva``.
        images: Normalised, (B, 3, H, W), or (B, 1, H, W): grey, which stands for three equal channels.
        product: Embed patches of three channels by :func:`embed_patches`, too: faster to train on GPUs, other rounding.

    Returns:
        Tokens (B, L, C), class token and registers first, and the rotary positions that the blocks take (or None).
    """
    multiplied = product or images.shape[1] == 1
    placed = model._pos_embed(embed_patches(model.patch_embed, images) if multiplied else model.patch_embed(images))
    tokens, rope = placed if isinstance(placed, tuple) else (placed, None)
    return model.norm_pre(tokens), rope


def embed_patches(patch_embed: Any, images: torch.Tensor) -> torch.Tensor:
    """Embed patches as a timm ``PatchEmbed`` does; where they do not overlap, the convolution is one product.

    For grey images the kernel's channels are added up first, and the product takes next to no time.

    Args:
        patch_embed: timm's module.
        images: (B, 3, H, W), or (B, 1, H, W), which stands for three equal channels.

    Returns:
        What the module returns: (B, L, C), or (B, h, w, C) where positions are fitted to the image's size.
    """
    project, grey = patch_embed.proj, images.shape[1] == 1
    channels_last = str(getattr(patch_embed, "output_fmt", "")).rpartition(".")[2] == "NHWC"
    cut_up = all(side % patch == 0 for side, patch in zip(images.shape[2:], project.kernel_size, strict=True))
    if not cut_up or project.stride != project.kernel_size or not (patch_embed.flatten or channels_last):
        whole: torch.Tensor = patch_embed(images.expand(-1, 3, -1, -1) if grey else images)
        return whole
    kernel = project.weight.sum(dim=1) if grey else project.weight
    tokens = F.linear(patchify(images, *project.kernel_size), kernel.flatten(1), project.bias)
    normed: torch.Tensor = patch_embed.norm(tokens)
    rows = images.shape[2] // project.kernel_size[0]
    return normed if patch_embed.flatten else normed.reshape(len(images), rows, -1, normed.shape[-1])


def patchify(images: torch.Tensor, high: int, wide: int) -> torch.Tensor:
    """Cut (B, C, H, W), sides of whole patches, into (B, L, C * high * wide), row by row."""
    count, channels, height, width = images.shape
    rows, columns = height // high, width // wide
    cut = images.reshape(count, channels, rows, high, columns, wide).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(count, rows * columns, channels * high * wide)


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
