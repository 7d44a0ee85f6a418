"""From a frame to 256 levels of grey or colour in a graph: the rules of :mod:`unip.data.images.conversion`.

What numpy does there by sorting is done here by counting: histograms of 65,536 bins find the samples at a rank. So a
graph computes the same percentiles, on every engine and for frames of any size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unip.data.images.config import Conversion
from unip.data.images.conversion import LEVELS, MAX_BINS, WHOLE
from unip.data.images.decoding import GREY_SPREAD
from unip.deployment.export.config import InputType

LARGEST = torch.finfo(torch.float32).max
SHARES = 10_000  # percentiles have two decimals: products with as many pixels as this stay below 2**31
PILLOW_LUMA = (19595, 38470, 7471)  # 65536ths of red, green and blue, as Pillow converts to grey


def to_levels(frame: Tensor, conversion: Conversion, kind: InputType) -> Tensor:
    """Turn a frame into 256 levels, as :func:`unip.data.images.decoding.to_image8` does.

    Args:
        frame: ``(H, W)`` of the type ``kind``, or ``(H, W, 3)`` uint8.
        conversion: The rule; its percentiles have two decimals at most.
        kind: The type of the samples.

    Returns:
        ``(1, H, W)`` or ``(3, H, W)`` float32 of whole numbers 0..255.
    """
    samples = frame.float()
    if kind != "uint8":
        return _polarised(_grey_levels(samples, conversion, counts=kind == "int32"), conversion)[None]
    if frame.ndim == 2:
        return _polarised(samples, conversion)[None]
    colours = samples.permute(2, 0, 1)
    spread = (colours.amax(0) - colours.amin(0)).max()
    weights = torch.tensor(PILLOW_LUMA, dtype=torch.float32)[:, None, None]
    grey = torch.floor(((colours * weights).sum(0) + 32768) / 65536)
    return torch.where(spread <= GREY_SPREAD, _polarised(grey, conversion)[None], colours)


def _polarised(levels: Tensor, conversion: Conversion) -> Tensor:
    return levels if conversion.polarity == "white-hot" else 255 - levels


def _grey_levels(samples: Tensor, conversion: Conversion, *, counts: bool) -> Tensor:
    """Map samples ``(H, W)`` to levels; those without a measurement become what the least one becomes."""
    good = samples.abs() <= LARGEST  # neither NaN nor infinite
    if conversion.nodata is not None:
        value = np.float32(conversion.nodata)  # up to its digits in a text, as `missing_samples` compares
        good = good & ((samples - float(value)).abs() > 4 * float(np.finfo(np.float32).eps * abs(value)))
    pixels = good.sum()
    # without any measurement, all are 0
    least = torch.where(pixels > 0, torch.where(good, samples, LARGEST).min(), 0.0)
    largest = torch.where(pixels > 0, torch.where(good, samples, -LARGEST).max(), 0.0)
    values = torch.where(good, samples, least)
    if conversion.window is not None:
        start, stop = conversion.window
        return _stretched(values, torch.tensor(start), torch.tensor(255.0 / (stop - start)))
    whole = torch.tensor(True) if counts else _whole_counts(values, good)
    low, span = least, largest - least
    if conversion.method != "minmax":
        ranks = Ranks(values, good, least, largest, whole)
        below, above = (ranks.percentile(percent) for percent in conversion.percentiles)
        between = above.base - below.base + (above.rest - below.rest)
        if conversion.method == "plateau":
            return _plateau_levels(values, good, conversion, (least, largest), (below.value, between), whole)
        low = torch.where(between > 0, below.value, least)
        span = torch.where(between > 0, between, span)
    factor = torch.tensor(255.0) / torch.where(span > 0, span, 1.0)
    return torch.where(span > 0, _stretched(values, low, factor), 0.0)


def _whole_counts(values: Tensor, good: Tensor) -> Tensor:
    """Say whether the samples are counts although they are floats: whole numbers, of which some are missing."""
    return (~good).any() & (values == torch.round(values)).all() & (values.abs().max() < WHOLE)


def _stretched(values: Tensor, low: Tensor, factor: Tensor) -> Tensor:
    return torch.round((values - low) * factor).clamp(0, 255)


class Percentile:
    """A percentile between two samples that follow each other in order.

    Args:
        base: The lower of the two.
        rest: What is added to it.
    """

    def __init__(self, base: Tensor, rest: Tensor) -> None:
        self.base, self.rest, self.value = base, rest, base + rest


class Ranks:
    """Finds the samples of a frame at given places in their order, by two histograms.

    The first has :data:`.MAX_BINS` bins from the least to the largest sample, of whole counts at least one count wide;
    the second cuts one of its bins into as many again, so that one wild sample coarsens nothing.

    Args:
        values: Samples ``(H, W)`` float32.
        good: Which of them count, bool ``(H, W)``.
        least: The least of these.
        largest: The largest.
        whole: Whether they are whole counts.
    """

    def __init__(self, values: Tensor, good: Tensor, least: Tensor, largest: Tensor, whole: Tensor) -> None:
        self.values, self.good, self.least = values, good, least
        self.last = good.sum() - 1
        width = (largest - least) / (MAX_BINS - 1)
        width = torch.where(whole, width.clamp(min=1.0), width)
        self.width = torch.where(width > 0, width, 1.0)
        self.bins = _bins((values - least) / self.width)
        self.counts = histogram(self.bins, good)

    def percentile(self, percent: float) -> Percentile:
        """Return a percentile as ``numpy.percentile`` does: between two samples, linearly by the rank.

        Args:
            percent: 0..100 with two decimals.
        """
        share = round(percent * SHARES / 100)
        over = share * (self.last % SHARES)
        rank = share * (self.last // SHARES) + over // SHARES
        lower = self._at(rank)
        above = self.good & (self.values > lower)
        next_one = torch.where(above, self.values, LARGEST).min()
        alike = (self.good & (self.values <= lower)).sum() > torch.minimum(rank + 1, self.last)
        upper = torch.where(alike, lower, next_one)
        return Percentile(lower, (upper - lower) * ((over % SHARES).float() / SHARES))

    def _at(self, rank: Tensor) -> Tensor:
        """Return the sample with as many samples before it in order."""
        place, before = _find(self.counts, rank)
        inside = self.good & (self.bins == place)
        inner = _bins((self.values - (self.least + place.float() * self.width)) / self.width * MAX_BINS)
        inner_place, _ = _find(histogram(inner, inside), rank - before)
        return torch.where(inside & (inner >= inner_place), self.values, LARGEST).min()


def histogram(bins: Tensor, good: Tensor) -> Tensor:
    """Count samples in :data:`.MAX_BINS` bins.

    Args:
        bins: The bin of each sample, int64.
        good: Which of them count, bool of the same shape.

    Returns:
        int32 ``(MAX_BINS,)``.
    """
    return torch.zeros(MAX_BINS, dtype=torch.int32).scatter_add(0, bins.flatten(), good.flatten().to(torch.int32))


def _bins(places: Tensor) -> Tensor:
    return torch.floor(places).clamp(0, MAX_BINS - 1).long()


def _find(counts: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bin that holds the sample of a rank, and how many samples lie in the bins before it."""
    sums = torch.cumsum(counts, 0, dtype=torch.int32)
    before = sums <= rank
    return before.sum(), torch.where(before, counts, 0).sum()


def _plateau_levels(
    values: Tensor,
    good: Tensor,
    conversion: Conversion,
    ends: tuple[Tensor, Tensor],
    percentiles: tuple[Tensor, Tensor],
    whole: Tensor,
) -> Tensor:
    """Equalise with a plateau, see :func:`unip.data.images.conversion.plateau_curve`, whose steps these are.

    Args:
        values: Samples ``(H, W)``.
        good: Which of them count.
        conversion: Gives ``plateau``.
        ends: The least and the largest sample.
        percentiles: The lower percentile, and how far the upper one lies above it.
        whole: Whether they are whole counts.
    """
    (smallest, largest), (low, between) = ends, percentiles
    contrast = largest > smallest
    level = between / LEVELS
    reach = (MAX_BINS - LEVELS) / 2 * level
    wild = ~whole & (level > 0) & (level < (largest - smallest) / MAX_BINS)
    smallest = torch.where(wild, torch.maximum(smallest, low - reach), smallest)
    largest = torch.where(wild, torch.minimum(largest, low + between + reach), largest)
    step = torch.maximum(level, (largest - smallest) / (MAX_BINS - 1))
    step = torch.where(whole, torch.floor(step).clamp(min=1.0), step)
    step = torch.where(contrast, step, 1.0)
    smallest = torch.where(whole, smallest - 0.5, smallest)
    places = ((values - smallest) / step).clamp(min=0.0)
    bins = _bins(torch.minimum(places, (largest - smallest) / step))
    pixels = good.sum().float()
    plateau = conversion.plateau * pixels * torch.where(level > 0, step / torch.where(level > 0, level, 1.0), 1.0)
    cut = torch.minimum(histogram(bins, good).float(), plateau)
    # in two steps, so that rounding does not add up
    rows = cut.reshape(LEVELS, -1)
    totals = rows.sum(1)
    until = torch.cumsum(totals, 0) - totals
    before = (until[:, None] + torch.cumsum(rows, 1) - rows).flatten()
    inside = (places - bins.float()).clamp(0.0, 1.0)
    curve = (before[bins] + cut[bins] * inside) * (255.0 / cut.sum().clamp(min=1e-6))
    return torch.where(contrast, torch.round(curve).clamp(0, 255), 0.0)
