"""Temperatures in radiometric JPEGs: files whose picture is for people and whose application segments hold the counts.

FLIR (APP1 segments that start with ``FLIR``): counts and the calibration are in the file, and ``flyr`` turns them into
Kelvin with the emissivity, distance and air that the camera was set to. Some DJI cameras with a FLIR core (Zenmuse XT2)
write such files too.

DJI (APP3 segments of a file whose maker is DJI, as of Zenmuse H20T and H20N, Mavic 2 and 3 Enterprise, Matrice 30T and
4T): all APP3 segments together are one frame of little-endian 16-bit counts. DJI does not document how they become
temperatures; its own Thermal SDK converts them (:mod:`unip.data.images.dji`), and without it there are counts and no
Kelvin. A formula in circulation, counts / 64 = Kelvin, is not used, as those who compared it with the SDK report
differences. The layout of the counts is the one that ExifTool (tag ThermalData) and GDAL (JPEG driver) read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import JpegImagePlugin

from unip.data.images.dji import Kelvin, dji_kelvin
from unip.data.images.formats import open_image
from unip.errors import UnipError
from unip.opening import read_regular

Counts = npt.NDArray[np.uint16]
Maker = Literal["FLIR", "DJI"]

MAKE = 271  # Exif tag
MAX_PICTURE_FACTOR = 4  # by which a picture may be larger than the frame of counts
MIN_FRAME_BYTES = 2 * 80 * 60  # bytes; less in APP3 is something else
MAX_RECORDS = 4096  # in a FLIR file; a camera writes about 14
DAMAGED_HINT = "Copy it again from the camera; editing software may have dropped them."
PLAUSIBLE_KELVIN = (50.0, 5000.0)  # Kelvin; a frame whose median lies outside was decoded wrongly


@dataclass(frozen=True)
class Radiometric:
    """What a radiometric file holds in addition to its picture.

    Attributes:
        maker: Whose format it is.
        kelvin: Temperatures, float32 ``(H, W)``; None where only the maker's software knows them.
        counts: Raw counts, uint16 ``(H, W)``; None where temperatures are there.
        picture: Height and width of the picture, often a multiple of the frame's.
    """

    maker: Maker
    kelvin: Kelvin | None
    counts: Counts | None
    picture: tuple[int, int]


def read_temperature(path: Path | str) -> Kelvin | None:
    """Read the temperatures of a radiometric file.

    Args:
        path: Any image file.

    Returns:
        Kelvin, float32 ``(H, W)`` at the sensor's size (the picture in the file may be larger), or None if the file is
        not radiometric.

    Raises:
        UnipError: The file cannot be read; it is radiometric but damaged; or what turns its counts into Kelvin, flyr or
            DJI's Thermal SDK, is missing.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise UnipError(f"cannot read image {path}: {error.strerror or error}") from error
    found = decode_radiometric(data, path)
    return None if found is None else kelvin_of(found, data, path)


def kelvin_of(found: Radiometric, data: bytes, name: Path | str) -> Kelvin:
    """Return the temperatures of what :func:`decode_radiometric` found in the bytes of a file.

    Raises:
        UnipError: They need DJI's Thermal SDK, and it is missing, cannot be loaded or refuses the file.
    """
    if found.kelvin is not None:
        return found.kelvin
    kelvin = dji_kelvin(data, name)
    if kelvin is None:
        raise UnipError(
            f"image {name} is a DJI R-JPEG: its counts can be read, but only DJI's Thermal SDK turns them into Kelvin",
            "Download and unpack DJI's SDK and run `unip data thermal-sdk FOLDER` once. Or convert the files to float "
            "TIFF with DJI's tools and give the window in their unit. Or use --conversion percentile, "
            "minmax or plateau with --radiometric.",
        )
    return _plausible(kelvin, name)


def decode_radiometric(data: bytes, name: Path | str) -> Radiometric | None:
    """Decode what the bytes of a file hold in addition to its picture; None if nothing. ``name`` is for messages.

    Raises:
        UnipError: It is radiometric but damaged, or flyr is missing.
    """
    found = _radiometric_segments(data)
    if found is None:
        return None
    maker, raw, picture = found
    if maker == "FLIR":
        return Radiometric(maker, _flir_kelvin(data, raw, name), None, picture)
    return Radiometric(maker, None, _dji_counts(raw, picture, name), picture)


def radiometric_maker(data: bytes) -> Maker | None:
    """Say from its headers alone whose radiometric format the bytes of a file are; None if it is not radiometric."""
    found = _radiometric_segments(data)
    return found[0] if found else None


def _radiometric_segments(data: bytes) -> tuple[Maker, bytes, tuple[int, int]] | None:
    """Return the maker, the first segment (FLIR) or all of them (DJI), and height and width of the picture."""
    if data[:2] != b"\xff\xd8":
        return None
    try:
        with open_image(data) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile):
                return None
            segments = [(str(kind), bytes(content)) for kind, content in image.applist]
            picture = (image.height, image.width)
            make = str(image.getexif().get(MAKE, ""))
    except Exception:  # whatever is wrong with it, decoding the picture will say
        return None
    flir = [content for kind, content in segments if kind == "APP1" and content.startswith(b"FLIR\0")]
    if flir:
        return "FLIR", flir[0], picture
    raw = b"".join(content for kind, content in segments if kind == "APP3")
    if len(raw) >= MIN_FRAME_BYTES and make.strip("\0 ").upper() == "DJI":
        return "DJI", raw, picture
    return None


def _flir_kelvin(data: bytes, first: bytes, name: Path | str) -> Kelvin:
    # its header: eight bytes of the segment, then FFF or AFF, and 28 bytes on the number of records
    if first[8:12] not in (b"FFF\0", b"AFF\0") or int.from_bytes(first[36:40], "big") > MAX_RECORDS:
        raise UnipError(f"the temperatures in image {name} are damaged", DAMAGED_HINT)  # flyr would search for hours
    try:
        import flyr
    except ImportError:
        raise UnipError(
            f"image {name} is a FLIR radiometric JPEG, and the package that reads its temperatures is missing",
            "pip install 'unip[thermal]'",
        ) from None
    for part in ("embedded_image", "thermal"):  # hand pictures inside the file to Pillow, which would try all formats
        if hasattr(flyr, part):
            getattr(flyr, part).Image = SimpleNamespace(open=open_image)
    try:
        with np.errstate(all="ignore"):  # counts below what the calibration allows give NaN
            kelvin = np.asarray(flyr.unpack(io.BytesIO(data)).kelvin, dtype=np.float32)
    except Exception as error:  # on broken bytes it raises nearly anything
        raise UnipError(
            f"the temperatures in image {name} are damaged or of an unknown kind ({error})", DAMAGED_HINT
        ) from error
    return _plausible(kelvin, name)


def _plausible(kelvin: Kelvin, name: Path | str) -> Kelvin:
    if (
        kelvin.ndim != 2
        or not np.isfinite(kelvin).any()
        or not PLAUSIBLE_KELVIN[0] <= np.nanmedian(kelvin) <= PLAUSIBLE_KELVIN[1]
    ):
        raise UnipError(f"the temperatures in image {name} make no sense", DAMAGED_HINT)
    return kelvin


def _dji_counts(raw: bytes, picture: tuple[int, int], name: Path | str) -> Counts:
    """Take the frame of counts: as large as the picture, or smaller by a whole factor (Matrice 4T: 2)."""
    for factor in range(1, MAX_PICTURE_FACTOR + 1):
        height, width = picture[0] // factor, picture[1] // factor
        if (height * factor, width * factor) == picture and 2 * height * width == len(raw):
            return np.frombuffer(raw, dtype="<u2").reshape(height, width).astype(np.uint16)
    raise UnipError(
        f"image {name} is a DJI R-JPEG of an unknown kind: {len(raw)} bytes of counts do not fit its picture of "
        f"{picture[1]}x{picture[0]}",
        "It may be truncated: copy it again. Or read its picture instead, without --radiometric and without a window.",
    )
