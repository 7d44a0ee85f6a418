"""What one frame tells about its noise, focus and compression.

All measures take ``levels``: grey as float32, 8-bit levels as stored, or wider samples scaled so that their 0.5 and
99.5 percentiles lie 255 apart (:func:`unip.data.examination.frames.as_levels`). So one threshold serves every depth.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Image32 = npt.NDArray[np.float32]
Profile = npt.NDArray[np.float32]

NOISE_BLOCK = 16  # pixels; side of the squares of which the evenest tell the noise
NOISE_SHARE = 25.0  # percentile of the squares
HALF_NORMAL = float(np.sqrt(np.pi / 2))  # mean absolute value of a normal distribution -> its sigma
LAPLACIAN_GAIN = 6.0  # by which the operator of `second_differences` multiplies white noise
EDGE_REACH = 5  # steps over which an edge may rise
EDGE_SHARE = 0.01  # of the pixels, with the largest rise
MIN_EDGE = 12.0  # levels; a frame whose largest rises are smaller has no edge to judge by
JPEG_BLOCK = 8  # pixels
MIN_STEP = 1.0  # levels; where neighbours differ less, on average, the edges of squares are not seen
LOW_WAVES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))  # coefficients of a square that most scenes have
ROUNDING = 2.0  # that whole levels leave in a coefficient of 0
FIRST_STEP = 8.0  # of the coefficients: JPEG of quality 60 and less has none smaller
MIN_WAVES = 40  # coefficients to judge by
NEAR_END = 1.0  # levels from an end of the range that count as clipped


def second_differences(levels: Image32) -> Image32:
    """Return the second difference across and down, ``(H - 2, W - 2)``: no edge along an axis, no stripe is left in it.

    The operator is that of J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding
    64(2), 1996: ``[1, -2, 1; -2, 4, -2; 1, -2, 1]``. White noise of 1 level becomes 6 levels.
    """
    across = levels[:, 2:] + levels[:, :-2] - 2 * levels[:, 1:-1]
    found: Image32 = across[2:] + across[:-2] - 2 * across[1:-1]
    return found


def noise(levels: Image32, differences: Image32, ends: tuple[float, float]) -> float:
    """Estimate the noise of a frame: sigma in levels, from its evenest squares (lossy files have lost some of it).

    Args:
        levels: ``(H, W)``.
        differences: :func:`second_differences` of it.
        ends: The lowest and highest level; squares that touch them are clipped, and left out.

    Returns:
        Sigma; NaN where everything is clipped or the frame is too small.
    """
    size = min(NOISE_BLOCK, *differences.shape)
    if not size:
        return float("nan")
    means = _blocks(np.abs(differences), size).mean(axis=(1, 3))
    inner = _blocks(levels[1:-1, 1:-1], size)
    low, high = ends[0] + NEAR_END, ends[1] - NEAR_END
    open_blocks = (inner.min(axis=(1, 3)) > low) & (inner.max(axis=(1, 3)) < high)
    if not open_blocks.any():
        return float("nan")
    return float(np.percentile(means[open_blocks], NOISE_SHARE)) * HALF_NORMAL / LAPLACIAN_GAIN


def edge_width(levels: Image32) -> float:
    """Return over how many pixels the strongest edges rise: 1 is a step, 5 and more a frame out of focus.

    For the pixels with the largest rises over ``EDGE_REACH`` steps, the whole rise over its largest step.

    Returns:
        Median width in pixels; NaN for a frame without edges.
    """
    widths = [each for each in (_widths(levels), _widths(levels.T)) if len(each)]
    return float(np.median(np.concatenate(widths))) if widths else float("nan")


def _widths(levels: Image32) -> Image32:
    steps = np.diff(levels, axis=1)
    if steps.shape[1] < EDGE_REACH:
        return np.zeros(0, np.float32)
    rises = np.abs(levels[:, EDGE_REACH:] - levels[:, :-EDGE_REACH])
    count = max(1, int(EDGE_SHARE * rises.size))
    limit = max(MIN_EDGE, float(np.partition(rises.ravel(), -count)[-count]))
    rows, columns = np.nonzero(rises >= limit)
    largest = np.abs(steps[rows[:, None], columns[:, None] + np.arange(EDGE_REACH)]).max(axis=1)
    found: Image32 = rises[rows, columns] / largest
    return found


def squares(levels: Image32) -> tuple[float, float]:
    """Tell the squares of JPEG, at whatever position their grid is, as frames may be cropped.

    Returns:
        By how much steps between neighbours are larger at every 8th pixel than beside it, over their mean; and
        :func:`quantised`, of the grid that this finds or of that of a whole frame.
    """
    (across, left), (down, top) = _grid(levels), _grid(levels.T)
    grids = {(0, 0), (top, left)}
    return max(across, down), max(quantised(levels[top:, left:]) for top, left in grids)


def quantised(levels: Image32) -> float:
    """Return the share of a frame's small waves that are missing, as quantisation removes them: 1 after strong JPEG.

    Of the coefficients (ITU-T T.81, 1992) ``LOW_WAVES`` of all squares of 8x8 that are not 0, the share that is at
    least ``FIRST_STEP``. Compression leaves multiples of its step and nothing between; scenes have more of the small.
    Squares that touch black or white are left out, since they were cut off after compression.

    Returns:
        0 to 1; 0 where too few coefficients are there.
    """
    if min(levels.shape) < JPEG_BLOCK:
        return 0.0
    blocks = _blocks(levels, JPEG_BLOCK).swapaxes(1, 2).reshape(-1, JPEG_BLOCK * JPEG_BLOCK)
    blocks = blocks[(blocks.min(axis=1) > 0) & (blocks.max(axis=1) < 255)]
    waves = np.abs(np.einsum("bp,wp->bw", blocks, _low_waves()))  # frames are read in threads; BLAS would add its own
    present = int((waves > ROUNDING).sum())
    return float((waves >= FIRST_STEP).sum() / present) if present >= MIN_WAVES else 0.0


@cache
def _low_waves() -> Image32:
    """Return ``LOW_WAVES`` of the cosine transform of a square, ``(5, 64)``."""
    at = (2 * np.arange(JPEG_BLOCK) + 1) * np.pi / (2 * JPEG_BLOCK)
    rows = [np.cos(at * k) * np.sqrt((1 if k == 0 else 2) / JPEG_BLOCK) for k in range(3)]
    waves = [np.outer(rows[down], rows[right]).ravel() for down, right in LOW_WAVES]
    return np.stack(waves).astype(np.float32)


def _grid(levels: Image32) -> tuple[float, int]:
    """Return how far steps stand out at every 8th column, and the first column at which a square begins."""
    steps = np.minimum(np.abs(np.diff(levels, axis=1)), 24.0).mean(axis=0)
    if len(steps) < 4 * JPEG_BLOCK:
        return 0.0, 0
    peaks = steps[1:-1] - (steps[2:] + steps[:-2]) / 2
    count = len(peaks) // JPEG_BLOCK * JPEG_BLOCK
    folded = np.median(peaks[:count].reshape(-1, JPEG_BLOCK), axis=0)
    rest = np.sort(folded)[:-1]
    found = float((folded.max() - np.median(rest)) / max(float(steps.mean()), MIN_STEP))
    return found, (int(folded.argmax()) + 2) % JPEG_BLOCK


def _blocks(image: Image32, size: int) -> Image32:
    height, width = (side // size * size for side in image.shape)
    return image[:height, :width].reshape(height // size, size, width // size, size)
