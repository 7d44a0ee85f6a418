"""TIFF with samples wider than 8 bits: every way of storing them gives the same counts, or is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.images.formats import open_image
from unip.data.images.orientation import load_as_stored
from unip.data.images.tiff_parts import refuse_missing_parts_of_page
from unip.errors import UnipError
from unip.limits import check_claim

Pixels = npt.NDArray[Any]  # (H, W) or (H, W, 3)

NO_DATA_TAG = 42113  # GDAL_NODATA, a text: the value of pixels without a measurement
REDUCED = 1  # bit of NewSubfileType: a smaller copy of another page
MASK = 4  # bit of it: a transparency mask
BEYOND_SPANS = 4.0  # distance from the percentiles, in spans between them, beyond which samples are cut to 16 bits
CUT_PERCENTILES = (0.5, 99.5)


def decode_tiff(data: bytes, *, as_stored: bool) -> Pixels | None:
    """Decode a TIFF whose samples are wider than 8 bits; None leaves the file to Pillow.

    Args:
        data: The file.
        as_stored: Keep the values of the samples: uint16 where they are integers that fit, else float32, in which
            samples that hold no measurement (the file's no-data value, NaN, infinities) are NaN. Otherwise uint16, see
            :func:`to_16bit`.

    Raises:
        UnipError: It is none that can be read without a doubt about its values.
    """
    import tifffile  # here: it takes as long to import as all else that reads images

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        refuse_several_pages(file)
        if page.dtype is None or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return None
        check_claim(page.imagelength * page.imagedepth, page.imagewidth, len(data), jpeg=False)
        refuse_doubtful_page(page)
        if page.dtype.itemsize == 1:
            if page.dtype.kind == "i":
                raise UnipError(
                    "holds signed 8-bit samples, which programs read in different ways",
                    "Save it with unsigned 8-bit or with 16-bit samples.",
                )
            return None
        refuse_missing_parts_of_page(page)
        pixels = _samples(page, data)
        no_data = no_data_of(page)
        white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        bits = int(page.bitspersample)
    pixels = _as_picture(pixels, page.axes)
    missing = None if no_data is None else missing_samples(pixels, no_data)
    if white_is_zero:
        if pixels.dtype.kind != "u":
            raise UnipError("holds signed or float samples of which zero is white", "Save it with zero as black.")
        pixels = (2**bits - 1) - pixels
    pixels = with_missing(pixels, missing)
    return np.ascontiguousarray(pixels if as_stored else to_16bit(pixels))


def with_missing(pixels: Pixels, missing: npt.NDArray[np.bool_] | None = None) -> Pixels:
    """Return samples as uint16 where they are integers that fit and all count, else as float32, NaN where they do not.

    Raises:
        UnipError: They are no integers and no floats, or none counts.
    """
    if pixels.dtype.kind not in "iuf":
        raise UnipError(f"holds samples of type {pixels.dtype}", "Save it with integer or float samples.")
    missing = np.zeros(pixels.shape, bool) if missing is None else missing
    if pixels.dtype.kind in "iu" and not missing.any() and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16)
    with np.errstate(over="ignore", invalid="ignore"):
        values = pixels.astype(np.float32)
    values[missing | ~np.isfinite(values)] = np.nan
    if not np.isfinite(values).any():
        raise UnipError("holds no finite sample", "Save it again from its source.")
    return values


def to_16bit(pixels: Pixels) -> npt.NDArray[np.uint16]:
    """Bring what :func:`with_missing` returns to uint16.

    Integers keep their value, or are shifted to begin at 0 if their range fits. All else is mapped linearly to 0..65535
    from the frame's minimum..maximum; samples further than four spans from the frame's percentiles (0.5 and 99.5) are
    cut, so that a single wild sample does not take the levels from all others. NaN becomes the minimum.
    """
    if pixels.dtype == np.uint16:
        return pixels
    finite = np.isfinite(pixels)
    counted = pixels[finite].astype(np.float64)
    smallest, largest = counted.min(), counted.max()
    if largest - smallest <= 65535 and (counted == np.rint(counted)).all():
        return np.where(finite, pixels - smallest, 0).astype(np.uint16)
    low, high = np.percentile(counted, CUT_PERCENTILES)
    span = high - low
    if span > 0:
        smallest, largest = max(smallest, low - BEYOND_SPANS * span), min(largest, high + BEYOND_SPANS * span)
    if smallest == largest:
        return np.zeros(pixels.shape, dtype=np.uint16)
    shares = (np.clip(np.where(finite, pixels, smallest), smallest, largest) - smallest) / (largest - smallest)
    counts: npt.NDArray[np.uint16] = np.rint(shares * 65535.0).astype(np.uint16)
    return counts


def refuse_several_pages(file: Any) -> None:
    """Refuse a file with several pictures, of which all but the first would be lost."""
    first: Any = file.pages[0]
    if len(file.pages) == 1:
        return
    pictures = sum(
        not (page.subfiletype & (REDUCED | MASK)) and page.shape[:2] == first.shape[:2] for page in file.pages
    )
    if pictures > 1:
        raise UnipError(f"holds {pictures} pages, of which one would be read", "Save each page as a file of its own.")


def refuse_doubtful_page(page: Any) -> None:
    """Refuse channels beyond grey and RGB that are no opacity: they may be another picture, such as the thermal one."""
    import tifffile

    colours = 3 if page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR) else 1
    extra = [int(kind) for kind in page.extrasamples]
    beyond = page.samplesperpixel - colours
    if page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE) and beyond == 2:
        return  # three channels without a word of their colours: RGB by any reader
    if beyond > 0 and (len(extra) < beyond or any(kind not in (1, 2) for kind in extra[:beyond])):
        if page.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB):
            return
        raise UnipError(
            f"has {page.samplesperpixel} channels, not grey or RGB: what is in the last {beyond} is not stated",
            "Save the channel to look at as a grey image of its own.",
        )


def _samples(page: Any, data: bytes) -> Pixels:
    try:
        pixels: Pixels = page.asarray()
    except (ValueError, ImportError) as error:  # it has no codec; which error says so depends on Python's version
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
    else:
        return pixels
    if page.samplesperpixel != 1 or (page.dtype.kind == "f" and page.dtype.itemsize != 4) or page.dtype.itemsize > 4:
        raise UnipError(
            f"TIFF compression {page.compression.name} of such samples needs one more package",
            "Install imagecodecs, or save the file uncompressed.",
        )
    with open_image(data) as image:  # it has the codec, and keeps up to 32 bits of one channel
        return np.asarray(load_as_stored(image)).astype(page.dtype, copy=False)


def _as_picture(pixels: Pixels, axes: str) -> Pixels:
    if pixels.ndim == 3 and axes.startswith("S"):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[-1] in (1, 2):
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[-1] == 4:
        pixels = pixels[..., :3]
    if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[-1] == 3):
        raise UnipError(f"has the shape {pixels.shape}, not grey or RGB", "Save one grey or RGB page.")
    return pixels


def no_data_of(page: Any) -> float | None:
    """Return the value that stands for no measurement, as the file says; None: it does not say.

    Raises:
        UnipError: It says something that is no number.
    """
    tag = page.tags.get(NO_DATA_TAG)
    if tag is None:
        return None
    text = str(tag.value).strip().strip("\0")
    try:
        return float(text)
    except ValueError:
        raise UnipError(f"its tag GDAL_NODATA is {text[:40]!r}, not a number", "Remove or correct the tag.") from None


def missing_samples(pixels: Pixels, no_data: float) -> npt.NDArray[np.bool_]:
    """Say which samples have the value that stands for no measurement, up to its digits in a text."""
    if pixels.dtype.kind == "f":  # the text may hold fewer or more digits than the samples
        value = pixels.dtype.type(no_data)
        close: npt.NDArray[np.bool_] = np.isclose(pixels, value, rtol=4 * float(np.finfo(pixels.dtype).eps), atol=0.0)
        return close
    return np.asarray(pixels == no_data)
