"""Quality measures of a decoded image: sharpness, tilt, false colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import Pixels, Pixels8

EVERY = 4  # rows and columns that are looked at for sharpness
BLOCK = 8  # pixels; the squares of JPEG
BLOCKS = 1200  # looked at for false colours
POINTS = 400  # the evenest of them that are compared
NEIGHBOURS = 30  # that must lie on a line
FALSE_COLOUR = 0.02  # of colour_spread; natural colours are rarely below
MIN_COLOUR_LEVELS = 25.0  # levels (RMS) from the grey axis, below which false colours cannot be told
PALETTE = 256  # colours of a colour map stored without loss
SAMPLE = 65536  # pixels whose colours are counted


def sharpness(grey: Pixels8) -> float:
    """Return the mean absolute difference of neighbouring pixels, in grey levels, of every fourth row and column."""
    values = grey.astype(np.int16)
    across = np.abs(np.diff(values[::EVERY], axis=1))
    down = np.abs(np.diff(values[:, ::EVERY], axis=0))
    return float((across.sum() + down.sum()) / max(1, across.size + down.size))


def tilt(grey: Pixels8) -> float:
    """Return how much brighter the top quarter is than the bottom quarter, in standard deviations of the image.

    Outdoors the sky is cold: a camera that looks ahead sees it black if white is hot, and white if black is hot.
    """
    grey = grey[::EVERY, ::EVERY]
    quarter = max(1, len(grey) // 4)
    spread = float(grey.std())
    return float(grey[:quarter].mean() - grey[-quarter:].mean()) / spread if spread else 0.0


def colour_spread(image: Pixels) -> float:
    """Return how far an image's colours are from lying on one curve, as those of a colour map (palette) do.

    The colours of the evenest 8 x 8 squares (their edges would mix colours, also in JPEG's coarser chroma) are points
    in RGB. Around each, the nearest ones lie along a line if all lie on a curve: the measure is the median
    distance (RMS) from that line, found by principal components, over the extent (RMS) of all the points.

    Args:
        image: ``(H, W, 3)`` uint8 or uint16.

    Returns:
        0 if there are at most 256 colours, below 0.02 for most colour maps stored as JPEG, 0.02 to 0.1 for a
        scene's own colours; 1 if there is too little colour or area to tell.
    """
    height, width = (size // BLOCK * BLOCK for size in image.shape[:2])
    blocks = image[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).swapaxes(1, 2)
    step = max(1, int(np.sqrt(blocks.shape[0] * blocks.shape[1] / BLOCKS)))
    pixels: npt.NDArray[np.float32] = blocks[::step, ::step].reshape(-1, BLOCK * BLOCK, 3).astype(np.float32)
    if image.dtype != np.uint8:
        pixels /= 257
    if len(pixels) < 2 * NEIGHBOURS:
        return 1.0
    evenest = np.argsort(pixels.std(axis=1).sum(axis=1), kind="stable")[: len(pixels) // 2]
    points = pixels.mean(axis=1)[evenest[:: -(-len(evenest) // POINTS)]]
    colour = points - points.mean(axis=1, keepdims=True)
    if np.sqrt((colour**2).sum(axis=1).mean()) < MIN_COLOUR_LEVELS:
        return 1.0
    if image.dtype == np.uint8 and _few_colours(image):
        return 0.0
    extent = float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * points @ points.T
    count = min(NEIGHBOURS, len(points) - 1)
    near = points[np.argpartition(distances, count, axis=1)[:, :count]].astype(np.float64)
    near -= near.mean(axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(near.swapaxes(1, 2) @ near / count)  # rising
    beside = np.sqrt(np.maximum(0, variances[:, :2].sum(axis=1)))
    return float(np.median(beside)) / max(extent, 1.0)


def _few_colours(image: Pixels8) -> bool:
    flat = image.reshape(-1, 3)
    sample = flat[:: -(-len(flat) // SAMPLE)].astype(np.uint32)
    return len(sample) > 4 * PALETTE and len(np.unique(sample @ np.array([1, 256, 65536], np.uint32))) <= PALETTE
