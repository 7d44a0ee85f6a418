"""Showing a segmentation to people: colours, outlines, a legend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from unip.data.labelled.classes import IGNORE, Classes, background_id, foreground_ids, has_background

Pixels = npt.NDArray[np.uint8]
Palette = tuple[tuple[int, int, int], ...]
OVERLAY_PIXELS = 16_000_000  # beyond which a frame is drawn reduced
ROWS_AT_ONCE = 256


def palette_array(classes: Classes) -> Pixels:
    """Return the colours of all 256 label values ``(256, 3)``: the classes', black elsewhere."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(classes.palette)] = classes.palette
    return colours


def palette_image(mask: Pixels, classes: Classes) -> Image.Image:
    """Return an indexed image whose values are the class ids and whose palette has the classes' colours.

    Args:
        mask: Class ids ``(H, W)``.
        classes: Whose colours.
    """
    image = Image.fromarray(mask)
    image.putpalette(palette_array(classes).tobytes())
    return image


def draw_overlay(image: Pixels, mask: Pixels, classes: Classes, *, alpha: float = 0.5) -> Pixels:
    """Tint an image with the classes' colours and outline the regions, so that small objects stay visible.

    A background class and pixels without a label are left as they are.

    Args:
        image: uint8 ``(H, W, 3)``, or grey ``(H, W)``.
        mask: Class ids ``(H, W)``.
        classes: Names and colours.
        alpha: Strength of the tint, 0 to 1; outlines are always opaque.

    Returns:
        uint8 ``(H, W, 3)``, ``round(image * (1 - alpha) + colour * alpha)`` where it is tinted.
    """
    tints, edges, outlined = _tints(classes, alpha), outlines(mask), _is_tinted(classes)
    overlay = np.empty((*mask.shape, 3), np.uint8)
    for first in range(0, len(mask), ROWS_AT_ONCE):  # places in the table take more memory than pixels
        rows = slice(first, first + ROWS_AT_ONCE)
        place = mask[rows].astype(np.intp) << 8
        grey = None  # looked up once for all channels
        if image.ndim == 2:
            grey = tints.view(np.uint32)[..., 0].take(place | image[rows])[..., None].view(np.uint8)
        for channel in range(3):
            overlay[rows, :, channel] = (
                tints[..., channel].take(place | image[rows, :, channel]) if grey is None else grey[..., channel]
            )
        at = np.flatnonzero(edges[rows])
        at = at[outlined[mask[rows].ravel()[at]]]
        overlay[rows].reshape(-1, 3)[at] = palette_array(classes)[mask[rows].ravel()[at]]
    return overlay


def _is_tinted(classes: Classes) -> npt.NDArray[np.bool_]:
    """Say which of all 256 label values ``(256,)`` are tinted."""
    tinted_ids = np.zeros(256, bool)
    tinted_ids[: len(classes.names)] = True
    if has_background(classes.names):
        tinted_ids[background_id(classes.names)] = False
    return tinted_ids


def _tints(classes: Classes, alpha: float) -> Pixels:
    """Return the colour ``(256, 256, 4)`` of each label value and level of grey; the last channel means nothing."""
    levels = np.arange(256)[None, :, None]
    tints = np.repeat(np.broadcast_to(levels, (256, 256, 1)).astype(np.uint8), 4, axis=2)
    ids = np.flatnonzero(_is_tinted(classes))
    tints[ids, :, :3] = np.round(levels * (1 - alpha) + palette_array(classes)[ids, None] * alpha)
    return tints


def reduction(size: tuple[int, int], most: int) -> int:
    """Return the whole number by which both sides are divided so that a picture has no more than ``most`` pixels."""
    by = 1
    while -(-size[0] // by) * -(-size[1] // by) > most:
        by += 1
    return by


def reduce_picture(image: Pixels, by: int) -> Pixels:
    """Return a picture ``(H, W)`` or ``(H, W, 3)`` whose pixels are means of ``by`` times ``by`` others."""
    return image if by == 1 else np.asarray(Image.fromarray(image).reduce(by))


def reduce_mask(mask: Pixels, classes: Classes, by: int) -> Pixels:
    """Return a mask of which each pixel stands for ``by`` times ``by`` others.

    It has the class of one of them that is not the background, if there is one, so that small regions do not vanish.

    Args:
        mask: Class ids ``(H, W)``.
        classes: Which class is the background.
        by: 1 or more.
    """
    if by == 1:
        return mask
    reduced = mask[::by, ::by].copy()
    background = background_id(classes.names)
    nothing = [IGNORE] if background is None else [IGNORE, background]
    for place in range(1, by * by):
        part = mask[place // by :: by, place % by :: by]
        there = reduced[: part.shape[0], : part.shape[1]]
        np.copyto(there, part, where=np.isin(there, nothing) & (part < len(classes.names)))
    return reduced


def outlines(mask: Pixels) -> npt.NDArray[np.bool_]:
    """Mark the pixels ``(H, W)`` that have a 4-neighbour of another class."""
    edge = np.zeros(mask.shape, bool)
    across = mask[:, 1:] != mask[:, :-1]
    down = mask[1:] != mask[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def tinted(counts: npt.NDArray[np.integer[Any]], classes: Classes) -> list[int]:
    """Return the classes with pixels ``(C,)`` that an overlay tints; the background only when there is nothing else."""
    present = [int(index) for index in np.flatnonzero(counts)]
    return [index for index in present if index in foreground_ids(classes.names)] or present


def add_legend(image: Pixels, classes: Classes, present: Sequence[int]) -> Pixels:
    """Put a strip below an image that names the classes in it, with their colours.

    Args:
        image: uint8 ``(H, W, 3)``.
        classes: Names and colours.
        present: Class ids to name, in this order.

    Returns:
        uint8 ``(H + strip, W, 3)``.
    """
    return np.concatenate([image, _legend(image.shape[1], classes.names, classes.palette, tuple(present))])


@lru_cache(maxsize=64)  # most frames of a folder have the same, and letters take longer than pixels
def _legend(width: int, names: tuple[str, ...], palette: Palette, present: tuple[int, ...]) -> Pixels:
    """Return the strip of a legend, ``(strip, width, 3)``."""
    size = int(np.clip(width // 40, 10, 28))
    font = ImageFont.load_default(size)
    places, x, y = [], size // 2, size // 2
    for index in present:
        label = names[index]
        step = round(size * 1.4 + font.getlength(label) + size)
        if x > size and x + step > width:
            x, y = size // 2, y + round(size * 1.6)
        places.append((index, label, x, y))
        x += step
    strip = Image.new("RGB", (width, y + 2 * size), "white")
    draw = ImageDraw.Draw(strip)
    for index, label, x, y in places:
        draw.rectangle((x, y, x + size, y + size), fill=palette[index], outline="black")
        draw.text((x + round(size * 1.4), y + size // 2), label, fill="black", font=font, anchor="lm")
    return np.asarray(strip)
