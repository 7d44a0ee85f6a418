"""Tiny ViTs of each kind with pointed attention, and the attention that timm's own unfused forward computes."""

from __future__ import annotations

import timm
import torch

MODELS = {
    "plain": ("vit_tiny_patch16_224", {}),
    "registers": ("vit_small_patch14_reg4_dinov2", {}),
    "qk norm": ("vit_tiny_patch16_224", {"qk_norm": True}),
    "rope": ("vit_small_patch16_dinov3", {}),
    "rope, separate q k v": ("eva02_tiny_patch14_224", {}),
}


def tiny(kind: str) -> torch.nn.Module:
    name, extra = MODELS[kind]
    torch.manual_seed(0)
    size = 14 * 4 if "patch14" in name else 16 * 4
    model = timm.create_model(name, num_classes=0, img_size=size, depth=3, embed_dim=48, num_heads=3, **extra)
    for parameter in model.parameters():  # initial weights give almost uniform attention: make it pointed
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def images_for(model: torch.nn.Module, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, *model.patch_embed.img_size, generator=torch.Generator().manual_seed(1))


def eager_attention(model: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The softmax that timm's own unfused forward computes, caught on its way into the attention dropout."""
    maps: list[torch.Tensor] = []
    handles = []
    for block in model.blocks:
        block.attn.fused_attn = False
        handles.append(block.attn.attn_drop.register_forward_hook(lambda m, i, o: maps.append(i[0])))
    with torch.no_grad():
        model.forward_features(images)
    for handle in handles:
        handle.remove()
    for block in model.blocks:
        block.attn.fused_attn = True
    return maps
