"""Samples without a measurement that a file does not declare: a border of one value around the scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.images.config import Conversion
from unip.data.images.counts import Sampled, percentile
from unip.data.images.tiff import missing_samples, with_missing

Pixels = npt.NDArray[Any]  # (H, W) or (H, W, 3)

EVERY = 8  # rows and columns that are looked at first
BORDER_SHARE = 0.1  # of the outermost pixels that have the value
FRAME_SHARE = 0.2  # of all pixels that have it, if it lies elsewhere
LEAST_SHARE = 0.005  # of all pixels; percentiles leave fewer out
SPANS = 1.0  # distance from all others, in spans between their percentiles: the scene has less than half of the levels
PERCENTILES = (0.5, 99.5)
SAMPLE = 20_000  # samples that percentiles are taken of
SHOWN = 5  # values that a message names


def without_nodata(pixels: Pixels, nodata: float) -> Pixels:
    """Return samples as float32 in which those with the value ``nodata`` are NaN; as they are if none has it.

    Of a colour image, a pixel counts only if all its channels have the value. 8-bit samples stay as they are.

    Raises:
        UnipError: No other sample is left.
    """
    if pixels.dtype == np.uint8:
        return pixels
    missing = missing_samples(pixels, nodata)
    if pixels.ndim == 3:
        missing = np.repeat(missing.all(axis=2, keepdims=True), 3, axis=2)
    return with_missing(pixels, missing) if missing.any() else pixels


def suspected_nodata(pixels: Pixels, conversion: Conversion) -> float | None:
    """Return a value that looks like one without a measurement, and takes the contrast from the scene.

    It is the least or largest of the frame, lies far from all other values, and fills a good part of the frame's border
    or of the frame: a camera's scene has noise and continues to its extremes.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``, samples as they are converted; NaN takes no part.
        conversion: What becomes of them; a window is not moved by other values.

    Returns:
        The value; None if there is none, for 8-bit samples, and for a window.
    """
    if pixels.dtype == np.uint8 or conversion.method == "window":
        return None
    grey = pixels if pixels.ndim == 2 else pixels[..., 1]
    border = _finite(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    return _suspected(border, _finite(grey[::EVERY, ::EVERY]), lambda value: _is_far(_finite(grey), value))


def suspected_nodata_of_counts(sampled: Sampled, conversion: Conversion) -> float | None:
    """Do the same for a frame of counts that was read in parts.

    Args:
        sampled: What is kept of it; counts without a measurement are in none of its arrays.
        conversion: What becomes of them.
    """
    if conversion.method == "window":
        return None

    def is_far(value: Any) -> bool:
        histogram = sampled.histogram.copy()
        histogram[int(value)] = 0
        values = np.flatnonzero(histogram)
        if sampled.histogram[int(value)] < LEAST_SHARE * sampled.histogram.sum() or not len(values):
            return False
        low, high = (percentile(values, histogram[values], percent) for percent in PERCENTILES)
        return _lies_beyond(float(value), float(values[0]), float(values[-1]), low, high)

    return _suspected(sampled.border, sampled.some, is_far)


def _suspected(border: Pixels, some: Pixels, is_far: Callable[[Any], bool]) -> float | None:
    if not border.size or not some.size:
        return None
    values = {min(border.min(), some.min()), max(border.max(), some.max())}
    for value in sorted(values, key=lambda value: -float((border == value).mean())):
        if (border == value).mean() >= BORDER_SHARE or (some == value).mean() >= FRAME_SHARE:
            if is_far(value):
                return float(value)
    return None


def describe_suspected(subject: str, values: Sequence[float], fix: str) -> str:
    """Say what such values do, and what helps.

    Args:
        subject: The frames, with a verb, such as ``"3 of 40 images have"``.
        values: What :func:`suspected_nodata` returned for them.
        fix: What to write in front of the most frequent value.
    """
    (value, _), *others = Counter(values).most_common(SHOWN)
    also = f" (others: {', '.join(f'{other:.10g}' for other, _ in others)})" if others else ""
    return (
        f"{subject} a border or area of one value, {value:.10g}{also}, far from all other values, which takes the "
        f"contrast from the scene. If it stands for pixels without a measurement: {fix} {value:.10g}"
    )


def _is_far(samples: Pixels, value: Any) -> bool:
    others = samples[samples != value]
    if len(samples) - len(others) < LEAST_SHARE * len(samples) or not len(others):
        return False
    low, high = (float(level) for level in np.percentile(others[:: len(others) // SAMPLE + 1], PERCENTILES))
    return _lies_beyond(float(value), float(others.min()), float(others.max()), low, high)


def _lies_beyond(value: float, least: float, largest: float, low: float, high: float) -> bool:
    """Say whether a value lies far from all others, of which these are the ends and two percentiles."""
    if least < value < largest or high == low:
        return False
    return max(low - value, value - high) > SPANS * (high - low)


def _finite(values: Pixels) -> Pixels:
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
