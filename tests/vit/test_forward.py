"""Grey images through one channel give what three equal channels give."""

from __future__ import annotations

import pytest
import torch
from timm.layers import PatchEmbed
from torch import nn

from unip.vit.forward import grey_patches


@pytest.mark.parametrize(
    "arguments",
    [{"flatten": True}, {"output_fmt": "NHWC"}, {"flatten": False}, {"flatten": True, "norm_layer": nn.LayerNorm}],
    ids=["a row of tokens", "a grid of tokens", "channels first", "with a norm"],
)
def test_values_and_gradients_of_grey_patches(arguments):
    torch.manual_seed(0)
    embed = PatchEmbed(img_size=None, patch_size=8, embed_dim=12, **arguments).double()
    images = torch.randn(2, 1, 32, 24, dtype=torch.float64)
    found = grey_patches(embed, images)
    (slopes,) = torch.autograd.grad(found.square().sum(), embed.proj.weight)
    wanted = embed(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    (wanted_slopes,) = torch.autograd.grad(wanted.square().sum(), embed.proj.weight)
    torch.testing.assert_close(slopes, wanted_slopes, rtol=1e-9, atol=1e-9)


def test_overlapping_patches_are_left_to_the_convolution():
    embed = PatchEmbed(img_size=None, patch_size=8, embed_dim=4)
    embed.proj.stride = (4, 4)
    assert grey_patches(embed, torch.randn(1, 1, 32, 32)).shape == (1, 49, 4)
