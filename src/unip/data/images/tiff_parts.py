"""Whether a TIFF lists all strips or tiles of its picture: Pillow and tifffile leave black what is not listed."""

from __future__ import annotations

import math
from typing import Any

from PIL.TiffImagePlugin import TiffImageFile

from unip.errors import UnipError

WIDTH, HEIGHT, SAMPLES, PLANES = 256, 257, 277, 284  # TIFF tags
ROWS_OF_STRIP, STRIPS = 278, 273
TILE_WIDTH, TILE_HEIGHT, TILES = 322, 323, 324
SEPARATE = 2  # value of PLANES: each channel has strips or tiles of its own


def refuse_missing_parts(image: TiffImageFile) -> None:
    """Refuse an opened TIFF that lists fewer strips or tiles than its size needs.

    Raises:
        UnipError: It does.
    """
    tags = image.tag_v2
    width, height = int(tags[WIDTH]), int(tags[HEIGHT])
    if TILES in tags:
        needed = -(-width // _side(tags[TILE_WIDTH])) * -(-height // _side(tags[TILE_HEIGHT]))
        listed = tags[TILES]
    else:
        needed = -(-height // _side(tags.get(ROWS_OF_STRIP, height)))
        listed = tags.get(STRIPS, ())
    planes = int(tags.get(SAMPLES, 1)) if tags.get(PLANES) == SEPARATE else 1
    _compare(len(listed) if isinstance(listed, tuple) else 1, needed * planes)


def refuse_missing_parts_of_page(page: Any) -> None:
    """Do the same for a page of tifffile."""
    _compare(min(len(page.dataoffsets), len(page.databytecounts)), math.prod(page.chunked))


def _side(value: Any) -> int:
    if int(value) < 1:
        raise UnipError("has strips or tiles without pixels", "Copy the file again.")
    return int(value)


def _compare(listed: int, needed: int) -> None:
    if listed < needed:
        raise UnipError(f"lists {listed} of the {needed} strips or tiles of its picture", "Copy the file again.")
