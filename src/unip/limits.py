"""What files and settings may ask for before memory is taken: pixels of a frame, sides, channels, counts.

The limit on pixels is one for the process. A verb sets it by its setting ``max_pixels`` while it runs, and worker
processes get that of their parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unip.errors import UnipError

MAX_PIXELS = 200_000_000  # width x height of a decoded frame, unless a verb is told otherwise
MORE_IN_PARTS = 10  # times as many pixels in a frame that is read by strips or tiles
MAX_SIDE = 16384  # pixels to which the side of an image is resized at most
MAX_CROP = 4096  # side of a crop or window, in pixels
MAX_TOKENS = 65536  # patches of a crop or window: attention compares each with all others
MAX_OVERLAP = 16  # windows that cover a pixel along an axis, at most
MAX_WIDTH = 8192  # channels
MAX_BATCH = 1_000_000
MAX_SCALE = 16  # by which frames are enlarged at most
MAX_COUNT = 2**31 - 1  # of steps, images, seeds
UNDOUBTED_PIXELS = 8_000_000  # up to which the size of the file is not asked: decoding takes little memory
PIXELS_PER_BYTE = 1032 * 8  # of a file at most: deflate packs 1032 bytes into one, each of eight black or white pixels
JPEG_PIXELS_PER_BYTE = 8 * 64  # each block of 8 x 8 pixels takes one bit at least
FORGED = "it may also be forged to exhaust memory"

_max_pixels = MAX_PIXELS


def max_pixels() -> int:
    """Return how many pixels a decoded frame may have."""
    return _max_pixels


def set_max_pixels(pixels: int) -> None:
    """Set the limit of this process, for worker processes that start; a verb uses :func:`limited_to`."""
    global _max_pixels
    _max_pixels = pixels


@contextmanager
def limited_to(pixels: int | None) -> Iterator[None]:
    """Set the limit while the body runs; None leaves it, so that a verb within another has that one's."""
    before = _max_pixels
    set_max_pixels(before if pixels is None else pixels)
    try:
        yield
    finally:
        set_max_pixels(before)


def check_pixels(height: int, width: int, what: str = "it") -> None:
    """Refuse a frame of more pixels than the limit.

    Args:
        height: In pixels, as a header, an annotation or a resizing says.
        width: The same.
        what: What claims it, for the message.

    Raises:
        UnipError: It has more, or no pixel at all.
    """
    if height < 1 or width < 1:
        raise UnipError(f"{what} claims a size of {width}x{height} pixels", f"It is damaged; {FORGED}.")
    if height * width > _max_pixels:
        raise UnipError(
            f"{what} claims {width}x{height}, more than {_max_pixels / 1e6:g} million pixels",
            f"If it is real, set --max-pixels {height * width}, split it into tiles, or save it as TIFF, which unip "
            f"predict reads in parts; {FORGED}.",
        )


def check_parts(height: int, width: int, size: int, part: int) -> None:
    """Refuse a frame that is read in parts.

    Only its 8-bit image and its mask are held whole, so it may have :data:`MORE_IN_PARTS` times as many pixels as other
    frames; its parts may not.

    Args:
        height: In pixels, as the header says.
        width: The same.
        size: Bytes of the file.
        part: Pixels of a part.

    Raises:
        UnipError: It or a part of it claims too much.
    """
    if height < 1 or width < 1 or part < 1 or height * width > size * PIXELS_PER_BYTE:
        raise UnipError(
            f"it claims {width}x{height}, {height * width / 1e6:.3g} million pixels in {size} bytes",
            f"Copy it again: it may be truncated; {FORGED}.",
        )
    if part > _max_pixels:
        raise UnipError(
            f"a strip or tile of it claims {part / 1e6:.4g} million pixels, more than {_max_pixels / 1e6:g}",
            f"Save it with smaller strips or tiles, or set --max-pixels {part}; {FORGED}.",
        )
    if height * width > MORE_IN_PARTS * _max_pixels:
        raise UnipError(
            f"it claims {width}x{height}, more than {MORE_IN_PARTS * _max_pixels / 1e6:g} million pixels, "
            f"{MORE_IN_PARTS} times --max-pixels",
            f"If it is real, set --max-pixels {-(-height * width // MORE_IN_PARTS)} or split it; {FORGED}.",
        )


def check_claim(height: int, width: int, size: int, *, jpeg: bool) -> None:
    """Refuse a frame of more pixels than the limit, or of many more than the bytes of its file can hold.

    Args:
        height: In pixels, as the header says.
        width: The same.
        size: Bytes of the file.
        jpeg: Whether it is JPEG.

    Raises:
        UnipError: It claims too much.
    """
    check_pixels(height, width)
    most = size * (JPEG_PIXELS_PER_BYTE if jpeg else PIXELS_PER_BYTE)
    if height * width > most and (jpeg or height * width > UNDOUBTED_PIXELS):  # of JPEG, the rest would become grey
        raise UnipError(
            f"it claims {width}x{height}, {height * width / 1e6:.3g} million pixels in {size} bytes",
            f"Copy it again: it may be truncated; {FORGED}.",
        )
