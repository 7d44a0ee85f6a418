"""Conversion of the counts or temperatures of an infrared frame to the 8-bit grey that models see.

Cameras store 14- or 16-bit counts, radiometric files temperatures; models see 256 levels of grey, white hot. The rule
is part of the data and of a model trained on it: a :class:`Conversion` is saved with both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.config import Conversion

Values = npt.NDArray[Any]  # uint8, uint16 or float32 (Kelvin), (H, W) or (H, W, 3)
Grey8 = npt.NDArray[np.uint8]

DEFAULT = Conversion()
LEVELS = 256  # about so many bins of the histogram lie between the two percentiles
WHOLE = 2**24  # below it, all whole numbers are exact in float32
MAX_BINS = 65536  # bins between minimum and maximum
ROWS_AT_ONCE = 512
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def grey8(image: Values, conversion: Conversion = DEFAULT) -> Grey8:
    """Turn a frame into 8-bit grey, white hot.

    Colour becomes luma (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B). 8-bit frames keep their values, because their
    camera has converted them already; only the polarity applies to them. Wider samples become 8-bit by

    - ``percentile``: linearly from the frame's two percentiles to 0 and 255; if those are equal, as ``minmax``;
    - ``minmax``: linearly from the frame's minimum and maximum;
    - ``plateau``: plateau equalisation, see :func:`plateau_curve`;
    - ``window``: linearly from fixed values, so that a level means the same in every frame.

    A frame without any contrast becomes 0 (255 if it is black-hot), except in a window.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)``, uint8, uint16 (counts) or float (Kelvin, counts); samples that are not
            finite take no part in the rule and become what the least one becomes.
        conversion: The rule.

    Returns:
        ``(H, W)`` uint8.
    """
    if image.dtype == np.uint8:
        grey = image if image.ndim == 2 else np.array(Image.fromarray(image).convert("L"))
    else:
        grey = luma(image)
        grey = to_uint8(grey, grey, conversion)
    return grey if conversion.polarity == "white-hot" else np.uint8(255) - grey


def luma(image: Values) -> Values:
    """Return the luma of ``(H, W, 3)`` as float32, or ``(H, W)`` as it is."""
    return image if image.ndim == 2 else image @ np.array(LUMA, dtype=np.float32)


def to_uint8(values: Values, grey: Values, conversion: Conversion = DEFAULT) -> Grey8:
    """Map ``values`` (any shape, not 8-bit) to 0..255 by the curve that ``conversion`` finds for the frame ``grey``.

    The polarity is left to the caller.
    """
    if grey.dtype.kind == "f":
        values, grey = _finite(values, grey)  # the frame is a list of the samples that count
    if conversion.method == "plateau":
        at, levels = plateau_curve(grey, conversion)
        return _by_rows(values, lambda rows: np.rint(np.interp(rows, at, levels)))
    if conversion.window is not None:
        low, high = conversion.window
    else:
        low, high = np.percentile(grey, conversion.percentiles) if conversion.method == "percentile" else (0, 0)
        if low == high:
            low, high = float(grey.min()), float(grey.max())
        if low == high:
            return np.zeros(values.shape, dtype=np.uint8)
    start, factor = np.float32(low), np.float32(255.0 / (high - low))
    with np.errstate(over="ignore"):  # far outside of the two
        return _by_rows(values, lambda rows: np.clip(np.rint((rows.astype(np.float32) - start) * factor), 0, 255))


def _by_rows(values: Values, curve: Callable[[Values], Values]) -> Grey8:
    """Apply a curve to some rows at a time: floats of a whole large frame take several times its memory."""
    levels = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), ROWS_AT_ONCE):
        levels[first : first + ROWS_AT_ONCE] = curve(values[first : first + ROWS_AT_ONCE])
    return levels


def plateau_curve(
    grey: Values,
    conversion: Conversion,
    weights: npt.NDArray[np.int64] | None = None,
    percentiles: tuple[float, float] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the curve of plateau equalisation of a frame as corners ``(values, levels)``, levels 0..255.

    Histogram equalisation gives large even surfaces (sky, road) most of the grey levels, and their noise with them.
    Plateau equalisation (V. E. Vickers, "Plateau equalization algorithm for real-time display of high-quality infrared
    imagery", Optical Engineering 35(7), 1996; the usual gain control of thermal cores) cuts every bin of the
    histogram down to a plateau P before it is summed up:

        h'(b) = min(h(b), P),   level(b) = 255 * sum of h' up to b / sum of h' over all bins.

    A small P approaches one share for every bin that is not empty, a large P plain equalisation. Here P is
    ``conversion.plateau`` times the pixels for each 256th of the span between the frame's two percentiles, whatever the
    camera's counts a Kelvin. Bins of about that width (of whole counts) go on outside of the percentiles, so that a few
    hot pixels neither coarsen the rest nor are lost. Within a bin the curve is linear.

    Args:
        grey: Samples of any shape, finite.
        conversion: Gives ``plateau`` and ``percentiles``.
        weights: How often each sample is there, of the same shape; left out: once.
        percentiles: Of all samples; to be given with ``weights``.
    """
    smallest, largest = float(grey.min()), float(grey.max())
    if smallest == largest:
        return np.array([smallest, smallest + 1]), np.zeros(2)
    low, high = np.percentile(grey, conversion.percentiles) if percentiles is None else percentiles
    level = (high - low) / LEVELS
    if 0 < level < (largest - smallest) / MAX_BINS and grey.dtype.kind == "f":  # one wild sample would coarsen the rest
        reach = (MAX_BINS - LEVELS) / 2 * level
        grey = np.clip(grey, low - reach, high + reach)
        smallest, largest = float(grey.min()), float(grey.max())
    step = max(level, (largest - smallest) / (MAX_BINS - 1))
    if grey.dtype.kind in "iu":
        step = max(1.0, np.floor(step))  # whole counts: else some bins would hold one more count than others
        smallest -= 0.5
    bins = int((largest - smallest) / step) + 1
    histogram = np.bincount(((grey - smallest) / step).astype(np.int64).ravel(), weights, minlength=bins)
    plateau = conversion.plateau * histogram.sum() * (step / level if level else 1.0)
    cut = np.minimum(histogram, plateau)
    levels = np.concatenate([[0.0], np.cumsum(cut)]) * (255.0 / cut.sum())
    corners = np.asarray(smallest + step * np.arange(len(levels)), np.float64)
    return corners, levels


def _finite(values: Values, grey: Values) -> tuple[Values, Values]:
    """Return values with the least finite sample (0 if there is none) in place of others, and the finite samples."""
    good = np.isfinite(grey)
    counted = grey[good] if good.any() else np.zeros(1, np.float32)
    if not good.all() and (counted == np.rint(counted)).all() and np.abs(counted).max() < WHOLE:
        counted = counted.astype(np.int32)  # counts stay whole numbers where some are missing
    return np.where(np.isfinite(values), values, counted.min()), counted
