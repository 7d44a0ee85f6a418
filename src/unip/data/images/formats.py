"""The formats that Pillow may open, and the one way in which it does; temperatures are in radiometric.py."""

from __future__ import annotations

import io
from typing import BinaryIO

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")


def open_image(data: bytes | BinaryIO) -> Image.Image:
    """Open an image of one of :data:`FORMATS`, whatever its name says; its pixels are not decoded yet.

    Pillow by itself tries some 40 formats by the first bytes. Among them are PostScript, for which it starts
    Ghostscript, and many that nobody uses and whose decoders are rarely tested.

    Args:
        data: The bytes of a file, or an open one, which stays open.

    Raises:
        PIL.UnidentifiedImageError: It is none of these.
        Exception: On broken bytes the decoders raise nearly anything.
    """
    return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS)
