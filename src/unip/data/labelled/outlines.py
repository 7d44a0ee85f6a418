"""Outlines drawn on the picture that people see, brought to the pixels as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import Pixels8
from unip.data.images.formats import open_image
from unip.data.images.orientation import as_stored, orientation_of, stored_size
from unip.errors import UnipError
from unip.limits import check_pixels
from unip.opening import open_regular

BEYOND_SHARE = 0.02  # of a side: as far beyond the border a corner may lie, since tools round and smooth
BEYOND_PIXELS = 2.0  # or as far, which is more in small pictures
LOOKED_AT = 8  # files whose headers tell how large many are


@dataclass(frozen=True)
class StoredPicture:
    """Size of an image file as it is stored, and how viewers and annotation tools turn it.

    Attributes:
        size: Height and width in pixels, as stored.
        orientation: The Exif orientation, 1 to 8; 1 is as stored.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width in pixels, as viewers show it."""
        height, width = self.size
        return (width, height) if self.orientation >= 5 else (height, width)

    def is_turned(self, drawn: tuple[int, int]) -> bool:
        """Say whether outlines on a picture of height and width ``drawn`` are those of the turned one.

        Tools show pictures turned. Where a size says that one did not, its outlines are those of the stored pixels.
        """
        return self.orientation != 1 and (drawn == self.shown or drawn != self.size)

    def as_stored(self, mask: Pixels8) -> Pixels8:
        """Turn a mask ``(H, W)`` of the shown picture to the pixels as stored."""
        return as_stored(mask, self.orientation)


def look_at_picture(path: Path, *, of_any_size: bool = False) -> StoredPicture:
    """Read size and orientation from the header of an image file.

    Args:
        path: The file.
        of_any_size: Whether the size is not used, and may be larger than that of a frame.

    Raises:
        UnipError: It cannot be read.
    """
    try:
        with open_regular(path) as file, open_image(file, of_any_size=of_any_size) as image:
            return StoredPicture(stored_size(image), orientation_of(image))
    except UnipError as error:
        raise UnipError(f"image {path}: {error.what}", error.fix) from None
    except Exception as error:  # on broken bytes the decoders raise nearly anything
        raise UnipError(f"cannot read image {path} ({error})", "Copy it again or remove it.") from error


def sizes_of_some(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return height and width, as stored, of some of many image files, by their headers; none of unreadable ones."""
    sizes = []
    for path in paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]:
        with suppress(UnipError):  # it is told where the file is read
            sizes.append(look_at_picture(path).size)
    return sizes


def blank(size: tuple[int, int], where: str, value: int = 0) -> Pixels8:
    """Return a mask to draw on: ``(H, W)`` uint8.

    Args:
        size: Height and width, as a file states them.
        where: That file, for the message.
        value: Of all its pixels.

    Raises:
        UnipError: It would have more pixels than a frame may have, or none.
    """
    check_pixels(*size, f"{where}: the picture")
    return np.full(size, value, np.uint8)


def check_inside(
    points: Sequence[Sequence[float]] | npt.NDArray[Any], size: tuple[int, int], where: str, hint: str = ""
) -> None:
    """Refuse an outline that lies outside its picture by more than a small tolerance: it would vanish in silence.

    Args:
        points: ``(N, 2)`` corners x, y in pixels.
        size: Height and width of the picture.
        where: File and place in it, for the message.
        hint: What to do; by default to see whether the outline belongs to a picture of another size.

    Raises:
        UnipError: A corner is outside, or not a number.
    """
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    limits = np.array([size[1], size[0]], np.float64)
    slack = np.maximum(BEYOND_PIXELS, BEYOND_SHARE * limits)
    outside = ~((corners >= -slack) & (corners <= limits + slack)).all(axis=1)  # NaN too
    if outside.any():
        x, y = corners[outside][0]
        raise UnipError(
            f"{where}: the corner {x:g}, {y:g} lies outside of the picture of {size[1]}x{size[0]} pixels",
            hint or "Export it for pictures of this size, or remove the outline.",
        )
