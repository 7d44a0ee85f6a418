"""Palettes (colour maps) of thermal cameras and software: recognised in a frame's colours, and turned back into grey.

A camera that stores a picture for people maps its grey levels to colours. All colours of such a frame lie on one curve
in RGB, that of its palette, up to what JPEG and overlays (text, logos, a colour bar) change. matplotlib has the curves
of ``MATPLOTLIB``; ``palettes.json`` holds those of cameras as stops ``[level, red, green, blue]``, between which
colours are linear. docs/data-conversion.md says where the values of each are from.

Some cameras write the video range 16..235 into files whose readers expect 0..255, so the palettes of cameras exist in
both ranges under one name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.config import PaletteChoice
from unip.errors import UnipError

Colours = npt.NDArray[np.float32]  # RGB, 0..255, (..., 3)
Grey8 = npt.NDArray[np.uint8]

MATPLOTLIB = ("hot", "inferno", "jet", "magma", "plasma", "turbo", "viridis")
VIDEO = (16.0, 219 / 255)  # offset and scale of the range 16..235

BLOCK = 4  # pixels; the sides of the squares whose mean colours are looked at
PATCH = 4  # blocks; of so many by so many the most even one is taken, because edges mix colours
SAMPLES = 200
CURVE_POINTS = 128  # of a palette that samples are compared with
NEAR = 16.0  # levels (Euclidean distance in RGB) of a sample from the curve, at most
COLOURED = 24  # levels between the largest and the smallest channel of a sample, at least
MIN_COLOURED = 0.005  # of the samples; with fewer, a frame is grey with an overlay
RECOGNISED = 0.65  # of the samples, and of the coloured ones, that are near
NAMED = 0.5  # of the samples that are near a palette that was named
MIN_SPREAD = 4.0  # levels of the palette: standard deviation of the samples that are near
CELL = 4  # levels of each channel that share an entry of the lookup table
CELLS = 256 // CELL
ROWS_AT_ONCE = 512
LUMA_WEIGHT = 2.0  # of a difference in luma to one in chroma, which JPEG stores more coarsely
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)  # JFIF


@dataclass(frozen=True, eq=False)
class Palette:
    """A palette: its name, and the colours of the levels 0..255, ``(256, 3)``."""

    name: str
    colours: Colours


@cache
def known_palettes() -> tuple[Palette, ...]:
    """Return all palettes, those of cameras in both ranges."""
    from matplotlib import colormaps  # here: only frames in colour need it

    levels = np.arange(256)
    found = [Palette(name, np.float32(255) * colormaps[name](levels)[:, :3].astype(np.float32)) for name in MATPLOTLIB]
    stored = json.loads(files("unip.data.images").joinpath("palettes.json").read_text(encoding="utf-8"))
    offset, scale = map(np.float32, VIDEO)
    for name, stops in stored.items():
        at, *channels = np.array(stops, dtype=np.float64).T
        colours = np.stack([np.interp(levels, at, channel) for channel in channels], axis=1).astype(np.float32)
        found += [Palette(name, colours), Palette(name, offset + scale * colours)]
    return tuple(found)


def recognise(image: npt.NDArray[Any]) -> Palette | None:
    """Return the palette in whose colours an image is, None if it is of none that is known or too grey to tell.

    Args:
        image: ``(H, W, 3)`` uint8 or uint16 RGB.
    """
    return _recognise(_samples(_to_8_bit(image)))


def palette_to_grey(image: npt.NDArray[Any], choice: PaletteChoice, name: Path | str) -> Grey8:
    """Turn the colours of a palette back into its levels: each pixel becomes that of the nearest colour.

    A frame that is grey but for an overlay becomes its luma.

    Args:
        image: ``(H, W, 3)`` uint8 or uint16 RGB.
        choice: ``"invert"`` takes the palette that is recognised; else the name of the palette.
        name: Of the file, for messages.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UnipError: The colours are of no known palette, or not of the named one.
    """
    image8 = _to_8_bit(image)
    palette = _palette_of(_samples(image8), choice, name)
    if palette is None:
        return np.array(Image.fromarray(image8).convert("L"))
    table, levels = _level_table(palette), np.empty(image8.shape[:2], np.uint8)
    for first in range(0, len(levels), ROWS_AT_ONCE):  # numbers of cells take 16 bytes a pixel
        rows = slice(first, first + ROWS_AT_ONCE)
        red, green, blue = ((image8[rows, :, channel] // CELL).astype(np.int32) for channel in range(3))
        levels[rows] = table.take((red * CELLS + green) * CELLS + blue)
    return levels


def _palette_of(samples: Colours, choice: PaletteChoice, name: Path | str) -> Palette | None:
    """Return the palette to invert, None for a grey frame with an overlay, or refuse."""
    found = _recognise(samples)
    if choice == "invert" or (found and found.name == choice):
        if found or not _has_colour(samples):
            return found
        raise UnipError(
            f"image {name}: its colours are of no known palette, so they cannot be turned into grey levels",
            "Name the palette (--palette iron), keep the colours (--palette keep), or remove the image. "
            f"Known: {', '.join(palette_names())}.",
        )
    named, near, _ = _closest(samples, tuple(known for known in known_palettes() if known.name == choice))
    if near.mean() >= NAMED:
        return named
    if not _has_colour(samples):
        return None
    raise UnipError(
        f"image {name}: its colours are not those of the palette {choice}",
        f"They are those of {found.name}: use --palette {found.name}." if found else "Use --palette keep.",
    )


def palette_names() -> list[str]:
    """Return the names of all palettes, in the order of the alphabet."""
    return sorted({palette.name for palette in known_palettes()})


def _to_8_bit(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


def _samples(image: npt.NDArray[np.uint8]) -> Colours:
    """Return mean colours of even blocks all over the image, ``(N, 3)``; all pixels if it is smaller than a patch."""
    side = BLOCK * PATCH
    rows, columns = image.shape[0] // side, image.shape[1] // side
    if not rows * columns:
        return image.reshape(-1, 3).astype(np.float32)
    step = max(1, int(np.sqrt(rows * columns / SAMPLES)))
    patches = image[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)[::step, :, ::step]
    rows, columns = patches.shape[0], patches.shape[2]
    mixed = patches @ np.array([1, 2, 4], np.float32)  # one number for a colour: no palette keeps it
    blocks = mixed.reshape(rows, PATCH, BLOCK, columns, PATCH, BLOCK).transpose(0, 3, 1, 4, 2, 5)
    spread = blocks.reshape(rows, columns, PATCH * PATCH, -1).var(axis=3)
    down, across = np.divmod(spread.argmin(axis=2).ravel(), PATCH)
    row, column = np.divmod(np.arange(rows * columns), columns)
    inside = np.arange(BLOCK)
    y = (down * BLOCK)[:, None, None] + inside[:, None]
    x = (across * BLOCK)[:, None, None] + inside
    chosen: Colours = patches[row[:, None, None], y, column[:, None, None], x].mean(axis=(1, 2), dtype=np.float32)
    return chosen


def _coloured(samples: Colours) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = samples.max(axis=1) - samples.min(axis=1) >= COLOURED
    return chosen


def _has_colour(samples: Colours) -> bool:
    return int(_coloured(samples).sum()) > MIN_COLOURED * len(samples)


def _recognise(samples: Colours) -> Palette | None:
    if not _has_colour(samples):
        return None
    palette, near, spread = _closest(samples, known_palettes())
    shares = near.mean(), near[_coloured(samples)].mean()
    return palette if min(shares) >= RECOGNISED and spread >= MIN_SPREAD else None


def _closest(samples: Colours, palettes: tuple[Palette, ...]) -> tuple[Palette, npt.NDArray[np.bool_], float]:
    """Return the closest palette, which samples are near it, and how these spread (levels)."""
    points, squares = _curves(palettes)
    values = samples @ points
    values += squares  # of the distances, less the squares of the samples
    values = values.reshape(len(samples), len(palettes), CURVE_POINTS)
    distances = np.sqrt(np.maximum(0, values.min(axis=2) + np.square(samples).sum(axis=1, keepdims=True)))
    best = int(np.minimum(distances, 2 * NEAR).mean(axis=0).argmin())
    near = distances[:, best] <= NEAR
    levels = 256 // CURVE_POINTS * values[near, best].argmin(axis=1)
    return palettes[best], near, float(levels.std()) if len(levels) else 0.0


@cache
def _curves(palettes: tuple[Palette, ...]) -> tuple[Colours, Colours]:
    """Return points of the curves as ``-2 p``, ``(3, P * CURVE_POINTS)``, and their squares."""
    points = np.concatenate([palette.colours[:: 256 // CURVE_POINTS] for palette in palettes])
    return np.ascontiguousarray(-2 * points.T), np.square(points).sum(axis=1)


@cache
def _level_table(palette: Palette) -> Grey8:
    """Return the level of the nearest colour for each cell of RGB, ``(CELLS, CELLS, CELLS)``."""
    weighted = TO_YCC * np.array([[LUMA_WEIGHT], [1], [1]], np.float32)
    colours = palette.colours @ weighted.T
    squares = (colours**2).sum(axis=1)
    centres = (np.arange(CELLS, dtype=np.float32) * CELL + (CELL - 1) / 2).astype(np.float32)
    table = np.empty((CELLS, CELLS, CELLS), np.uint8)
    for index, red in enumerate(centres):
        green, blue = np.meshgrid(centres, centres, indexing="ij")
        cells = np.stack([np.full_like(green, red), green, blue], axis=-1).reshape(-1, 3) @ weighted.T
        table[index] = (squares - 2 * cells @ colours.T).argmin(axis=1).reshape(CELLS, CELLS)
    return table
