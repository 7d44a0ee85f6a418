"""How fine detail fades, in each direction: what tells blur and movement, also where edges are few.

Both measures come from the power spectrum of a frame. What is out of focus has lost detail in all directions, what has
moved in one of them only.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import numpy.typing as npt

Image32 = npt.NDArray[np.float32]
Power = npt.NDArray[np.float64]

SQUARE = 256  # pixels; side of the squares that spectra are taken of
LEAST_SQUARE = 48  # pixels
DIRECTIONS = ((0, 1), (1, 2), (1, 1), (2, 1), (1, 0), (2, -1), (1, -1), (1, -2))  # rows, columns
RINGS = (0.12, 0.2, 0.3, 0.42, 0.5)  # cycles a pixel; detail finer than 1 in 8 pixels, in four rings
SECTORS = 16  # of half a turn
TIME_CONSTANT = 3.5  # pixels moved in one, of the movement that is looked for
FLAT = 1e-3  # squared levels; less is no detail


def power_spectrum(levels: Image32) -> Power | None:
    """Return the power spectrum of a frame, the mean over squares at its corners and between.

    Args:
        levels: ``(H, W)``.

    Returns:
        ``(S, S // 2 + 1)``, as :func:`numpy.fft.rfft2` has its frequencies, ``S`` being the side of the squares; None
        for frames of less than ``LEAST_SQUARE`` pixels.
    """
    height, width = levels.shape
    side = min(height, width, SQUARE)
    if side < LEAST_SQUARE:
        return None
    window = np.hanning(side).astype(np.float32)
    window = window[:, None] * window
    tops, lefts = sorted({0, height - side}), sorted({0, (width - side) // 2, width - side})
    total = np.zeros((side, side // 2 + 1))
    for top, left in itertools.product(tops, lefts):
        square = levels[top : top + side, left : left + side]
        found = np.fft.rfft2((square - square.mean()) * window)
        total += np.square(found.real) + np.square(found.imag)
    power: Power = total / (len(tops) * len(lefts) * float(np.square(window).sum()))
    return power


def smoothness(power: Power) -> float:
    """Return by how many octaves the mean squared difference grows when the distance is doubled, at the pixel.

    It is 0 for white noise, 1 for sharp edges and 2 for what is smooth (the exponent of the structure function of
    A. N. Kolmogorov, 1941), here from one step to two, in the direction of eight in which it is largest.

    Returns:
        NaN for a frame without detail.
    """
    side = len(power)
    correlation = np.fft.irfft2(power, (side, side))
    steps = np.array([correlation[0, 0] - correlation[down, right] for down, right in DIRECTIONS])
    double = np.array([correlation[0, 0] - correlation[2 * down, 2 * right] for down, right in DIRECTIONS])
    if steps.min() < FLAT:
        return float("nan")
    return float(np.log2(double / steps).max())


def smear(power: Power) -> float:
    """Return how much detail is missing along one direction, as movement takes it away.

    A bolometer that moves by ``TIME_CONSTANT`` pixels in its time constant divides the power at the frequency f, that
    lies at an angle a to the direction, by 1 + (2 pi TIME_CONSTANT f cos a)^2 (see
    :func:`unip.data.corruptions.optics.motion`). The logarithm of that is fitted to the logarithms of the frame's
    sectors, after the mean of each ring was taken away, so that neither focus nor scene matter much.

    Returns:
        The factor of the best fit over all directions: mostly below 0.5 for frames at rest, up to 1 after such a
        movement.
    """
    side = len(power)
    places, counts = _sectors(side)
    sums = np.bincount(places.ravel(), weights=power.ravel(), minlength=counts.size + 1)[: counts.size]
    sectors = np.log(sums / np.maximum(counts, 1) + FLAT * FLAT).reshape(-1, SECTORS)
    sectors -= sectors.mean(axis=1, keepdims=True)
    lost = _movement()
    best = max(float((sectors * np.roll(lost, turn, axis=1)).sum()) for turn in range(SECTORS))
    return best / float(np.square(lost).sum())


@cache
def _sectors(side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the sector of each frequency (the last: none), and how many are in each."""
    down, right = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    ring = np.digitize(np.hypot(down, right), RINGS) - 1
    turn = np.mod(np.arctan2(down, right), np.pi)
    sector = np.floor(turn / np.pi * SECTORS + 0.5).astype(int) % SECTORS
    known = (ring >= 0) & (ring < len(RINGS) - 1) & (right > 0)  # the mean of a row or column is no detail
    most = (len(RINGS) - 1) * SECTORS
    places = np.where(known, ring * SECTORS + sector, most)
    return places, np.bincount(places.ravel(), minlength=most + 1)[:most]


@cache
def _movement() -> npt.NDArray[np.float64]:
    """Return what movement along the rows takes from each sector, ``(rings, SECTORS)``, in logarithms of power."""
    rings = np.sqrt(np.multiply(RINGS[1:], RINGS[:-1]))[:, None, None]
    half = np.pi / SECTORS / 2
    turns = np.pi / SECTORS * np.arange(SECTORS)[:, None] + np.linspace(-half, half, 9)  # within each sector
    left = 1 / (1 + np.square(2 * np.pi * TIME_CONSTANT * rings * np.cos(turns)))
    lost = np.log(left.mean(axis=2))
    found: npt.NDArray[np.float64] = lost - lost.mean(axis=1, keepdims=True)
    return found
