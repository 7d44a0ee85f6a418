"""The formats that Pillow may open, and the one way in which it does; temperatures are in radiometric.py."""

from __future__ import annotations

import io
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from unip.errors import UnipError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
LFS_POINTER = b"version https://git-lfs"  # what a clone has in place of each file until `git lfs pull`
MAX_PIXELS = 178_956_970  # where Pillow stops too; a file that claims more is taken for a decompression bomb


def open_image(data: bytes | BinaryIO) -> Image.Image:
    """Open an image of one of :data:`FORMATS`, whatever its name says; its pixels are not decoded yet.

    Pillow by itself tries some 40 formats by the first bytes. Among them are PostScript, for which it starts
    Ghostscript, and many that nobody uses and whose decoders are rarely tested.

    Args:
        data: The bytes of a file, or an open one, which stays open.

    Raises:
        UnipError: It is a pointer of Git LFS.
        PIL.UnidentifiedImageError: It is none of these.
        Exception: On broken bytes the decoders raise nearly anything.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise UnipError("it is a pointer of Git LFS; git lfs pull gets the file itself") from None
        raise UnidentifiedImageError("of no known format") from None  # Pillow's text is an address in memory


def too_many_pixels() -> UnipError:
    """Return the error for a file that claims more than :data:`MAX_PIXELS`; its name is for the caller to add."""
    return UnipError(
        f"it claims more than {MAX_PIXELS // 10**6} million pixels",
        "Split it into tiles if it is real. Its header may also be forged to exhaust memory.",
    )
