"""Miniature radiometric JPEGs, written by the published layouts (ExifTool's FLIR tags and DJI ThermalData)."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# Calibration of a camera, by its offset in the record of camera information
CAMERA: dict[int, tuple[str, float]] = {
    32: ("<f", 0.95),  # emissivity
    36: ("<f", 1.0),  # object distance, metres
    40: ("<f", 293.15),  # reflected temperature, Kelvin
    44: ("<f", 293.15),  # air
    48: ("<f", 293.15),  # window
    52: ("<f", 1.0),  # its transmission
    60: ("<f", 0.5),  # relative humidity
    88: ("<f", 17096.453),  # Planck R1
    92: ("<f", 1428.0),  # Planck B
    96: ("<f", 1.0),  # Planck F
    112: ("<f", 0.006569),  # air: alpha 1, alpha 2, beta 1, beta 2, X
    116: ("<f", 0.01262),
    120: ("<f", -0.002276),
    124: ("<f", -0.00667),
    128: ("<f", 1.9),
    776: ("<i", -55),  # Planck O
    780: ("<f", 0.04351538),  # Planck R2
}


def flir_jpeg(
    counts: npt.NDArray[np.uint16], picture: npt.NDArray[np.uint8], chunk: int = 60000, photo: bytes = b""
) -> bytes:
    """A FLIR radiometric JPEG: ``FFF`` with a record of raw counts and one of camera information, in APP1 segments.

    ``photo`` is an image file to embed, as of a second camera for visible light.
    """
    height, width = counts.shape
    raw = struct.pack("<HHH", 2, width, height).ljust(32, b"\0") + counts.astype("<u2").tobytes()
    camera = bytearray(1024)
    for offset, (kind, value) in CAMERA.items():
        struct.pack_into(kind, camera, offset, value)
    start = 64 + 8 * 32  # as in real files, some entries of the directory are free
    seen = struct.pack("<HHH", 2, width, height).ljust(32, b"\0") + photo
    end = start + len(raw) + len(camera)
    entries = [(1, 2, start, len(raw)), (32, 1, start + len(raw), len(camera)), (14, 1, end, len(seen))]
    head = b"FFF\0".ljust(20, b"\0") + struct.pack(">III", 100, 64, 8)
    directory = b"".join(
        struct.pack(">HHIIII", kind, sub, 100, i + 1, offset, length).ljust(32, b"\0")
        for i, (kind, sub, offset, length) in enumerate(entries if photo else entries[:2])
    )
    content = (head.ljust(64, b"\0") + directory).ljust(start, b"\0") + raw + bytes(camera) + seen
    pieces = [content[i : i + chunk] for i in range(0, len(content), chunk)]
    segments = [(1, b"FLIR\0\x01" + bytes([number, len(pieces) - 1]) + piece) for number, piece in enumerate(pieces)]
    return _with_segments(picture, segments)


def kelvin_of_counts(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Temperatures of the counts by the radiometric chain of R. P. Madding and ExifTool's forum, in float64."""
    value = {offset: number for offset, (_, number) in CAMERA.items()}
    emissivity, distance, reflected, air = value[32], value[36], value[40], value[44]

    def planck(kelvin: float) -> float:
        return value[88] / (value[780] * (math.exp(value[92] / kelvin) - value[96])) - value[776]

    celsius = air - 273.15
    water = value[60] * math.exp(1.5587 + 0.06939 * celsius - 0.00027816 * celsius**2 + 6.8455e-7 * celsius**3)
    way, root = math.sqrt(distance / 2), math.sqrt(water)
    passed = value[128] * math.exp(-way * (value[112] + value[120] * root))
    passed += (1 - value[128]) * math.exp(-way * (value[116] + value[124] * root))
    # air twice: before and behind a window that lets all through
    seen = counts / (emissivity * passed**2)
    seen = seen - (1 - passed) / (emissivity * passed) * planck(air) - (1 - emissivity) / emissivity * planck(reflected)
    seen = seen - (1 - passed) / (emissivity * passed**2) * planck(air)
    kelvin: npt.NDArray[np.float64] = value[92] / np.log(value[88] / (value[780] * (seen + value[776])) + value[96])
    return kelvin


def dji_jpeg(counts: npt.NDArray[np.uint16], picture: npt.NDArray[np.uint8], make: str = "DJI") -> bytes:
    """A DJI R-JPEG: raw counts over several APP3 segments."""
    raw = counts.astype("<u2").tobytes()
    exif = Image.Exif()
    exif[271] = make
    segments = [(3, raw[i : i + 65532]) for i in range(0, len(raw), 65532)]
    return _with_segments(picture, [(1, exif.tobytes()), *segments, (4, b"\xaa\x55\x12\x06" + bytes(60))])


def _with_segments(picture: npt.NDArray[np.uint8], segments: list[tuple[int, bytes]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=90)
    jpeg = file.getvalue()
    parts = [struct.pack(">BBH", 0xFF, 0xE0 + kind, len(content) + 2) + content for kind, content in segments]
    return jpeg[:2] + b"".join(parts) + jpeg[2:]
