"""What the focal plane array adds: noise that changes with each frame, patterns that do not, and dead pixels.

The noise terms are those of the three-dimensional noise model (J. D'Agostino and C. Webb, "Three-dimensional analysis
framework and measurement methodology for imaging system noise", Proc. SPIE 1488, 1991): temporal noise of each pixel
(sigma tvh), fixed noise of each pixel (sigma vh), of columns (sigma h) and of rows (sigma v). It states them in Kelvin;
``LEVELS_PER_KELVIN`` makes them grey.
"""

from __future__ import annotations

import numpy as np

from unip.data.corruptions.corruption import LEVELS_PER_KELVIN, Grey8, clip_to_uint8, smooth_field

ROWS_TO_COLUMNS = 0.3  # spread of row offsets: arrays are read through one amplifier a column
SHADING = 1.0  # spread of the slow part of the fixed pattern over that of its pixels
DEAD_ROWS = 0.25  # share of rows that are dead, over that of pixels


def temporal_noise(image: Grey8, netd: float, rng: np.random.Generator) -> Grey8:
    """White noise, new in each frame: sigma tvh of D'Agostino and Webb (1991).

    Args:
        image: ``(H, W)``.
        netd: Noise-equivalent temperature difference, Kelvin. Uncooled cameras state 0.03 to 0.08 at f/1 and 300 K; it
            grows with the square of the f-number, with a cold scene and with a short exposure.
        rng: Of the frame.
    """
    return clip_to_uint8(
        image + np.float32(netd * LEVELS_PER_KELVIN) * rng.standard_normal(image.shape, dtype=np.float32)
    )


def fixed_pattern(image: Grey8, sigma: float, rng: np.random.Generator) -> Grey8:
    """Offsets that the correction left or that have drifted since: sigma vh of D'Agostino and Webb (1991).

    Each pixel has its own, and a slow shading lies over them: the radiation of a housing whose temperature has changed
    since the last shutter.

    Args:
        image: ``(H, W)``.
        sigma: Spread of the pixels' offsets, Kelvin; that of the shading is ``SHADING`` times as large.
        rng: Of the camera.
    """
    pattern = rng.standard_normal(image.shape, dtype=np.float32)
    pattern += np.float32(SHADING) * smooth_field(image.shape, rng)
    return clip_to_uint8(image + np.float32(sigma * LEVELS_PER_KELVIN) * pattern)


def stripes(image: Grey8, sigma: float, rng: np.random.Generator) -> Grey8:
    """Offsets of whole columns and rows: sigma h and sigma v of D'Agostino and Webb (1991).

    Args:
        image: ``(H, W)``.
        sigma: Spread of the columns' offsets, Kelvin; that of rows is ``ROWS_TO_COLUMNS`` times as large.
        rng: Of the camera.
    """
    columns = rng.standard_normal(image.shape[1], dtype=np.float32)
    rows = rng.standard_normal((image.shape[0], 1), dtype=np.float32)
    return clip_to_uint8(image + np.float32(sigma * LEVELS_PER_KELVIN) * (columns + np.float32(ROWS_TO_COLUMNS) * rows))


def dead_pixels(image: Grey8, share: float, rng: np.random.Generator) -> Grey8:
    """Pixels and rows stuck at black or at white.

    Source: the dead and the saturated pixels of J. M. López-Alonso and J. Alda, "Bad pixel identification by means of
    principal components analysis", Optical Engineering 41(9), 2002.

    Args:
        image: ``(H, W)``.
        share: Of the pixels, each alone; ``DEAD_ROWS`` times that share of the rows dies too.
        rng: Of the camera.
    """
    height = image.shape[0]
    stuck = rng.integers(0, 2, image.shape, dtype=np.uint8) * np.uint8(255)
    dead = rng.random(image.shape, dtype=np.float32) < share
    rows = rng.permutation(height)[: round(DEAD_ROWS * share * height)]
    stuck[rows] = stuck[rows, :1]  # all pixels of a row are equal
    dead[rows] = True
    return np.where(dead, stuck, image)
