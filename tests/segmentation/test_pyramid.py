import pytest
import torch
from torch.nn import functional as F

from unip.segmentation.pyramid import FPN, LLFPN, spread_layers


@pytest.mark.parametrize(
    ("depth", "layers"), [(12, (4, 6, 8, 12)), (24, (8, 12, 16, 24)), (6, (2, 3, 4, 6)), (1, (1, 1, 1, 1))]
)
def test_layers_are_the_papers(depth, layers):
    assert spread_layers(depth) == layers
    assert FPN.layers(depth) == layers
    assert LLFPN.layers(depth) == (depth,)


def test_llfpn_has_strides_4_8_16_32_from_one_map():
    tokens = torch.randn(2, 6, 5, 7)
    finest, fine, same, coarse = LLFPN(6).eval()([tokens])
    assert [tuple(x.shape) for x in (finest, fine, coarse)] == [(2, 6, 20, 28), (2, 6, 10, 14), (2, 6, 2, 3)]
    assert torch.equal(same, tokens)
    assert torch.equal(coarse, F.max_pool2d(tokens, 2))


def test_fpn_gives_each_layer_its_scale():
    pyramid = FPN(4).eval()
    maps = [torch.randn(1, 4, 4, 4) for _ in range(4)]
    levels = pyramid(maps)
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2]
    for index in range(4):
        changed = [m + 1 if i == index else m for i, m in enumerate(maps)]
        moved = [not torch.equal(a, b) for a, b in zip(levels, pyramid(changed), strict=True)]
        assert moved == [i == index for i in range(4)]


def test_transposed_convolutions_do_not_overlap():
    """Each token makes its own 4 x 4 block: changing one token changes that block only."""
    pyramid = LLFPN(3).eval()
    tokens = torch.randn(1, 3, 4, 4)
    other = tokens.clone()
    other[..., 1, 2] += 1
    changed = (pyramid([tokens])[0] != pyramid([other])[0]).any(1)[0]
    assert changed[4:8, 8:12].all()
    assert changed.sum() == 16
