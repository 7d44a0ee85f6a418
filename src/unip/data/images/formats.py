"""The formats that Pillow may open, and the one way in which it does; temperatures are in radiometric.py."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from unip.errors import UnipError
from unip.limits import check_claim

#: The formats and their first bytes: of these decoders of Pillow, which has some 40, one opens a file.
FORMATS = {
    "PNG": (PngImagePlugin.PngImageFile, (b"\x89PNG\r\n\x1a\n",)),
    "JPEG": (JpegImagePlugin.jpeg_factory, (b"\xff\xd8\xff",)),
    "WEBP": (WebPImagePlugin.WebPImageFile, (b"RIFF",)),
    "TIFF": (TiffImagePlugin.TiffImageFile, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "BMP": (BmpImagePlugin.BmpImageFile, (b"BM",)),
}
LFS_POINTER = b"version https://git-lfs"  # what a clone has in place of each file until `git lfs pull`


def open_image(data: bytes | BinaryIO, *, of_any_size: bool = False) -> Image.Image:
    """Open an image of one of :data:`FORMATS`, whatever its name says; its pixels are not decoded yet.

    Pillow by itself tries some 40 formats by the first bytes. Among them are PostScript, for which it starts
    Ghostscript, and many that nobody uses and whose decoders are rarely tested. Its limit on pixels is a variable of
    all the process and below ours, so the decoders are asked without it.

    Args:
        data: The bytes of a file, or an open one, which stays open.
        of_any_size: Whether only its header is looked at, whatever size that claims.

    Raises:
        UnipError: It is a pointer of Git LFS, or claims more pixels than :mod:`unip.limits` allows.
        PIL.UnidentifiedImageError: It is none of these.
        Exception: On broken bytes the decoders raise nearly anything.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    file.seek(0)
    start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise UnipError("it is a pointer of Git LFS; git lfs pull gets the file itself")
    try:
        image = _decoder(file, start)
    except Image.DecompressionBombError:  # the decoder of WebP keeps Pillow's limit by itself
        raise UnipError("it claims more million pixels than Pillow reads of this format", "Save it as PNG.") from None
    if of_any_size:
        return image
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    check_claim(image.height, image.width, size, jpeg=image.format in ("JPEG", "MPO"))
    return image


def _decoder(file: BinaryIO, start: bytes) -> ImageFile.ImageFile:
    for decoder, marks in FORMATS.values():
        if start.startswith(marks) and (marks != (b"RIFF",) or start[8:12] == b"WEBP"):
            try:
                file.seek(0)
                image: ImageFile.ImageFile = decoder(file, "")
                return image
            except (SyntaxError, IndexError, TypeError, struct.error):  # what Image.open takes for: not this format
                break
    raise UnidentifiedImageError("of no known format")
