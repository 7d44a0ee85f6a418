"""What stays in place while the scene changes: dead pixels, fixed patterns, burnt-in overlays of one camera."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from unip.data.examination.frames import Reading
from unip.data.examination.image_quality import LAPLACIAN_GAIN, noise
from unip.data.examination.records import Box, FixedDefects
from unip.data.examination.sensor_defects import stripe_spread

MIN_FRAMES = 8  # from which on what stays can be told from the scene
MIN_CHANGE = 5.0  # levels: median over the pixels of how much each changes
MIN_CHANGE_SHARE = 0.35  # of the contrast within the frames: less, and the camera looks at one scene
CONSTANT = 1.5  # levels (sigma) within which a pixel counts as constant: lossy files change overlays a little
STUCK = 0.5  # levels (sigma)
STILL_SHARE = 0.25  # of how much nearly all of a still scene changes, which what is burnt in changes less than
STILL_PERCENT = 25.0  # of the pixels of a still scene that may change less
MIN_STILL_CHANGE = 0.4  # levels; of a scene that changes less nothing is told
DEAD_SHARE = 0.6  # of the frames in which a dead pixel stands out
LINE_SHARE = 0.9  # of a row or column that is constant
ALONE = 3  # pixels that change little among a pixel and its neighbours, at most, for it to be a dead one
CELL = 8  # pixels; side of the squares that overlays are put together from
MIN_CELL = 5  # constant pixels of a square
MIN_OVERLAY = 24  # constant pixels of an overlay
BUSY_CELL = 8  # constant pixels of a square, from which on none of them is a single dead one
BORDER_SHARE = 0.5  # of a row or column at the edge that is constant
MIN_BORDER = 2  # rows or columns
BLACK = 8.0  # levels
CLIPPED = 2.0  # levels from black or white
MIN_STEP = 24.0  # levels between an overlay's pixel and a neighbour, in the mean of all frames
LISTED = 200  # dead pixels that are named

Sum = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Camera:
    """The frames of one camera, added up."""

    def __init__(self, folder: str, height: int, width: int) -> None:
        self._folder, self._size = folder, (height, width)
        self._frames = 0
        self._levels, self._squares = np.zeros((2, height, width))
        inner = (max(0, height - 2), max(0, width - 2))
        self._residue, self._residue_squares = np.zeros((2, *inner))
        self._hits = np.zeros((height, width), np.int32)
        self._columns: list[npt.NDArray[np.float32]] = []
        self._rows: list[npt.NDArray[np.float32]] = []
        self._contrast: list[float] = []
        self._last = ""

    def add(self, reading: Reading) -> None:
        """Add a frame; one that equals the frame before it tells nothing new."""
        if reading.measures.digest == self._last:
            return
        self._last = reading.measures.digest
        self._frames += 1
        self._levels += reading.levels
        self._squares += np.square(reading.levels)
        self._residue += reading.differences
        self._residue_squares += np.square(reading.differences)
        self._hits += reading.dead
        self._columns.append(reading.columns)
        self._rows.append(reading.rows)
        self._contrast.append(reading.measures.features.contrast)

    def judge(self) -> FixedDefects:
        """Tell what stays."""
        height, width = self._size
        about = (self._folder, width, height, self._frames)
        if self._frames < MIN_FRAMES:
            reason = f"{self._frames} different frames of {width}x{height} pixels, and {MIN_FRAMES} are needed"
            return FixedDefects(*about, told=False, reason=reason)
        mean = self._levels / self._frames
        change = np.sqrt(np.maximum(0.0, self._squares / self._frames - mean**2))
        pattern = round(self._pattern(mean), 3)
        stripes = round(max(stripe_spread(np.mean(each, axis=0)) for each in (self._columns, self._rows)), 3)
        if float(np.median(change)) < max(MIN_CHANGE, MIN_CHANGE_SHARE * float(np.median(self._contrast))):
            border, overlays = _in_still_scene(change, mean)
            reason = (
                "the scene hardly changes: single dead pixels cannot be told from it, nor overlays that do not stay"
            )
            return FixedDefects(
                *about,
                told=False,
                reason=f"{reason} exactly as they are",
                pattern=pattern,
                stripes=stripes,
                border=border,
                overlays=overlays,
            )
        constant = change <= CONSTANT
        border, framed = _border(constant)
        lines, in_lines = _dead_lines(constant & ~framed)
        left = constant & ~framed & ~in_lines
        busy = _busy(constant & ~in_lines)
        stuck = (change <= STUCK) & left & _alone(change < MIN_CHANGE)
        dead = ((self._hits >= DEAD_SHARE * self._frames) | stuck) & ~framed & ~in_lines & ~busy
        places = np.argwhere(dead)
        return FixedDefects(
            *about,
            told=True,
            reason="",
            dead=tuple((int(x), int(y)) for y, x in places[:LISTED]),
            dead_pixels=len(places),
            dead_lines=lines,
            pattern=pattern,
            stripes=stripes,
            border=border,
            overlays=tuple(_overlays(left & ~dead, mean, border)),
        )

    def _pattern(self, mean: Sum) -> float:
        """Return sigma of the fixed offsets: what the mean of all frames has more than their noise would leave.

        It is told from the evenest squares, as noise is, so that an unchanging scene is not taken for a pattern.
        """
        if not self._residue.size:
            return 0.0
        residue = (self._residue / self._frames).astype(np.float32)
        sigma = noise(mean.astype(np.float32), residue, (0.0, 255.0))
        varying = np.maximum(0.0, self._residue_squares / self._frames - residue.astype(np.float64) ** 2)
        left = float(np.median(varying)) / max(1, self._frames - 1) / LAPLACIAN_GAIN**2
        return float(np.sqrt(max(0.0, sigma**2 - left))) if np.isfinite(sigma) else 0.0


def add_up(readings: Iterable[Reading], cameras: dict[tuple[str, int, int, str], Camera]) -> None:
    """Add frames to their cameras: those of one folder, size and type of samples are taken for one."""
    for reading in readings:
        one = reading.measures
        key = (one.folder, one.height, one.width, one.sample)
        cameras.setdefault(key, Camera(one.folder, one.height, one.width)).add(reading)


def _in_still_scene(change: Sum, mean: Sum) -> tuple[tuple[int, int, int, int], tuple[Box, ...]]:
    """Return the border and the overlays of a scene that hardly changes: what changes far less than the rest.

    Clipped pixels of the scene stay as they are too. So a border must end at a straight line, and be of one level; and
    black or white pixels are part of no overlay.
    """
    usual = float(np.percentile(change, STILL_PERCENT))
    if usual < MIN_STILL_CHANGE:
        return (0, 0, 0, 0), ()
    constant = change <= STILL_SHARE * usual
    border, framed = _border(constant)
    if any(border) and not (constant[framed].mean() >= LINE_SHARE and np.std(mean[framed]) < 1):
        border = (0, 0, 0, 0)
    unclipped = (mean > CLIPPED) & (mean < 255 - CLIPPED)
    return border, tuple(_overlays(constant & unclipped & ~framed, mean, border))


def _border(constant: Mask) -> tuple[tuple[int, int, int, int], Mask]:
    """Return how many rows and columns at top, right, bottom and left are mostly constant, and which pixels they are.

    One line alone is a dead one rather than a border.
    """
    rows, columns = constant.mean(axis=1) >= BORDER_SHARE, constant.mean(axis=0) >= BORDER_SHARE
    runs = [_run(line) for line in (rows, columns[::-1], rows[::-1], columns)]
    top, right, bottom, left = (run if run >= MIN_BORDER else 0 for run in runs)
    inside = np.ones_like(constant)
    inside[top : len(rows) - bottom, left : len(columns) - right] = False
    return (top, right, bottom, left), inside


def _run(line: Mask) -> int:
    return len(line) if line.all() else int(np.argmin(line))


def _dead_lines(constant: Mask) -> tuple[tuple[str, ...], Mask]:
    rows = np.flatnonzero(constant.mean(axis=1) >= LINE_SHARE)
    columns = np.flatnonzero(constant.mean(axis=0) >= LINE_SHARE)
    inside = np.zeros_like(constant)
    inside[rows] = True
    inside[:, columns] = True
    return (*(f"row {row}" for row in rows), *(f"column {column}" for column in columns)), inside


def _busy(constant: Mask) -> Mask:
    """Return the pixels in or beside squares with many constant pixels: what is there is no single dead pixel."""
    cells = _by_cell(constant) >= BUSY_CELL
    wide = np.pad(cells, 1)
    near = np.zeros_like(cells)
    for down in range(3):
        for right in range(3):
            near |= wide[down : down + cells.shape[0], right : right + cells.shape[1]]
    found: Mask = near.repeat(CELL, axis=0).repeat(CELL, axis=1)[: constant.shape[0], : constant.shape[1]]
    return found


def _alone(still: Mask) -> Mask:
    """Say around which pixels nearly all neighbours follow the scene."""
    wide = np.pad(still.astype(np.uint8), 1, mode="edge")
    height, width = still.shape
    around = np.zeros(still.shape, np.uint8)
    for down in range(3):
        for right in range(3):
            around += wide[down : down + height, right : right + width]
    alone: Mask = around <= ALONE
    return alone


def _overlays(constant: Mask, mean: Sum, border: tuple[int, int, int, int]) -> list[Box]:
    """Put constant pixels with sharp edges together to rectangles, the largest first.

    Black pieces beside a border belong to it: what a correction of distortion leaves is not straight.
    """
    height, width = mean.shape
    top_border, right_border, bottom_border, left_border = border
    steps = np.zeros_like(mean)
    across, down = np.abs(np.diff(mean, axis=1)), np.abs(np.diff(mean, axis=0))
    steps[:, 1:] = across
    steps[:, :-1] = np.maximum(steps[:, :-1], across)
    steps[1:] = np.maximum(steps[1:], down)
    steps[:-1] = np.maximum(steps[:-1], down)
    sharp = constant & (steps >= MIN_STEP)
    cells = _by_cell(constant) >= MIN_CELL
    found = []
    for members in _pieces(cells):
        top, left = members.min(axis=0) * CELL
        bottom, right = (members.max(axis=0) + 1) * CELL
        part, edges = constant[top:bottom, left:right], sharp[top:bottom, left:right]
        if part.sum() >= MIN_OVERLAY and edges.sum() >= MIN_CELL:
            rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
            size = (int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
            box = Box(int(left + columns[0]), int(top + rows[0]), *size)
            beside = (
                box.y <= top_border + CELL
                or box.x <= left_border + CELL
                or box.y + box.height >= height - bottom_border - CELL
                or box.x + box.width >= width - right_border - CELL
            )
            if not (any(border) and beside and np.median(mean[top:bottom, left:right][part]) < BLACK):
                found.append(box)
    return sorted(found, key=lambda box: -box.width * box.height)


def _by_cell(mask: Mask) -> npt.NDArray[np.int64]:
    height, width = (-(-side // CELL) for side in mask.shape)
    wide = np.zeros((height * CELL, width * CELL), dtype=bool)
    wide[: mask.shape[0], : mask.shape[1]] = mask
    counts: npt.NDArray[np.int64] = wide.reshape(height, CELL, width, CELL).sum(axis=(1, 3))
    return counts


def _pieces(cells: Mask) -> list[npt.NDArray[np.int64]]:
    """Return the cells ``(N, 2)`` of each connected piece; there are few, so a plain walk will do."""
    left = {(int(y), int(x)) for y, x in np.argwhere(cells)}
    pieces = []
    while left:
        walk, piece = [left.pop()], []
        while walk:
            y, x = walk.pop()
            piece.append((y, x))
            near = {(y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            walk += near
        pieces.append(np.array(piece))
    return pieces
