"""Matrices of whole numbers do what torch's resizing does, at every size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from unip.data.sampling.scaling import short_side_size
from unip.deployment.export.resampling import (
    along_columns,
    along_rows,
    bicubic_weights,
    image_weights,
    pooling_weights,
    resize_levels,
    resized_length,
)


def random_sizes(count: int, largest: int) -> list[tuple[int, int, int, int]]:
    return [tuple(int(side) for side in row) for row in np.random.default_rng(0).integers(2, largest, (count, 4))]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_resized_as_torch_resizes_8_bit_ones(channels):
    wrong = pixels = 0
    for height, width, tall, wide in [
        *random_sizes(40, 300),
        (96, 128, 1024, 1365),
        (300, 400, 7, 9),
        (31, 17, 31, 17),
    ]:
        image = torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)
        found = resize_levels(image.float(), (tall, wide), (tall + 3, wide + 5))
        expected = TF.resize(image, [tall, wide], antialias=True).float()
        assert not found[:, tall:].any() and not found[..., wide:].any()
        differences = (found[:, :tall, :wide] - expected).abs()
        assert differences.max() <= 1
        wrong, pixels = wrong + int((differences > 0).sum()), pixels + differences.numel()
    assert wrong <= 2e-5 * pixels  # where sums of many products are rounded


def test_weights_are_whole_numbers_of_16_bits():
    for old, new in ((96, 1024), (1024, 96), (5, 5), (7, 3)):
        weights = image_weights(old, new, new)
        scale = 2.0 ** (14 - torch.floor(torch.log2(weights.max())))
        assert torch.equal(weights * scale, (weights * scale).round()) and (weights * scale).max() < 2**15
        assert (weights.sum(1) - 1).abs().max() < 1e-3


def test_positions_are_resized_as_torch_resizes_them():
    for rows, columns, tall, wide in [*random_sizes(30, 40), (14, 14, 14, 14)]:
        maps = torch.randn(4, rows, columns)
        (expected,) = F.interpolate(maps[None], size=(tall, wide), mode="bicubic", antialias=True)
        found = along_columns(along_rows(maps, bicubic_weights(columns, wide)), bicubic_weights(rows, tall))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_pooling_is_adaptive_average_pooling():
    for rows, columns, _, _ in random_sizes(20, 40):
        maps = torch.randn(1, 4, rows, columns)
        for size in (1, 2, 3, 6):
            found = pooling_weights(rows, size) @ maps @ pooling_weights(columns, size).T
            torch.testing.assert_close(found, F.adaptive_avg_pool2d(maps, size), atol=1e-5, rtol=0)


def test_sides_are_rounded_as_those_of_frames_are():
    sides = np.random.default_rng(0).integers(100, 4000, (3000, 2))
    for height, width in [*sides.tolist(), (1450, 1280), (3825, 252)]:  # the last two end in a half
        for short_side in (32, 448, 512, 518):
            shorter = min(height, width)
            found = tuple(resized_length(side, shorter, short_side) for side in (height, width))
            assert found == short_side_size(height, width, short_side)
    assert short_side_size(1450, 1280, 448) == (508, 448)
