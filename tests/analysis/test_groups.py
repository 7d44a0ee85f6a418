from __future__ import annotations

import pytest

from unip.analysis.groups import group_of


@pytest.mark.parametrize(
    ("source", "group"),
    [
        ("timm:deit_tiny_patch16_224", "supervised"),
        ("timm:deit3_base_patch16_224.fb_in22k_ft_in1k", "supervised"),
        ("timm:vit_base_patch16_224.augreg2_in21k_ft_in1k", "supervised"),
        ("timm:vit_base_patch16_224", "supervised"),
        ("timm:deit_tiny_distilled_patch16_224", "supervised"),
        ("timm:vit_base_patch16_224.mae@/x/checkpoint.pth", "masked-image"),
        ("timm:vit_base_patch16_224@/x/dino_vitbase16.pth", "contrastive"),
        ("timm:vit_base_patch16_224.dino", "contrastive"),
        ("timm:vit_small_patch14_reg4_dinov2.lvd142m", "contrastive"),
        ("timm:vit_small_patch16_dinov3.lvd1689m", "contrastive"),
        ("timm:vit_base_patch16_clip_224.openai_ft_in1k", "contrastive"),
        ("timm:vit_large_patch16_224.mae", "masked-image"),
        ("timm:eva02_base_patch14_224.mim_in22k", "masked-image"),
        ("/unip/weights/crossmae-small.pth", "masked-image"),
        ("weights/deit_tiny_patch16_224.fp16.safetensors", "supervised"),
        ("runs/distil/model", "distilled"),
        ("unip_tiny", "distilled"),
        ("/home/dino/teacher.safetensors", "other"),
        ("", "other"),
    ],
)
def test_group_of(source, group):
    assert group_of(source) == group
