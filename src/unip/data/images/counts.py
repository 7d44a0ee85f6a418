"""Conversion of 16-bit counts to 8 bits by a histogram of all 65,536 counts: for frames that are read in parts.

The curve of a conversion (:mod:`unip.data.images.conversion`) depends on the whole frame, but only on how often each
count is there. So parts of a frame are counted first; then a table of 65,536 levels converts every part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.images.config import Conversion
from unip.data.images.conversion import plateau_curve
from unip.errors import UnipError

Histogram = npt.NDArray[np.int64]  # (65536,)
Table = npt.NDArray[np.uint8]  # (65536,)

COUNTS = 65536
AT_ONCE = 2**20  # samples that are counted or converted at once: numpy makes 8 bytes of each


def add_counts(histogram: Histogram, samples: npt.NDArray[np.uint16]) -> None:
    """Count samples of any shape in ``histogram``."""
    for rows in _parts(samples):
        histogram += np.bincount(samples[rows].ravel(), minlength=COUNTS)


def convert(samples: npt.NDArray[np.uint16], table: Table, out: npt.NDArray[np.uint8]) -> None:
    """Write the levels of samples to ``out``, of the same shape."""
    for rows in _parts(samples):
        out[rows] = table[samples[rows]]


def _parts(samples: npt.NDArray[Any]) -> Iterator[slice]:
    rows = max(1, AT_ONCE // max(1, samples[:1].size))
    for first in range(0, len(samples), rows):
        yield slice(first, first + rows)


def level_table(histogram: Histogram, conversion: Conversion) -> Table:
    """Return the level of every count, as :func:`unip.data.images.conversion.grey8` gives it.

    Args:
        histogram: How many samples have each count; those without a measurement are not counted.
        conversion: The rule.

    Raises:
        UnipError: Nothing is counted.
    """
    values = np.flatnonzero(histogram)
    if not len(values):
        raise UnipError("holds no finite sample", "Save it again from its source.")
    table = _levels(values, histogram[values], conversion)
    return table if conversion.polarity == "white-hot" else np.uint8(255) - table


def _levels(values: npt.NDArray[np.int64], weights: Histogram, conversion: Conversion) -> Table:
    counts = np.arange(COUNTS, dtype=np.float32)
    if conversion.method == "plateau":
        ends = (
            percentile(values, weights, conversion.percentiles[0]),
            percentile(values, weights, conversion.percentiles[1]),
        )
        at, levels = plateau_curve(values, conversion, weights, ends)
        return np.rint(np.interp(counts, at, levels)).astype(np.uint8)
    if conversion.window is not None:
        low, high = conversion.window
    else:
        low, high = float(values[0]), float(values[-1])
        if conversion.method == "percentile":
            below, above = (percentile(values, weights, percent) for percent in conversion.percentiles)
            if below != above:
                low, high = below, above
        if low == high:
            return np.zeros(COUNTS, np.uint8)
    with np.errstate(over="ignore"):
        scaled = (counts - np.float32(low)) * np.float32(255.0 / (high - low))
    table: Table = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return table


def percentile(values: npt.NDArray[np.int64], weights: Histogram, percent: float) -> float:
    """Return what ``numpy.percentile`` returns of all samples: between two of them, linearly by the rank.

    Args:
        values: The counts that are there, in order.
        weights: How many samples have each.
        percent: 0..100.
    """
    until = np.cumsum(weights)
    place = percent / 100 * (int(until[-1]) - 1)
    rank = int(np.floor(place))
    share = place - rank
    below, above = (
        float(values[np.searchsorted(until, min(each, int(until[-1]) - 1), side="right")]) for each in (rank, rank + 1)
    )
    # in this way at both ends, as numpy does, so that rounding is the same
    return below + (above - below) * share if share < 0.5 else above - (above - below) * (1 - share)


@dataclass(frozen=True, eq=False)
class Sampled:
    """What is kept of the counts of a frame beside their histogram, to see what is strange about them.

    Attributes:
        histogram: Of all counts but those without a measurement, ``(65536,)``.
        border: The outermost samples of the four sides.
        some: Every eighth sample of every eighth row.
    """

    histogram: Histogram
    border: npt.NDArray[np.uint16]
    some: npt.NDArray[np.uint16]

    @property
    def largest(self) -> int:
        """The largest count."""
        return int(np.flatnonzero(self.histogram)[-1])

    def share_outside(self, window: tuple[float, float]) -> float:
        """Return the share of the samples outside of a window."""
        counts = np.arange(COUNTS)
        outside = (counts < window[0]) | (counts > window[1])
        return float(self.histogram[outside].sum() / self.histogram.sum())
