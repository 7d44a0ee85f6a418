"""Patches embedded as a product, and grey ones through one channel, are what timm's convolution makes of three."""

from __future__ import annotations

import pytest
import torch
from timm.layers import PatchEmbed
from torch import nn

from unip.vit.forward import embed_patches


@pytest.mark.parametrize(
    "arguments",
    [{"flatten": True}, {"output_fmt": "NHWC"}, {"flatten": False}, {"flatten": True, "norm_layer": nn.LayerNorm}],
    ids=["a row of tokens", "a grid of tokens", "channels first", "with a norm"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_values_and_gradients_of_embedded_patches(arguments, channels):
    torch.manual_seed(0)
    embed = PatchEmbed(img_size=None, patch_size=8, embed_dim=12, **arguments).double()
    images = torch.randn(2, channels, 32, 24, dtype=torch.float64)
    found = embed_patches(embed, images)
    (slopes,) = torch.autograd.grad(found.square().sum(), embed.proj.weight)
    wanted = embed(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    (wanted_slopes,) = torch.autograd.grad(wanted.square().sum(), embed.proj.weight)
    torch.testing.assert_close(slopes, wanted_slopes, rtol=1e-9, atol=1e-9)


def test_overlapping_patches_are_left_to_the_convolution():
    embed = PatchEmbed(img_size=None, patch_size=8, embed_dim=4)
    embed.proj.stride = (4, 4)
    assert embed_patches(embed, torch.randn(1, 1, 32, 32)).shape == (1, 49, 4)


def test_parts_of_patches_are_left_to_timm():
    embed = PatchEmbed(img_size=None, patch_size=8, embed_dim=4, dynamic_img_pad=True)
    images = torch.randn(1, 3, 30, 33)
    assert torch.equal(embed_patches(embed, images), embed(images))
