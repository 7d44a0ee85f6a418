"""Sources of masks: files of ids, colour-coded files, and outlines that are drawn; and what their ids mean."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import Pixels, Pixels8
from unip.data.images.formats import open_image
from unip.data.images.orientation import load_as_stored
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.saying import say_once
from unip.errors import UnipError
from unip.opening import read_regular

Ids = tuple[tuple[int, int], ...]  # (id in the file, id of the class or IGNORE), rising
UNKNOWN = 256  # in tables: no class and not ignored

LOSSLESS = ("PNG", "TIFF", "BMP")
COLOUR_MODES = ("RGB", "RGBA", "LA")  # of Pillow, those in which tools save binary masks
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 258, 259, 262  # TIFF tags
LOSSY_COMPRESSIONS = (6, 7, 33003, 33004, 33005, 34712, 50001, 52546)  # JPEG, JPEG 2000, WebP, JPEG XL


class MaskSource(Protocol):
    """Where one mask comes from; small and picklable, for the workers of data loaders."""

    @property
    def path(self) -> Path:
        """The file that holds it, for messages; several masks may share one."""

    def read(self) -> Pixels:
        """Return the ids as the file has them, ``(H, W)`` uint8 or uint16."""


@dataclass(frozen=True)
class MaskFile:
    """A PNG, TIFF or BMP with one channel (8 or 16 bits, or palette) of ids; or a binary mask saved in colour."""

    path: Path

    def read(self) -> Pixels:
        """Return the stored values, ``(H, W)`` uint8 or uint16."""
        found = decode_mask(read_mask_bytes(self.path), self.path)
        refuse_lossy(found, self.path)
        if (grey := binary_of_colour(found)) is not None:
            if multiprocessing.parent_process() is None:  # else every worker would say it
                say_once(
                    f"masks in {self.path.parent} are saved in colour ({found.mode}), but black and white: they are "
                    "read as the grey binary masks that they are"
                )
            return grey
        if found.mode not in ("L", "P", "1") and not found.mode.startswith("I;16"):
            raise UnipError(
                f"mask {self.path} has the colour mode {found.mode}, not one channel of class ids",
                "Save it as 8-bit grey or palette PNG whose values are the ids; colour-coded masks are read "
                "as colours:PATH.",
            )
        if found.white_is_zero and found.mode != "1":
            raise UnipError(f"mask {self.path} is a TIFF whose 0 is white, so its ids are unclear", "Save it as PNG.")
        if found.mode == "L" and found.depth < 8:  # Pillow spreads 2- and 4-bit grey over 0..255
            return found.pixels // np.uint8(255 // (2**found.depth - 1))
        return found.pixels.astype(np.uint16 if found.mode.startswith("I;16") else np.uint8)


def binary_of_colour(mask: DecodedMask) -> Pixels8 | None:
    """Return the binary mask that was saved with colour channels, as many tools do; None where it is no such.

    It is one if all colour channels are equal and hold 0 and 255 alone, or 0 and 1, and alpha says nothing else: it is
    255 everywhere, or equal to them.

    Returns:
        ``(H, W)`` uint8: one of the channels.
    """
    if mask.mode not in COLOUR_MODES:
        return None
    bands = mask.mode.removesuffix("A")
    grey: Pixels8 = np.ascontiguousarray(mask.pixels[..., 0])
    alpha = mask.pixels[..., -1]
    if any((mask.pixels[..., i] != grey).any() for i in range(1, len(bands))):
        return None
    if mask.mode.endswith("A") and not ((alpha == 255).all() or (alpha == grey).all()):
        return None
    return grey if set(np.unique(grey).tolist()) <= {0, int(grey.max())} and grey.max() in (0, 1, 255) else None


@dataclass(frozen=True)
class ColourFile:
    """A lossless image whose colours are classes.

    Attributes:
        path: The file.
        colours: Pairs of a colour (red, green, blue) and the id it stands for.
    """

    path: Path
    colours: tuple[tuple[tuple[int, int, int], int], ...]

    def read(self) -> Pixels:
        """Return the ids of the colours, ``(H, W)`` uint8.

        Raises:
            UnipError: A colour stands for nothing.
        """
        found = decode_mask(read_mask_bytes(self.path), self.path, mode="RGB")
        refuse_lossy(found, self.path)
        colours = found.pixels
        codes = _codes(colours.astype(np.int32))
        known = sorted((int(_codes(np.array(colour))), class_id) for colour, class_id in self.colours)
        places = np.searchsorted([code for code, _ in known[1:]], codes, side="right")
        fits = np.array([code for code, _ in known])[places] == codes
        if not fits.all():
            wrong = tuple(int(value) for value in colours[~fits][0])
            raise UnipError(
                f"mask {self.path} holds the colour {wrong}, which no class has ({int((~fits).sum())} pixels)",
                "Correct the mask or the palette; soft edges come from resizing or lossy saving.",
            )
        ids: Pixels8 = np.array([class_id for _, class_id in known], np.uint8)[places]
        return ids


def plain_ids(classes: Classes) -> Ids:
    """Return the table of masks that hold class ids as they are, and ``ignore_index``."""
    return (*((i, i) for i in range(len(classes.names))), (classes.ignore_index, IGNORE))


def make_ids(table: Mapping[int, int]) -> Ids:
    """Return a table ``{id in the file: id of the class, or IGNORE}`` as it is kept."""
    return tuple(sorted(table.items()))


def translate(raw: Pixels, ids: Ids, classes: Classes, path: Path) -> Pixels8:
    """Turn the ids of a file into class ids.

    Args:
        raw: ``(H, W)`` uint8 or uint16, as stored.
        ids: What the stored ids mean.
        classes: For the message.
        path: For the message.

    Returns:
        ``(H, W)`` uint8 class ids, 255 where there is no label.

    Raises:
        UnipError: An id has no meaning.
    """
    found = _table(ids)[raw]
    unknown = found == UNKNOWN
    if unknown.any():
        values = np.unique(raw[unknown])
        more = f" and {len(values) - 1} more" if len(values) > 1 else ""
        known = [value for value, class_id in ids if class_id != IGNORE]
        ignored = [str(value) for value, class_id in ids if class_id == IGNORE]
        dense = known == list(range(len(known)))
        shown = f"0..{len(known) - 1}" if dense else ", ".join(map(str, known))
        names = ", ".join(classes.names[:8]) + (", ..." if len(classes.names) > 8 else "")
        raise UnipError(
            f"mask {path} holds the unknown id {values[0]}{more} ({int(unknown.sum())} pixels)",
            f"Known ids: {shown} ({names})"
            + (f" and {', '.join(ignored[:8])} for ignore" if ignored else "")
            + ". Correct the mask, add the class to classes.json, or give the id a meaning with remap.",
        )
    return found.astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _table(ids: Ids) -> npt.NDArray[np.uint16]:
    table = np.full(65536, UNKNOWN, np.uint16)
    for value, class_id in ids:
        table[value] = class_id
    return table


def draw_polygon(mask: Pixels8, points: Sequence[Sequence[float]] | npt.NDArray[Any], class_id: int) -> None:
    """Fill the pixels of ``mask`` ``(H, W)`` whose centres lie inside a polygon (even-odd rule), in place.

    Pixel (column, row) covers [column, column + 1) x [row, row + 1), as COCO, LabelMe and YOLO count. Not by
    Pillow's ``ImageDraw``: that also fills every pixel that the outline touches, half a pixel all round, which
    enlarges a pedestrian of 6 pixels by a third.

    Args:
        mask: Where to draw.
        points: ``(N, 2)`` corners x, y in pixels; it is closed by itself.
        class_id: What to fill in.
    """
    height, width = mask.shape
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    if len(corners) < 3:
        return
    top = max(0, int(np.floor(corners[:, 1].min() - 0.5)))
    bottom = min(height, int(np.ceil(corners[:, 1].max() + 0.5)))
    if bottom <= top:
        return
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    centres = np.arange(top, bottom)[:, None] + 0.5
    rows, edges = np.nonzero((y0 <= centres) != (y1 <= centres))
    slope = (x1 - x0)[edges] / (y1 - y0)[edges]
    crossings = x0[edges] + (centres[rows, 0] - y0[edges]) * slope
    first = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)  # column whose centre is right of it
    turns = np.zeros((bottom - top, width + 1), np.int64)
    np.add.at(turns, (rows, first), 1)
    inside = np.cumsum(turns, axis=1)[:, :width] % 2 == 1
    mask[top:bottom][inside] = class_id


def polygon_area(points: Sequence[Sequence[float]] | npt.NDArray[Any]) -> float:
    """Return the area of a polygon in square pixels (shoelace formula)."""
    x, y = np.asarray(points, np.float64).reshape(-1, 2).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def box_corners(cx: float, cy: float, width: float, height: float, angle: float) -> npt.NDArray[np.float64]:
    """Return the corners ``(4, 2)`` of a box turned by ``angle`` (radians, clockwise on the screen, y downwards)."""
    along = np.array([np.cos(angle), np.sin(angle)]) * width / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    centre = np.array([cx, cy])
    return np.stack(
        [centre - along - across, centre + along - across, centre + along + across, centre - along + across]
    )


def _codes(colours: npt.NDArray[Any]) -> npt.NDArray[Any]:
    codes: npt.NDArray[Any] = colours[..., 0] * 65536 + colours[..., 1] * 256 + colours[..., 2]
    return codes


@dataclass(frozen=True)
class DecodedMask:
    """The pixels of a mask file, ``(H, W)`` or ``(H, W, 3)``, and how the file stores them.

    Attributes:
        pixels: As decoded.
        mode: Pillow's mode of the file.
        format: Pillow's name of its format.
        depth: Bits of a sample.
        is_lossy: Whether saving may have changed values.
        white_is_zero: Whether it is a TIFF whose 0 is white; Pillow inverts those.
    """

    pixels: Pixels
    mode: str
    format: str
    depth: int
    is_lossy: bool
    white_is_zero: bool


def read_mask_bytes(path: Path) -> bytes:
    """Return the bytes of a mask file.

    Raises:
        UnipError: It cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise UnipError(f"cannot read mask {path}: {error.strerror or error}") from error


def decode_mask(data: bytes, path: Path, mode: str | None = None) -> DecodedMask:
    """Decode a mask file, in another of Pillow's modes if one is given.

    Raises:
        UnipError: It is damaged, or holds several pages.
    """
    try:
        with open_image(data) as image:
            picture = load_as_stored(image)
            pages = getattr(image, "n_frames", 1)
            pixels = np.asarray(picture.convert(mode) if mode else picture)
            tags = getattr(image, "tag_v2", {})
            depth = data[24] if image.format == "PNG" else tags.get(BITS_PER_SAMPLE, (8,))[0]  # PNG: in the header
            lossy = image.format not in LOSSLESS or tags.get(COMPRESSION, 1) in LOSSY_COMPRESSIONS
            inverted = tags.get(PHOTOMETRIC, 1) == 0
            found = DecodedMask(pixels, image.mode, str(image.format), depth, lossy, inverted)
    except UnipError as error:
        raise UnipError(f"mask {path}: {error.what}", error.fix) from None
    except Exception as error:  # on broken bytes the decoders raise nearly anything
        raise UnipError(
            f"mask {path} is truncated, damaged or not an image ({error})", "Write it again as PNG."
        ) from error
    if pages > 1:
        raise UnipError(f"mask {path} holds {pages} pages", "Save the page with the class ids alone.")
    return found


def refuse_lossy(mask: DecodedMask, path: Path) -> None:
    """Refuse a mask whose ids may have changed when it was saved.

    Raises:
        UnipError: It is JPEG, WebP or a TIFF with lossy compression.
    """
    if mask.is_lossy:
        what = f"{mask.format} with lossy compression" if mask.format in LOSSLESS else f"{mask.format}, not PNG"
        raise UnipError(
            f"mask {path} is {what}", "Lossy formats change ids: write it again as PNG (TIFF and BMP will do, too)."
        )
