"""Whether masks lie where the edges of their frames are: a test for masks that are off by a few pixels.

The borders of a mask are moved over the gradient of its frame, and the mean gradient under them is noted for each
shift. Borders that fit have their highest mean near no shift at all. Single frames are judged only where most frames
of a set agree on one shift: then borders follow edges, and a frame that differs is wrong. Filled boxes and rough
outlines do not agree, and only the mean over all frames says something about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.decoding import Pixels8
from unip.data.labelled.classes import IGNORE

REACH = 12  # cells in each direction
CELLS = 240  # of the short side: a cell is 2 pixels of a frame with 480 or 512 rows
LEAST_BORDER = 20  # cells with a border; of fewer nothing can be said
LEAST_FRAMES = 8  # in a set
LEAST_SHIFT = 2  # cells: less than that may be the way of drawing
LEAST_GAIN = 0.15  # of how far the best shift stands out: by so much it must be better than the usual one
LEAST_HEIGHT = 2.5  # robust standard deviations of all shifts by which the best one of a frame stands out
LEAST_SET_HEIGHT = 4.0  # the same of a whole set, which nothing else supports
AGREEING = 0.6  # share of the frames whose best shift is the usual one, for single frames to be judged

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EdgeFit:
    """How the borders of one mask fit the edges of its frame.

    Attributes:
        scores: Mean gradient under the borders, in standard deviations of the frame's, for shifts down and right of
            ``-REACH`` to ``REACH`` cells, ``(2 * REACH + 1, 2 * REACH + 1)``.
        cell: Side of a cell in pixels.
    """

    scores: Floats
    cell: int


@dataclass(frozen=True)
class Shift:
    """Where a mask would fit better.

    Attributes:
        right: Pixels by which it should move to the right.
        down: Pixels by which it should move down.
        gain: How much better it fits there, 0 to 1: 1 if it does not fit at all where it is.
    """

    right: int
    down: int
    gain: float

    def __str__(self) -> str:
        """Return it in words, such as ``6 px right and 2 px up``."""
        across = f"{abs(self.right)} px {'right' if self.right > 0 else 'left'}" if self.right else ""
        along = f"{abs(self.down)} px {'down' if self.down > 0 else 'up'}" if self.down else ""
        return " and ".join(part for part in (across, along) if part)


def edge_fit(grey: Pixels8, mask: Pixels8) -> EdgeFit | None:
    """Measure how a mask fits its frame at each shift.

    Args:
        grey: The frame, ``(H, W)`` uint8.
        mask: ``(H, W)`` uint8 class ids, 255 where there is no label; borders of such areas are left out.

    Returns:
        The fit; None of a frame that is too small or flat, or whose mask has hardly any borders.
    """
    cell = max(1, round(min(grey.shape) / CELLS))
    rows, columns = grey.shape[0] // cell, grey.shape[1] // cell
    if min(rows, columns) < 4 * REACH:
        return None
    borders = np.asarray(Image.fromarray(label_borders(mask)[: rows * cell, : columns * cell]).reduce(cell), np.float32)
    borders[:REACH] = borders[-REACH:] = 0  # moved borders stay inside
    borders[:, :REACH] = borders[:, -REACH:] = 0
    small = np.asarray(Image.fromarray(grey[: rows * cell, : columns * cell]).reduce(cell), np.float32)
    gradient = np.zeros_like(small)
    gradient[1:-1, 1:-1] = np.hypot(small[2:, 1:-1] - small[:-2, 1:-1], small[1:-1, 2:] - small[1:-1, :-2])
    gradient = np.sqrt(gradient)  # so that a few hot edges do not decide
    spread = float(gradient.std())
    if np.count_nonzero(borders) < LEAST_BORDER or spread == 0:
        return None
    product = np.fft.rfft2((gradient - gradient.mean()) / spread) * np.conj(np.fft.rfft2(borders))
    scores = np.roll(np.fft.irfft2(product, s=small.shape), (REACH, REACH), (0, 1))
    side = 2 * REACH + 1
    return EdgeFit((scores[:side, :side] / borders.sum()).astype(np.float32), cell)


def label_borders(mask: Pixels8) -> Pixels8:
    """Mark the pixels on both sides of a border of two classes with 255, ``(H, W)`` uint8."""
    borders = np.zeros(mask.shape, np.uint8)
    labelled = mask != IGNORE
    across = (mask[:, 1:] != mask[:, :-1]) & labelled[:, 1:] & labelled[:, :-1]
    down = (mask[1:] != mask[:-1]) & labelled[1:] & labelled[:-1]
    for part, edge in ((np.s_[:, 1:], across), (np.s_[:, :-1], across), (np.s_[1:], down), (np.s_[:-1], down)):
        borders[part][edge] = 255
    return borders


def set_shift(fits: Sequence[EdgeFit | None]) -> Shift | None:
    """Return by how much all masks of a set are off together; None if they fit, or if nothing can be said."""
    scores = [fit for fit in fits if fit is not None]
    if len(scores) < LEAST_FRAMES:
        return None
    mean = np.mean([fit.scores for fit in scores], axis=0)
    return _better(mean, (REACH, REACH), int(np.median([fit.cell for fit in scores])), LEAST_SET_HEIGHT)


def frame_shifts(fits: Sequence[EdgeFit | None]) -> dict[int, Shift]:
    """Return the frames of a set whose masks are off in another way than most, and by how much they are.

    Returns:
        Shifts by number; none where fewer than ``AGREEING`` of the frames agree.
    """
    known = {i: fit for i, fit in enumerate(fits) if fit is not None}
    if len(known) < LEAST_FRAMES:
        return {}
    places = {i: _place(fit.scores) for i, fit in known.items()}
    usual = _place(np.mean([fit.scores for fit in known.values()], axis=0))
    agreeing = sum(_is_near(place, usual) for place in places.values())
    if agreeing < AGREEING * len(known):
        return {}
    found = {i: _better(fit.scores, usual, fit.cell, LEAST_HEIGHT) for i, fit in known.items()}
    return {i: shift for i, shift in found.items() if shift is not None}


def misfit(fit: EdgeFit) -> float:
    """Return how badly a mask fits where it is; higher is worse."""
    middle = np.median(fit.scores)
    return float((middle - fit.scores[REACH - 1 : REACH + 2, REACH - 1 : REACH + 2].max()) / _spread(fit.scores))


def _better(scores: Floats, usual: tuple[int, int], cell: int, least: float) -> Shift | None:
    """Return a shift that is clearly better than the usual place, from no shift; None if there is none."""
    row, column = _place(scores)
    if _is_near((row, column), usual):
        return None
    middle, best = float(np.median(scores)), float(scores[row, column])
    top, left = max(0, usual[0] - 1), max(0, usual[1] - 1)
    there = float(scores[top : usual[0] + 2, left : usual[1] + 2].max())
    gain = (best - there) / (best - middle)
    if gain <= LEAST_GAIN or best - middle <= least * _spread(scores):
        return None
    return Shift(right=(column - REACH) * cell, down=(row - REACH) * cell, gain=min(1.0, gain))


def _place(scores: Floats) -> tuple[int, int]:
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(row), int(column)


def _is_near(place: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(place[0] - other[0]), abs(place[1] - other[1])) < LEAST_SHIFT


def _spread(scores: Floats) -> float:
    """Return the robust standard deviation: 1.4826 times the median distance from the median."""
    return max(1e-6, 1.4826 * float(np.median(np.abs(scores - np.median(scores)))))
