"""The students: shapes, fixed positions, the last block's own heads, drop path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn

from unip.errors import UnipError
from unip.vit.positions import sincos_positions
from unip.vit.spec import build_backbone, last_heads, set_last_heads
from unip.vit.student import STUDENTS, student_spec


def reference_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """MAE's formula in float64, one number at a time."""
    out = np.zeros((1 + rows * columns, width))
    for row in range(rows):
        for column in range(columns):
            for half, place in enumerate((column, row)):
                for i in range(width // 4):
                    angle = place / 10000 ** (i / (width / 4))
                    start = half * width // 2
                    out[1 + row * columns + column, start + i] = np.sin(angle)
                    out[1 + row * columns + column, start + width // 4 + i] = np.cos(angle)
    return out


def test_positions_equal_an_independent_computation() -> None:
    ours = sincos_positions((3, 5), 24)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours[0].numpy(), reference_positions(3, 5, 24), atol=1e-7)


def test_positions_need_a_multiple_of_four() -> None:
    with pytest.raises(ValueError, match="multiple of 4, got 30"):
        sincos_positions((2, 2), 30)


@pytest.mark.parametrize(
    ("name", "shape", "millions"),
    [("unip_micro", (96, 6, 3), 0.76), ("unip_tiny", (192, 12, 3), 5.5), ("unip_small", (384, 12, 6), 21.7)],
)
def test_student_shapes(name: str, shape: tuple[int, int, int], millions: float) -> None:
    model = build_backbone(STUDENTS[name])
    assert (model.embed_dim, len(model.blocks), model.blocks[0].attn.num_heads) == shape
    assert model.patch_embed.patch_size == (16, 16)
    assert model.num_prefix_tokens == 1
    assert model.norm.eps == 1e-6
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_base_student_is_vit_b() -> None:
    arguments = STUDENTS["unip_base"].arguments
    assert (arguments["embed_dim"], arguments["depth"], arguments["num_heads"]) == (768, 12, 12)


def test_student_positions_are_fixed_and_the_class_position_is_zero() -> None:
    model = build_backbone(student_spec("unip_micro"))
    assert not model.pos_embed.requires_grad
    assert model.pos_embed[0, 0].abs().max() == 0
    torch.testing.assert_close(model.pos_embed, sincos_positions((14, 14), 96), rtol=0, atol=0)


def test_initial_weights_are_xavier_with_zero_biases() -> None:
    model = build_backbone(student_spec("unip_micro"))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            bound = (6 / (module.in_features + module.out_features)) ** 0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert module.bias.abs().max() == 0
    kernel = model.patch_embed.proj.weight
    bound = (6 / (96 + 3 * 256)) ** 0.5  # as a linear layer, not as a convolution
    assert 0.9 * bound < kernel.abs().max() <= bound
    assert 0.01 < model.cls_token.std() < 0.03


def eager_last_attention(model: nn.Module, x: torch.Tensor, heads: int) -> torch.Tensor:
    attn = model.blocks[-1].attn
    b, n, c = x.shape
    q, k, v = attn.qkv(x).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) * (c // heads) ** -0.5).softmax(-1)
    return attn.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


@pytest.mark.parametrize("heads", [2, 16])
def test_last_block_has_its_own_heads_and_keeps_its_weights(heads: int) -> None:
    torch.manual_seed(0)
    model = build_backbone(student_spec("unip_micro")).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    set_last_heads(model, heads)
    assert last_heads(model) == heads
    assert [block.attn.num_heads for block in model.blocks] == [3] * 5 + [heads]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    x = torch.randn(2, 9, 96)
    with torch.no_grad():
        ours = model.blocks[-1].attn(x)
        torch.testing.assert_close(ours, eager_last_attention(model, x, heads), rtol=1e-4, atol=1e-5)
        assert (ours - eager_last_attention(model, x, 3)).abs().max() > 1e-3


@pytest.mark.parametrize("heads", [13, 20])
def test_heads_that_do_not_divide_the_width_are_a_little_wider_together(heads: int) -> None:
    torch.manual_seed(0)
    model = build_backbone(student_spec("unip_micro", last_heads=heads)).eval()
    attn, width = model.blocks[-1].attn, -(-96 // heads)
    assert (attn.num_heads, attn.head_dim, attn.scale) == (heads, width, width**-0.5)
    assert attn.qkv.weight.shape == (3 * heads * width, 96)
    x = torch.randn(2, 9, 96)
    with torch.no_grad():
        q, k, v = attn.qkv(x).reshape(2, 9, 3, heads, width).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.transpose(-1, -2) * width**-0.5).softmax(-1) @ v).transpose(1, 2).reshape(2, 9, -1)
        torch.testing.assert_close(attn(x), attn.proj(mixed), rtol=1e-4, atol=1e-5)


def test_trained_weights_stay_when_heads_no_longer_divide_the_width() -> None:
    model = build_backbone(student_spec("unip_micro"))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    before = {name: value.clone() for name, value in model.blocks[-1].attn.state_dict().items()}
    set_last_heads(model, 13)  # 13 x 8 = 104
    after = model.blocks[-1].attn.state_dict()
    for part in range(3):
        rows = after["qkv.weight"].reshape(3, 104, 96)[part]
        torch.testing.assert_close(rows[:96], before["qkv.weight"].reshape(3, 96, 96)[part], rtol=0, atol=0)
        assert rows[96:].std() > 0.01  # zeros would never learn: queries' gradients are made of keys
        torch.testing.assert_close(
            after["qkv.bias"].reshape(3, 104)[part, :96], before["qkv.bias"].reshape(3, 96)[part]
        )
    torch.testing.assert_close(after["proj.weight"][:, :96], before["proj.weight"], rtol=0, atol=0)
    set_last_heads(model, 3)
    torch.testing.assert_close(model.blocks[-1].attn.state_dict(), before, rtol=0, atol=0)


def test_student_spec_takes_the_last_heads() -> None:
    spec = student_spec("unip_tiny", last_heads=16)
    assert spec.last_heads == 16
    assert last_heads(build_backbone(spec)) == 16
    assert student_spec("unip_tiny", last_heads=3).last_heads is None


def test_drop_path_is_the_same_in_every_block() -> None:
    model = build_backbone(student_spec("unip_micro"), drop_path=0.1)
    rates = [drop.drop_prob for b in model.blocks for drop in (b.drop_path1, b.drop_path2)]
    assert rates == [0.1] * 12
    plain = build_backbone(student_spec("unip_micro"))
    assert not any(isinstance(module, DropPath) for module in plain.modules())


def test_other_input_sizes_work_and_are_padded_to_whole_patches() -> None:
    model = build_backbone(student_spec("unip_micro")).eval()
    with torch.no_grad():
        final, maps = model.forward_intermediates(torch.randn(1, 3, 40, 70), indices=[1, 5])
    assert [tuple(m.shape) for m in maps] == [(1, 96, 3, 5)] * 2
    assert final.shape == (1, 16, 96)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: student_spec("unip_tiny", last_heads=193), "192 wide: its last block cannot have 193 heads"),
        (lambda: student_spec("unip_small", last_heads=0), "cannot have 0 heads"),
        (lambda: student_spec("unip_tinny"), "Did you mean 'unip_tiny'"),
        (lambda: student_spec("resnet"), "Known: unip_micro"),
        (lambda: build_backbone(student_spec("unip_micro"), drop_path=1.0), r"drop path must be in \[0, 1\)"),
        (lambda: set_last_heads(build_backbone(student_spec("unip_micro")), 97), "cannot have 97 heads: it is 96 chan"),
    ],
)
def test_errors(call, message: str) -> None:
    with pytest.raises(UnipError, match=f"(?s){message}"):
        call()
