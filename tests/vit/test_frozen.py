"""Faster products of frozen ViTs against the exact ones."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from unip.vit.frozen import Float8Linear, FusedGelu, TanhGelu, fuse_gelus, is_plain_mlp, to_float8


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=0).eval()


def test_gelu_within_the_product_is_gelu():
    torch.manual_seed(0)
    mlp, x = Mlp(16, 64), torch.randn(2, 5, 16)
    torch.testing.assert_close(FusedGelu(mlp)(x), mlp(x), atol=1e-3, rtol=0)


def test_tanh_form_without_tanh():
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    torch.testing.assert_close(TanhGelu()(x), nn.functional.gelu(x, approximate="tanh"), atol=1e-12, rtol=0)
    assert (TanhGelu()(x) - nn.functional.gelu(x)).abs().max() < 5e-4


def test_only_plain_mlps_are_fused():
    model = vit()
    model.blocks[1].mlp = Mlp(32, 64, act_layer=nn.ReLU)
    assert not is_plain_mlp(Mlp(32, 64, bias=False))
    assert fuse_gelus(model.blocks) == 2
    assert isinstance(model.blocks[0].mlp, FusedGelu) and type(model.blocks[1].mlp) is Mlp


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_float8_layer_is_right_to_three_bits(spread):
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 48), torch.randn(7, 3, 64) * spread
    narrow = Float8Linear(linear, x.abs().max().item())
    wanted = linear(x)
    assert narrow(x).shape == wanted.shape
    error = (narrow(x) - wanted).norm() / wanted.norm()
    assert 1e-4 < error < 0.06  # e4m3 rounds by up to 2^-4; errors of 64 products partly cancel


def test_inputs_beyond_the_scale_are_cut_off_and_stay_finite():
    linear = nn.Linear(16, 16, bias=False)
    narrow, x = Float8Linear(linear, 1.0), torch.full((1, 16), 100.0)
    torch.testing.assert_close(narrow(x), narrow(torch.ones(1, 16)))


def test_a_vit_in_float8_gives_nearly_the_same_tokens():
    model, images = vit(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        wanted = model.forward_features(images)
        assert to_float8(model.blocks, lambda: model(images)) == 12
        found = model.forward_features(images)
    assert not any(type(m) is nn.Linear for m in model.blocks.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())
    error = (found - wanted).norm() / wanted.norm()
    assert 1e-4 < error < 0.08


def test_layers_with_odd_widths_stay():
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0).eval()
    assert to_float8(model.blocks, lambda: model(torch.randn(1, 3, 32, 32))) == 0
