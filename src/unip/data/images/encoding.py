"""Encoded images for packing: checked and as they are, or smaller, or in another format."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from unip.data.images.config import Conversion, Format
from unip.data.images.conversion import grey8, luma, to_uint8
from unip.data.images.decoding import Pixels, decode_image, decode_samples, is_grey
from unip.errors import UnipError

ENDINGS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"II": "tif", b"MM": "tif", b"BM": "bmp"}
LOSSY = {"jpg": "jpeg", "webp": "webp"}  # what a smaller copy of such a file is written as


@dataclass(frozen=True)
class Encoded:
    """An image as it is packed; the fields but ``data`` and ``ending`` are columns of a manifest."""

    data: bytes
    ending: str
    width: int
    height: int
    bits: int
    sha256: str
    conversion: str | None


def encode(data: bytes, row: dict[str, Any], *, short_side: int | None, format: Format, quality: int) -> Encoded:
    """Bring an image file into the form in which it is packed.

    What needs no change is taken over byte by byte, after a check that it is still the file of the manifest. A smaller
    copy shows the whole picture: bicubic with antialiasing, 16-bit counts too; nothing is ever enlarged. With ``keep``
    it stays JPEG or WebP if it was, else it becomes PNG. PNG holds 16-bit grey, every other target 8 bits, for which
    the row's conversion is used; that row then needs no conversion any more. A re-encoded image is grey if its row says
    so.

    Args:
        data: The file.
        row: Of the manifest; an empty ``sha256`` is not known.
        short_side: Pixels to which a larger short side is reduced; None leaves the size.
        format: What to write; ``keep`` is the file's own format.
        quality: Of JPEG and WebP, 1..100.

    Raises:
        UnipError: The file has changed since the manifest was made, is damaged, or does not fit the format.
    """
    digest = hashlib.sha256(data).hexdigest()
    if row["sha256"] and digest != row["sha256"]:
        raise UnipError(f"it is not the file that the manifest lists: {_difference(data, row)}")
    ending = next((name for magic, name in ENDINGS.items() if data.startswith(magic)), "bin")
    known = bool(row["sha256"]) and row["width"] > 0
    fits = known and (short_side is None or min(row["width"], row["height"]) <= short_side)
    if format == "keep" and fits:
        return Encoded(data, ending, row["width"], row["height"], row["bits"], digest, row["conversion"])
    image = decode_image(data, "file")
    height, width = image.shape[:2]
    if format == "keep" and (short_side is None or min(height, width) <= short_side):
        return Encoded(data, ending, width, height, 8 * image.dtype.itemsize, digest, row["conversion"])
    target = LOSSY.get(ending, "png") if format == "keep" else format
    conversion, rule = row["conversion"], Conversion.from_json(row["conversion"])
    image = image if rule.takes_luma and rule.nodata is None else decode_samples(data, "file", rule)
    stays = image.dtype == np.uint8 or (image.dtype == np.uint16 and image.ndim == 2 and target == "png")
    if not stays:
        grey = is_grey(image)
        image, conversion = grey8(image, rule) if grey else to_uint8(image, luma(image), rule), None
    if image.ndim == 3 and row.get("grey", True):
        image = np.array(Image.fromarray(image).convert("L"))
    height, width = image.shape[:2]  # temperatures may be fewer than the picture's pixels
    if short_side is not None and min(height, width) > short_side:
        image = shrink(image, short_side)
    out = io.BytesIO()
    try:
        # the smallest effort that still saves space: packing is bound by the encoder
        options = {"png": {"compress_level": 6}, "webp": {"quality": quality, "method": 2}}
        Image.fromarray(image).save(out, target, **options.get(target, {"quality": quality}))
    except (OSError, ValueError) as error:
        raise UnipError(f"cannot be written as {target}: {error}") from error
    stored = out.getvalue()
    ending = {"jpeg": "jpg"}.get(target, target)
    return Encoded(
        stored,
        ending,
        image.shape[1],
        image.shape[0],
        8 * image.dtype.itemsize,
        hashlib.sha256(stored).hexdigest(),
        conversion,
    )


def shrink(image: Pixels, short_side: int) -> Pixels:
    """Reduce an image so that its short side has ``short_side`` pixels (bicubic, antialiased), keeping its type.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8, or ``(H, W)`` uint16.
        short_side: At most that of the image.
    """
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    counts = np.asarray(Image.fromarray(image.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    smaller: Pixels = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    return smaller


def _difference(data: bytes, row: dict[str, Any]) -> str:
    if len(data) != row["bytes"]:
        return f"{len(data)} bytes instead of {row['bytes']}"
    return "the same size, but another content"
