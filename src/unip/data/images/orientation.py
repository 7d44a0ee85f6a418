"""The EXIF orientation of image files: how viewers turn the pixels that are stored.

unip works on the pixels as they are stored. Viewers and most annotation tools turn them, and Pillow turns those of a
TIFF (only) while it decodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from unip.data.images.tiff_parts import refuse_missing_parts

ORIENTATION = 274  # Exif tag and TIFF tag
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # TIFF tags
WEBP_FLAGS = 0x0C  # Exif or XMP is there
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_WORDS = (b"Raw profile type", b"XML:com.adobe.xmp")  # texts in which older programs keep it

Turn = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

#: How pixels of the shown picture become the stored ones, by the orientation (CIPA DC-008, tag 274); the opposite of
#: Pillow's ``ImageOps.exif_transpose``.
_STORED: dict[int, Turn] = {
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: lambda shown: np.rot90(shown),
    7: lambda shown: shown[::-1, ::-1].swapaxes(0, 1),
    8: lambda shown: np.rot90(shown, -1),
}
_BACK = {6: 8, 8: 6}  # a quarter turn one way is undone by one the other way; all others undo themselves


def as_stored(shown: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn pixels ``(H, W, ...)`` as viewers show them into the stored ones."""
    return np.ascontiguousarray(_STORED[orientation](shown)) if orientation in _STORED else shown


def as_shown(stored: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn pixels ``(H, W, ...)`` as they are stored into those that viewers show."""
    return as_stored(stored, _BACK.get(orientation, orientation))


def orientation_of(image: Image.Image) -> int:
    """Return the orientation of an image file that was opened and not decoded yet: 1 to 8; 1 is as stored."""
    if isinstance(image, ImageFile.ImageFile) and image.fp and not may_be_turned(image.fp):
        return 1  # of a PNG, Pillow would decode the whole file to find out
    found = image.getexif().get(ORIENTATION, 1)
    return int(found) if found in _STORED else 1


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width, in pixels, of an opened image file as it is stored."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size is that of the shown picture
        return int(image.tag_v2[TIFF_HEIGHT]), int(image.tag_v2[TIFF_WIDTH])
    return image.height, image.width


def load_as_stored(image: Image.Image) -> Image.Image:
    """Decode an opened image file.

    Returns:
        The picture as it is stored; of a TIFF that has an orientation without the tags of the file.

    Raises:
        UnipError: It is a TIFF that lacks a part of its picture.
    """
    orientation = 1
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        orientation = orientation_of(image)
        refuse_missing_parts(image)
    image.load()
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(back[orientation]) if orientation in back else image


def save_options(orientation: int) -> dict[str, Any]:
    """Return options of ``Image.save`` that state an orientation; none where pixels are as stored."""
    if orientation == 1:
        return {}
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"exif": exif}


def may_be_turned(file: IO[bytes]) -> bool:
    """Say whether an image file may state an orientation, from a few bytes of it; the place in the file stays."""
    place = file.tell()
    try:
        file.seek(0)
        start = file.read(21)
        if start.startswith(b"RIFF"):  # WebP: a header with flags if there is more than a picture
            return start[12:16] == b"VP8X" and bool(start[20] & WEBP_FLAGS)
        return _png_may_say(file) if start.startswith(PNG_START) else not start.startswith(b"BM")
    finally:
        file.seek(place)


def _png_may_say(file: IO[bytes]) -> bool:
    """Say whether a PNG has a chunk that may hold an orientation."""
    file.seek(len(PNG_START))
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if name == b"eXIf":
            return True
        start = file.read(min(length, 20)) if name in (b"tEXt", b"zTXt", b"iTXt") else b""
        if start.startswith(PNG_WORDS):
            return True
        file.seek(length - len(start) + 4, 1)
    return False
