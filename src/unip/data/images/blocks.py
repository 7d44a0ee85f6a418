"""Large image files, read in parts: only their 8-bit image is held, whatever the depth of their samples.

TIFF of 8 or 16 bits is read by its strips or tiles, and an uncompressed one by rows. All other formats are decoded
whole (Pillow cannot do less), and 16-bit counts of them are converted in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from unip.data.images.config import Conversion
from unip.data.images.counts import COUNTS, Sampled, add_counts, convert, level_table
from unip.data.images.decoding import Pixels, Pixels8, decode_image_as_stored, to_image8
from unip.data.images.formats import FORMATS, open_image
from unip.data.images.nodata import EVERY
from unip.data.images.tiff import no_data_of, refuse_doubtful_page, refuse_several_pages
from unip.data.images.tiff_parts import refuse_missing_parts_of_page
from unip.errors import UnipError
from unip.limits import check_parts
from unip.opening import open_regular
from unip.paths import status

LARGE_PIXELS = 2**24  # of a frame, from where it is read in parts: its float32 copies would take 64 MiB each
LARGE_BYTES = 2**22  # of a file, below which its header is not looked at
ROW_BYTES = 2**24  # of a file that are read at once
TIFF_MARKS = FORMATS["TIFF"][1]

#: A part of a picture: its first row, its first column, and its samples ``(h, w)`` or ``(h, w, 3)``.
Block = tuple[int, int, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class LargeImage:
    """A large frame.

    Attributes:
        image: As a model sees it, uint8 ``(H, W)`` if it is grey, else ``(H, W, 3)``.
        sampled: What is kept of its counts; None: its samples have 8 bits.
        is_complete: Whether all its samples hold a measurement.
    """

    image: Pixels8
    sampled: Sampled | None = None
    is_complete: bool = True


def _is_small(path: Path) -> bool:
    """Say whether a file is too small for a large picture, without opening it; one that is not there is not small."""
    try:
        return status(path).st_size < LARGE_BYTES
    except OSError:  # who opens it says what is wrong
        return False


def is_large_file(path: Path) -> bool:
    """Say from its header whether a file holds a large picture; a file that cannot be read does not."""
    if _is_small(path):
        return False
    try:
        with open_regular(path) as file:
            with _tiff_page(file) as page:
                if page is not None:
                    return int(page.imagelength * page.imagewidth) > LARGE_PIXELS
            with open_image(file, of_any_size=True) as image:
                return image.height * image.width > LARGE_PIXELS
    except Exception:  # on broken bytes the decoders raise nearly anything; who reads the file says what is wrong
        return False


def read_large(path: Path, conversion: Conversion) -> LargeImage | None:
    """Read a large file as a segmentation model sees it, with little more memory than its 8-bit image takes.

    The image is that of :func:`unip.data.images.decoding.read_image8`.

    Args:
        path: The file.
        conversion: How counts become 8 bits.

    Returns:
        The frame; None: it is not large, or of a kind that is only read whole: floats, counts in colour, colours of a
        palette to turn back, compressions that tifffile alone cannot read, radiometric files.

    Raises:
        UnipError: It is damaged, or has more pixels than :func:`unip.limits.check_parts` allows.
    """
    if _is_small(path):
        return None
    try:
        with open_regular(path) as file:
            with _tiff_page(file) as page:
                if page is not None:
                    return _from_tiff(page, file, conversion)
            file.seek(0)
            if conversion.takes_temperature and file.read(2) == b"\xff\xd8":
                return None  # it may be radiometric
            with open_image(file) as image:
                if image.height * image.width <= LARGE_PIXELS or image.mode != "I;16":
                    return None
        return _from_counts(decode_image_as_stored(path), conversion)
    except UnipError as error:
        what = error.what if str(path) in error.what else f"image {path}: {error.what}"
        raise UnipError(what, error.fix) from None
    except OSError as error:
        raise UnipError(f"cannot read image {path}: {error.strerror or error}") from error
    except Exception as error:  # on broken bytes the decoders raise nearly anything
        raise UnipError(f"image {path} is truncated or damaged ({error})", "Copy it again or remove it.") from error


def large_counts(samples: npt.NDArray[Any], conversion: Conversion) -> LargeImage | None:
    """Convert a large array of counts; None: it is not large, or no uint16 ``(H, W)``.

    Raises:
        UnipError: No sample holds a measurement.
    """
    if samples.dtype != np.uint16 or samples.ndim != 2 or samples.size <= LARGE_PIXELS:
        return None
    return _from_counts(samples, conversion)


@contextmanager
def _tiff_page(file: BinaryIO) -> Iterator[Any]:
    """Open the first page of a TIFF; None: it is none."""
    file.seek(0)
    if not file.read(4).startswith(TIFF_MARKS):
        yield None
        return
    import tifffile  # here: it takes as long to import as all else that reads images

    file.seek(0)
    with tifffile.TiffFile(file) as opened:
        yield opened.pages[0]


def _from_tiff(page: Any, file: BinaryIO, conversion: Conversion) -> LargeImage | None:
    height, width = int(page.imagelength), int(page.imagewidth)
    if height * width <= LARGE_PIXELS or not _is_plain(page, conversion):
        return None
    refuse_several_pages(page.parent)
    refuse_doubtful_page(page)
    refuse_missing_parts_of_page(page)
    tall, wide = (int(side) for side in page.chunks[:2])
    check_parts(height, width, file.seek(0, 2), 1 if page.is_contiguous else tall * wide)
    if not page.is_contiguous and not _can_decode(page):
        return None
    if page.dtype.itemsize == 2:
        return _convert_parts(lambda: _blocks(page, file), (height, width), conversion, no_data_of(page))
    samples = np.zeros((height, width) if page.samplesperpixel == 1 else (height, width, 3), np.uint8)
    for top, left, block in _blocks(page, file):
        samples[top : top + len(block), left : left + block.shape[1]] = block
    return LargeImage(to_image8(samples, conversion))


def _is_plain(page: Any, conversion: Conversion) -> bool:
    """Say whether samples mean what they say: white is the largest, all bits are used, channels lie side by side."""
    import tifffile

    grey, colour = tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB
    plain = (
        page.dtype in (np.uint8, np.uint16) and page.bitspersample == 8 * page.dtype.itemsize and page.fillorder == 1
    )
    if not plain or page.imagedepth != 1:
        return False
    if page.samplesperpixel == 1:
        return bool(page.photometric == grey)
    kept = page.dtype == np.uint8 and conversion.palette == "keep" and page.planarconfig == 1
    return bool(kept and page.samplesperpixel == 3 and page.photometric == colour)


def _can_decode(page: Any) -> bool:
    """Say whether tifffile has what the compression of a page needs."""
    try:
        page.decode  # noqa: B018  # asks for the codecs
    except (ValueError, ImportError):
        return False
    return page.compression in (1, 8, 32946)  # none, deflate and its old number: all else is left to Pillow


def _blocks(page: Any, file: BinaryIO) -> Iterator[Block]:
    height, width, channels = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if page.is_contiguous:
        kind = page.dtype.newbyteorder(page.parent.byteorder)
        each = width * channels * kind.itemsize
        rows = max(1, ROW_BYTES // each)
        for top in range(0, height, rows):
            count = min(rows, height - top)
            file.seek(page.dataoffsets[0] + top * each)
            data = file.read(count * each)
            if len(data) < count * each:
                raise UnipError("ends before its picture does", "Copy it again or remove it.")
            block = np.frombuffer(data, kind).reshape(count, width, channels)
            yield top, 0, (block if channels == 3 else block[..., 0]).astype(page.dtype, copy=False)
        return
    for segment, place, _ in page.segments(maxworkers=1, buffersize=ROW_BYTES):
        top, left = int(place[2]), int(place[3])
        if segment is None:
            raise UnipError("lacks a strip or tile of its picture", "Copy it again or remove it.")
        block = segment[0, : height - top, : width - left]  # tiles reach beyond the picture
        yield top, left, block if channels == 3 else block[..., 0]


def _from_counts(samples: Pixels, conversion: Conversion) -> LargeImage | None:
    if samples.dtype != np.uint16 or samples.ndim != 2:
        return None
    height, width = samples.shape
    return _convert_parts(lambda: iter([(0, 0, samples)]), (height, width), conversion, None)


def _convert_parts(
    blocks: Callable[[], Iterator[Block]], size: tuple[int, int], conversion: Conversion, no_data: float | None
) -> LargeImage:
    """Convert counts that are read twice: to count them, and to convert them."""
    (height, width), missing = size, _missing_counts(no_data, conversion.nodata)
    histogram = np.zeros(COUNTS, np.int64)
    some = np.zeros((-(-height // EVERY), -(-width // EVERY)), np.uint16)
    sides = np.zeros((2, width), np.uint16), np.zeros((2, height), np.uint16)
    for top, left, block in blocks():
        add_counts(histogram, block)
        first, before = -top % EVERY, -left % EVERY
        part = block[first::EVERY, before::EVERY]
        row, column = (top + first) // EVERY, (left + before) // EVERY
        some[row : row + part.shape[0], column : column + part.shape[1]] = part
        _keep_border(block, top, left, size, sides)
    there = histogram.copy()
    there[missing] = 0
    table = level_table(there, conversion)
    table[missing] = table[np.flatnonzero(there)[0]]  # as grey8 does
    image = np.zeros(size, np.uint8)
    for top, left, block in blocks():
        convert(block, table, image[top : top + block.shape[0], left : left + block.shape[1]])
    border = np.concatenate([*sides[0], *sides[1]])
    kept = Sampled(there, border[~np.isin(border, missing)], some[~np.isin(some, missing)])
    return LargeImage(image, kept, not histogram[missing].any())


def _keep_border(
    block: npt.NDArray[Any],
    top: int,
    left: int,
    size: tuple[int, int],
    sides: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]],
) -> None:
    bottom, right = top + block.shape[0], left + block.shape[1]
    for index, (is_there, row) in enumerate(((top == 0, 0), (bottom == size[0], -1))):
        if is_there:
            sides[0][index, left:right] = block[row]
    for index, (is_there, column) in enumerate(((left == 0, 0), (right == size[1], -1))):
        if is_there:
            sides[1][index, top:bottom] = block[:, column]


def _missing_counts(*values: float | None) -> list[int]:
    """Return the counts that stand for no measurement."""
    return [int(value) for value in values if value is not None and value == int(value) and 0 <= value < COUNTS]
