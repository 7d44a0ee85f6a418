"""Connected regions of a mask: pieces of one class that hang together, which are objects or close to it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import Pixels8

Integers = npt.NDArray[np.int64]


def regions(mask: Pixels8) -> tuple[Integers, Integers]:
    """Find the pieces of equal ids that touch, also at corners.

    Pieces are put together from runs of equal pixels in a row, which are far fewer than pixels, as in classic two-pass
    labelling (Rosenfeld and Pfaltz, "Sequential operations in digital picture processing", J. ACM 13, 1966).

    Args:
        mask: ``(H, W)`` uint8 ids.

    Returns:
        The id of each region and its area in pixels, both ``(N,)``.
    """
    width = mask.shape[1]
    ids = mask.ravel()
    begins = np.ones(mask.shape, dtype=bool)
    begins[:, 1:] = mask[:, 1:] != mask[:, :-1]
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], ids.size)
    upper, lower = _touching(starts, ends, ids, width)
    roots = _joined(len(starts), upper, lower)
    areas = np.bincount(roots, weights=ends - starts, minlength=len(starts)).astype(np.int64)
    alive = np.flatnonzero(areas)
    return ids[starts[alive]].astype(np.int64), areas[alive]


def _touching(starts: Integers, ends: Integers, ids: Pixels8, width: int) -> tuple[Integers, Integers]:
    """Return pairs of runs with one id that touch from one row to the next."""
    upper = np.flatnonzero(ends + width <= ids.size)
    row = starts[upper] // width * width + width  # where the row below begins
    left = np.maximum(starts[upper] + width - 1, row)
    right = np.minimum(ends[upper] + width + 1, row + width)
    first = np.searchsorted(starts, left, side="right") - 1
    count = np.searchsorted(starts, right, side="left") - first
    offsets = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    lower, upper = np.repeat(first, count) + offsets, np.repeat(upper, count)
    same = ids[starts[upper]] == ids[starts[lower]]
    return upper[same], lower[same]


def _joined(count: int, one: Integers, other: Integers) -> Integers:
    """Return the root of each of ``count`` nodes: the lowest node that edges ``one - other`` connect it with."""
    roots = np.arange(count)
    while True:
        low, high = np.minimum(roots[one], roots[other]), np.maximum(roots[one], roots[other])
        if (low == high).all():
            return roots
        np.minimum.at(roots, high, low)
        while (roots != (further := roots[roots])).any():
            roots = further
