import numpy as np
import pytest

from unip.data.labelled.regions import regions


def flood(mask):
    """The plain way: fill from each pixel that no fill has reached."""
    left = {(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1])}
    found = []
    while left:
        queue = [left.pop()]
        label, area = mask[queue[0]], 0
        while queue:
            y, x = queue.pop()
            area += 1
            near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            same = {place for place in near if mask[place] == label}
            left -= same
            queue += same
        found.append((int(label), area))
    return sorted(found)


@pytest.mark.parametrize("ids", [2, 4, 20])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (17, 23), (24, 8)])
def test_regions_are_those_of_a_flood_fill(ids, shape):
    for seed in range(5):
        mask = np.random.default_rng(seed).integers(0, ids, shape).astype(np.uint8)
        assert sorted(zip(*(part.tolist() for part in regions(mask)), strict=True)) == flood(mask)


def test_a_spiral_is_one_region():
    """Its runs are joined only around many corners."""
    spiral = np.zeros((31, 31), np.uint8)
    top, left, bottom, right = 0, 0, 30, 30
    while top < bottom:
        spiral[top, left : right + 1] = spiral[top : bottom + 1, right] = spiral[bottom, left : right + 1] = 1
        spiral[top + 2 : bottom + 1, left] = 1
        spiral[top + 2, left : left + 3] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    assert sorted(zip(*(part.tolist() for part in regions(spiral)), strict=True)) == flood(spiral)


def test_regions_do_not_run_over_the_border():
    mask = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 0]], np.uint8)
    ids, areas = regions(mask)
    assert sorted(zip(ids.tolist(), areas.tolist(), strict=True)) == [(0, 7), (1, 1), (1, 1)]
