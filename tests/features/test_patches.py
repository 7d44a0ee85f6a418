from __future__ import annotations

import numpy as np
import pytest

from unip.features.patches import patch_shares


@pytest.mark.parametrize("stored", [(20, 30), (16, 24), (7, 11), (64, 99)])
def test_shares_count_each_pixel_in_the_patch_it_lies_in(stored):
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), stored)
    size = (16, round(16 * stored[1] / stored[0]))
    grid = (2, -(-size[1] // 8))
    expected = np.zeros((*grid, 3))
    for y, x in np.argwhere(mask != 255):
        row, column = (y + 0.5) * size[0] / stored[0], (x + 0.5) * size[1] / stored[1]
        expected[int(row // 8), int(column // 8), mask[y, x]] += size[0] * size[1] / mask.size / 64
    found = patch_shares(mask, size, grid, 8, 3)
    np.testing.assert_allclose(found, expected.reshape(-1, 3), rtol=1e-6)
    assert np.isclose(patch_shares(mask * 0, size, grid, 8, 3).sum(), size[0] * size[1] / 64)
