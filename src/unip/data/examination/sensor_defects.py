"""Defects that sit in the sensor or in the file and not in the scene: dead pixels, stripes, fixed patterns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

STRIPE_REACH = 2  # neighbours on either side that a column is compared with
STRIPE_CLIP = 12.0  # levels; more is an edge of the scene
BANDS = 4  # of the height, which a stripe crosses and an edge of the scene rarely does
AGREEING = 0.5  # of the columns, whose bands all lie on the same side; by chance it is 1 in 8


def impulses(levels: Image32, limit: float) -> Mask:
    """Return which pixels lie above, or below, all eight neighbours by more than ``limit`` levels; none at the edge."""
    found = np.zeros(levels.shape, dtype=bool)
    if min(levels.shape) < 3:
        return found
    inner = levels[1:-1, 1:-1]
    beside = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]
    rows, columns = np.nonzero(np.abs(4 * inner - beside) > 4 * limit)  # the few for which all eight are looked at
    places = [(down, right) for down in range(3) for right in range(3) if (down, right) != (1, 1)]
    around = np.array([levels[rows + down, columns + right] for down, right in places])
    values = inner[rows, columns]
    dead = (values - around.max(axis=0) > limit) | (around.min(axis=0) - values > limit)
    found[rows[dead] + 1, columns[dead] + 1] = True
    return found


def beyond_texture(levels: Image32, found: Mask) -> int:
    """Count the pixels that stand out from their eight neighbours by more than those differ from each other.

    Leaves, branches and windows stand out too, one pixel large, but among neighbours that differ as much.

    Args:
        levels: ``(H, W)``.
        found: Pixels above, or below, all their neighbours; none at the edge, see :func:`impulses`.
    """
    rows, columns = np.nonzero(found)
    if not len(rows):
        return 0
    places = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
    around = np.array([levels[rows + down, columns + right] for down, right in places])
    values, highest, lowest = levels[rows, columns], around.max(axis=0), around.min(axis=0)
    return int((np.maximum(values - highest, lowest - values) > highest - lowest).sum())


def stripe_bands(levels: Image32) -> Image32:
    """Return how far each column lies from its neighbours, in levels, in each of four bands: ``(BANDS, W)``."""
    reach = STRIPE_REACH
    found = np.zeros((BANDS, levels.shape[1]), np.float32)
    if levels.shape[1] <= 2 * reach or levels.shape[0] < BANDS:
        return found
    total = np.zeros((levels.shape[0], levels.shape[1] - 2 * reach), np.float32)
    for shift in range(2 * reach + 1):
        if shift != reach:
            total += levels[:, shift : shift + total.shape[1]]
    beside = np.clip(levels[:, reach:-reach] - total / (2 * reach), -STRIPE_CLIP, STRIPE_CLIP)
    found[:, reach:-reach] = [band.mean(axis=0) for band in np.array_split(beside, BANDS)]
    return found


def stripe_spread(bands: Image32) -> float:
    """Return the spread of the columns' offsets, in levels; 0 where the bands do not agree, as in rows of a scene.

    It is that of the median of the bands, so that what crosses less than half of the frame is left out.

    Args:
        bands: :func:`stripe_bands` of a frame, or their mean over frames.
    """
    same = (bands > 0).all(axis=0) | (bands < 0).all(axis=0)
    return robust_spread(np.median(bands, axis=0)) if same.mean() >= AGREEING else 0.0


def robust_spread(values: npt.NDArray[np.floating]) -> float:
    """Return the median absolute deviation, scaled to the sigma of a normal distribution."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0
