"""Reading images to 8- or 16-bit arrays without clipping, and turning them grey or 8-bit.

Pixels come as they are stored: an EXIF orientation is not applied, of a TIFF neither, because the frames of a paired
sensor are stored beside those pixels and thermal cameras do not set it. Files with several pages are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from unip.data.images.addresses import read_bytes
from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT, grey8, luma, to_uint8
from unip.data.images.formats import open_image
from unip.data.images.nodata import without_nodata
from unip.data.images.orientation import load_as_stored
from unip.data.images.palettes import palette_to_grey
from unip.data.images.radiometric import Radiometric, decode_radiometric, kelvin_of
from unip.data.images.tiff import decode_tiff, to_16bit, with_missing
from unip.errors import UnipError

Pixels = npt.NDArray[Any]  # uint8 or uint16, (H, W) or (H, W, 3)
Pixels8 = npt.NDArray[np.uint8]

GREY_SPREAD = 2  # levels by which lossy grey files differ between channels


def read_image(path: Path | str) -> Pixels:
    """Read an image file (PNG, JPEG, WebP, TIFF or BMP) without clipping or rescaling integer samples.

    Alpha is dropped, palettes become RGB, other colour spaces too. 16-bit grey PNG and any 16-bit TIFF stay
    16-bit; of 16-bit colour PNG the high byte of each sample is kept, which is refused if the picture is grey.
    TIFF with other samples becomes uint16 by :func:`unip.data.images.tiff.to_16bit`; models see such frames by
    :func:`read_samples`, which keeps their values.

    Args:
        path: The file; its content decides the format, not its name.

    Returns:
        ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16.

    Raises:
        UnipError: The file is missing, truncated, not an image, or claims more pixels than :mod:`unip.limits` allows.
    """
    return decode_image(_bytes(path), path)


def decode_image(data: bytes, name: Path | str) -> Pixels:
    """Decode the bytes of an image file; ``name`` is for messages. See :func:`read_image`."""
    return _decode(data, name, as_stored=False)


def decode_image_as_stored(path: Path | str) -> Pixels:
    """Read an image file as :func:`read_image`, but keep the samples of a TIFF as they are stored."""
    return _decode(_bytes(path), path, as_stored=True)


def read_samples(path: Path | str, conversion: Conversion = DEFAULT) -> Pixels:
    """Read the samples that a conversion turns into 8 bits: :func:`decode_samples` of a file."""
    return decode_samples(_bytes(path), path, conversion)


def decode_samples(data: bytes, name: Path | str, conversion: Conversion = DEFAULT) -> Pixels:
    """Decode the bytes of an image file to the samples that a conversion turns into 8 bits.

    A conversion that takes temperatures gets those of a radiometric file, in Kelvin. Of a DJI file it gets the counts,
    unless it is a window: only DJI's Thermal SDK knows their temperatures, and a conversion must give the same with it
    and without. Both are enlarged to the size of the file's picture if that is a multiple, because masks are drawn on
    pictures. Samples of a TIFF are kept as they are stored, floats and numbers beyond 16 bits too; those without a
    measurement (the file's no-data value and the conversion's, NaN, infinities) are NaN. A conversion that inverts
    palettes gets the grey levels of a frame in their colours. All else is that of :func:`decode_image`.

    Args:
        data: The bytes of the file.
        name: For messages.
        conversion: What will be done with it.

    Returns:
        ``(H, W)`` or ``(H, W, 3)``, uint8, uint16 or float32.

    Raises:
        UnipError: As :func:`read_image`; a radiometric file cannot be read as temperatures; or a palette is to be
            inverted and the colours are of none that is known.
    """
    if conversion.takes_temperature:
        found = decode_radiometric(data, name)
        if found is not None:
            return _radiometric_samples(found, data, name, counts=conversion.method != "window")
    return treat_samples(_decode(data, name, as_stored=True), name, conversion)


def treat_samples(pixels: Pixels, name: Path | str, conversion: Conversion) -> Pixels:
    """Make samples without a measurement NaN, and colours of a palette grey, where a conversion wants it.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``.
        name: For messages.
        conversion: What will be done with them.

    Raises:
        UnipError: Nothing is measured, or the colours are of no palette that is known.
    """
    if conversion.nodata is not None:
        try:
            pixels = without_nodata(pixels, conversion.nodata)
        except UnipError as error:
            raise UnipError(
                f"image {name}: without {conversion.nodata:g} (nodata) it {error.what}", error.fix
            ) from None
    if conversion.palette == "keep" or pixels.dtype.kind != "u" or is_grey(pixels):
        return pixels
    return palette_to_grey(pixels, conversion.palette, name)


def _decode(data: bytes, name: Path | str, *, as_stored: bool) -> Pixels:
    if not data:
        raise UnipError(f"image {name} is empty (0 bytes)", "Copy it again or remove it.")
    try:
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            pixels = decode_tiff(data, as_stored=as_stored)
            if pixels is not None:
                return pixels
        with open_image(data) as image:
            picture = load_as_stored(image)
            if image.format == "PNG" and data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):
                return _colour_png16(picture)
            pixels = _from_pillow(picture)
            return pixels if as_stored or pixels.dtype == np.uint8 else to_16bit(pixels)
    except UnipError as error:
        raise UnipError(f"image {name}: {error.what}", error.fix) from None
    except UnidentifiedImageError:
        raise UnipError(f"{name} is not an image that can be read", "Use PNG, JPEG, WebP, TIFF or BMP files.") from None
    except Exception as error:  # on broken bytes the decoders raise nearly anything
        raise UnipError(f"image {name} is truncated or damaged ({error})", "Copy it again or remove it.") from error


def to_grey8(image: Pixels) -> Pixels8:
    """Turn an image into 8-bit grey by the default conversion: ``(H, W)`` uint8, see :func:`.conversion.grey8`."""
    return grey8(image)


def to_rgb8(image: Pixels) -> Pixels8:
    """Turn an image into 8-bit RGB for display: grey is repeated, 16 bits are stretched as in :func:`clip_to_uint8`.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    image8 = image if image.dtype == np.uint8 else to_uint8(image, luma(image))
    return image8 if image8.ndim == 3 else np.repeat(image8[..., None], 3, axis=2)


def read_image8(path: Path | str, conversion: Conversion = DEFAULT) -> Pixels8:
    """Read an image as a segmentation model sees it: :func:`to_image8` of :func:`read_samples`."""
    return to_image8(read_samples(path, conversion), conversion)


def to_image8(image: Pixels, conversion: Conversion = DEFAULT) -> Pixels8:
    """Turn samples into what a segmentation model sees: ``(H, W)`` uint8 if grey, else ``(H, W, 3)`` uint8 RGB.

    Grey images follow ``conversion``; colour images of more than 8 bits its method, but never its polarity.
    """
    if is_grey(image):
        return grey8(image, conversion)
    return image if image.dtype == np.uint8 else to_uint8(image, luma(image), conversion)


def read_grey8(path: Path | str, conversion: Conversion = DEFAULT) -> Pixels8:
    """Read an image as pre-training sees it: ``(H, W)`` uint8, see :func:`decode_samples` and ``grey8``."""
    return grey8(read_samples(path, conversion), conversion)


def is_grey(image: Pixels) -> bool:
    """Say whether an image has one channel, or three equal ones (within 2 levels of 8 bits, for lossy files)."""
    if image.ndim == 2:
        return True
    if image.dtype.kind == "f":
        return np.array_equal(image, np.broadcast_to(image[..., :1], image.shape), equal_nan=True)
    limit = GREY_SPREAD if image.dtype == np.uint8 else GREY_SPREAD * 257
    for part in (image[::8, ::8], image):  # a colour image shows it at once
        red, green, blue = (part[..., channel] for channel in range(3))
        low = np.minimum(np.minimum(red, green), blue)
        if (np.maximum(np.maximum(red, green), blue) - low).max(initial=0) > limit:
            return False
    return True


def _bytes(path: Path | str) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise UnipError(f"cannot read image {path}: {error.strerror or error}") from error


def read_kelvin(path: Path | str, size: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """Read the temperatures of a radiometric file, in Kelvin, at the size ``(H, W)`` at which its samples are read.

    Returns:
        float32 ``(H, W)``; None: the file is not radiometric, or its picture shows something else.

    Raises:
        UnipError: The file cannot be read, is damaged, or what knows its temperatures is not installed.
    """
    data = _bytes(path)
    found = decode_radiometric(data, path)
    if found is None:
        return None
    kelvin = _radiometric_samples(found, data, path, counts=False)
    return kelvin.astype(np.float32) if kelvin.shape == size else None


def _radiometric_samples(found: Radiometric, data: bytes, name: Path | str, *, counts: bool) -> Pixels:
    frame: Pixels = found.counts if counts and found.counts is not None else kelvin_of(found, data, name)
    (height, width), (tall, wide) = frame.shape, found.picture
    if (tall, wide) == (height, width) or tall % height or tall // height * width != wide:
        return frame  # a picture of another shape shows something else
    large = np.asarray(Image.fromarray(frame.astype(np.float32)).resize((wide, tall), Image.Resampling.BILINEAR))
    return np.rint(large).astype(np.uint16) if frame.dtype == np.uint16 else large


def _from_pillow(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return with_missing(np.asarray(image))
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("L"))
    return np.array(image.convert("RGB"))


def _colour_png16(image: Image.Image) -> Pixels:
    """Take the high bytes of 16-bit colour PNG, all that Pillow reads; refuse if counts of a sensor would be lost."""
    pixels = _from_pillow(image)
    if is_grey(pixels):
        raise UnipError(
            "holds 16-bit grey samples in a colour PNG, of which only 8 bits can be read",
            "Save it as 16-bit grey PNG or as TIFF.",
        )
    return pixels
