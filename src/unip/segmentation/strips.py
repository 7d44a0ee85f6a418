"""Segmenting large frames: windows are run one row of windows after the other, and only that strip's logits are held.

The result is that of sliding windows over the whole resized frame: logits are averaged where windows overlap, enlarged
to the frame's own size, and only then reduced: to classes by the engines of deployment/, to counts by an evaluation. So
there are no seams, and memory grows with the width of the frame but not with its height.

Works on the arrays of whatever runs the windows, numpy's or torch's, and needs no torch itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.sampling.scaling import Scaling, window_starts

Image8 = npt.NDArray[Any]  # (H, W) or (H, W, 3)
Logits = Any  # (C, rows, columns) float32, an array of numpy or torch

#: Logits of a frame at its own or at the resized size, from where it is run in strips: 256 MiB.
MAX_WHOLE_LOGITS = 2**26
BLOCK_LOGITS = 2**23  # that are enlarged at once: 32 MiB
MARGIN_ROWS = 2  # beyond those that a resized row needs


class Backend(Protocol):
    """Runs windows, and holds their logits."""

    def zeros(self, shape: tuple[int, ...]) -> Logits:
        """Return float32 zeros."""

    def put(self, values: npt.NDArray[Any]) -> Any:
        """Return an array of numpy as one of this kind."""

    def run(self, windows: Sequence[Image8]) -> Iterator[Logits]:
        """Yield the logits ``(C, h, w)`` of windows of one size."""


@dataclass(frozen=True)
class Grid:
    """Where windows lie in a frame.

    Attributes:
        frame: Height and width of the frame, in pixels.
        size: To which it is resized.
        window: Height and width of a window, in pixels of the resized frame.
        stride: Rows and columns from one window to the next.
        classes: How many there are.
    """

    frame: tuple[int, int]
    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    classes: int

    @property
    def tops(self) -> list[int]:
        """Where rows of windows begin."""
        return window_starts(self.size[0], self.window[0], self.stride[0])

    @property
    def lefts(self) -> list[int]:
        """Where columns of windows begin."""
        return window_starts(self.size[1], self.window[1], self.stride[1])

    @property
    def windows(self) -> int:
        """How many there are."""
        return len(self.tops) * len(self.lefts)


def is_large(classes: int, *sizes: tuple[int, int]) -> bool:
    """Say whether a frame of these sizes, its own and the resized one, is to be run in strips."""
    return max(classes * height * width for height, width in sizes) > MAX_WHOLE_LOGITS


@dataclass(frozen=True)
class InStrips:
    """Says which frames are to be run in strips, so that nobody resizes them as a whole.

    Attributes:
        classes: How many there are.
        scaling: How frames are resized.
    """

    classes: int
    scaling: Scaling

    def __call__(self, height: int, width: int) -> bool:
        """Say it of a frame of this size.

        Raises:
            UnipError: It cannot be resized so.
        """
        return is_large(self.classes, (height, width), self.scaling.size(height, width))


def rows_in_strips(image: Image8, grid: Grid, backend: Backend) -> Iterator[tuple[int, Logits]]:
    """Segment a frame.

    Args:
        image: The frame, uint8 ``(H, W)`` or ``(H, W, 3)``; of other types only if it is not resized.
        grid: Where its windows lie.
        backend: Runs them.

    Yields:
        Blocks of rows of the frame, from top to bottom: where each begins, and its logits ``(C, n, W)``, which hold
        only until the next.
    """
    enlarger = _Enlarger(grid, backend)
    for top, strip in _resized_rows(image, grid, backend):
        yield from enlarger.rows(strip, top)


def _resized_rows(image: Image8, grid: Grid, backend: Backend) -> Iterator[tuple[int, Logits]]:
    """Yield strips of averaged logits ``(C, n, w)`` of the resized frame; each holds only until the next."""
    (height, width), (tall, wide), tops = grid.size, grid.window, grid.tops
    tall, wide = min(tall, height), min(wide, width)
    down, across = _covered(height, tall, tops), _covered(width, wide, grid.lefts)
    total = backend.zeros((grid.classes, tall, width))
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        _add_windows(total, image, grid, backend, top)
        step = following - top
        done = total[:, :step]
        done /= backend.put(down[top:following, None] * across)
        yield top, done
        if following < height:
            rest = _copy(total[:, step:], backend)
            total[:, : tall - step] = rest
            total[:, tall - step :] = 0


def _add_windows(total: Logits, image: Image8, grid: Grid, backend: Backend, top: int) -> None:
    """Run one row of windows and add up their logits in ``total`` ``(C, tall, w)``."""
    tall, wide = total.shape[1], min(grid.window[1], grid.size[1])
    strip = resize_rows(image, grid.size, top, top + tall)
    lefts = grid.lefts
    found = backend.run([np.ascontiguousarray(strip[:, left : left + wide]) for left in lefts])
    for left, logits in zip(lefts, found, strict=True):
        total[:, :, left : left + wide] += logits


def _covered(length: int, window: int, starts: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return how many windows cover each pixel along an axis."""
    counts = np.zeros(length, np.float32)
    for start in starts:
        counts[start : start + window] += 1
    return counts


def resize_rows(image: Image8, size: tuple[int, int], top: int, bottom: int) -> Image8:
    """Return some rows of a resized image, bilinear with antialiasing, without resizing all of it.

    Args:
        image: uint8 ``(H, W)`` or ``(H, W, 3)``; of other types only if the size is its own.
        size: Height and width to which it is resized.
        top: The first row.
        bottom: The one after the last.

    Returns:
        ``(bottom - top, w)`` or ``(bottom - top, w, 3)``.
    """
    height, width = image.shape[:2]
    if size == (height, width):
        return image[top:bottom]
    each = height / size[0]
    reach = max(1.0, each) + MARGIN_ROWS
    first, last = max(0, int(top * each - reach)), min(height, int(bottom * each + reach) + 1)
    part = Image.fromarray(np.ascontiguousarray(image[first:last]))
    box = (0.0, top * each - first, float(width), bottom * each - first)
    return np.asarray(part.resize((size[1], bottom - top), Image.Resampling.BILINEAR, box=box))


class _Enlarger:
    """Resizes strips of logits to the frame, bilinearly as ``align_corners=False`` of torch.

    Args:
        grid: Gives both sizes.
        backend: Whose arrays they are.
    """

    def __init__(self, grid: Grid, backend: Backend) -> None:
        self.grid, self.backend, self.next = grid, backend, 0
        self.row, self.below_weight = _sources(grid.frame[0], grid.size[0])
        columns, weights = _sources(grid.frame[1], grid.size[1])
        self.column = backend.put(columns)
        self.column_right = backend.put(np.minimum(columns + 1, grid.size[1] - 1))
        self.right_weight = backend.put(weights)
        self.before: Logits | None = None  # the last row of the strip before
        self.block = max(1, BLOCK_LOGITS // (grid.classes * max(grid.frame[1], grid.size[1])))

    def rows(self, strip: Logits, top: int) -> Iterator[tuple[int, Logits]]:
        """Yield blocks of rows of the frame that can be made now.

        Args:
            strip: Rows ``top`` and on of the resized frame, ``(C, n, w)``; the first one follows the last strip's.
            top: See there.
        """
        last, end = self.grid.frame[0], top + strip.shape[1]
        if end < self.grid.size[0]:  # a row whose lower source is not there yet is made of the next strip
            last = end if self._is_same else int(np.searchsorted(self.row + 1, end))
        for first in range(self.next, last, self.block):
            yield first, self._enlarged(strip, top, first, min(first + self.block, last))
        self.next = max(self.next, last)
        self.before = _copy(strip[:, -1:], self.backend)

    @property
    def _is_same(self) -> bool:
        return self.grid.frame == self.grid.size

    def _enlarged(self, strip: Logits, top: int, first: int, last: int) -> Logits:
        if self._is_same:
            return strip[:, first - top : last - top]
        upper = self.row[first:last]
        lower = np.minimum(upper + 1, self.grid.size[0] - 1)
        start, end = int(upper[0]), int(lower[-1]) + 1
        if start < top:
            assert self.before is not None
            held = _below(self.before, strip[:, : end - top], self.backend)
            start = top - 1
        else:
            held = strip[:, start - top : end - top]
        weight = self.backend.put(self.below_weight[first:last, None])
        above, below = held[:, self.backend.put(upper - start)], held[:, self.backend.put(lower - start)]
        rows = above + (below - above) * weight
        left, right = rows[:, :, self.column], rows[:, :, self.column_right]
        return left + (right - left) * self.right_weight


def _sources(length: int, resized: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return from which pixel of the resized axis each pixel comes, and the weight of the one after that."""
    places = np.maximum((np.arange(length) + 0.5) * (resized / length) - 0.5, 0.0)
    first = np.minimum(places.astype(np.int64), resized - 1)
    return first, (places - first).astype(np.float32)


def _below(upper: Logits, lower: Logits, backend: Backend) -> Logits:
    """Put strips ``(C, n, w)`` below each other."""
    both = backend.zeros((upper.shape[0], upper.shape[1] + lower.shape[1], upper.shape[2]))
    both[:, : upper.shape[1]] = upper
    both[:, upper.shape[1] :] = lower
    return both


def _copy(rows: Logits, backend: Backend) -> Logits:
    copied = backend.zeros(tuple(rows.shape))
    copied[...] = rows
    return copied
