"""Image files, compared with what Pillow and tifffile say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.data.images.radiometric_files import dji_jpeg, flir_jpeg
from tests.fuzzing.checking import Reader
from tests.fuzzing.mutations import Change, change_head, change_jpeg, change_png, change_tiff
from unip.data.images.config import Conversion
from unip.data.images.decoding import read_image, read_image8, read_samples
from unip.data.labelled.masks import MaskFile
from unip.data.manifests.facts import read_facts
from unip.data.manifests.headers import read_header

RAMP = np.arange(24 * 32).reshape(24, 32)
GREY = (RAMP % 256).astype(np.uint8)
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
WIDE = (RAMP * 80).astype(np.uint16)
FLOAT = (RAMP / 7 - 20).astype(np.float32)
FLOAT[2, 3] = np.nan


def save(name: str, pixels: Any, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        Image.fromarray(pixels).save(folder / name, **options)
        return folder / name

    return make


def palette(folder: Path) -> Path:
    Image.fromarray(COLOUR).quantize(16).save(folder / "x.png")
    return folder / "x.png"


def tiff(pixels: Any, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        tifffile.imwrite(folder / "x.tif", pixels, **options)
        return folder / "x.tif"

    return make


def radiometric(data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "x.jpg").write_bytes(data)
        return folder / "x.jpg"

    return make


def read_all_ways(path: Path) -> Any:
    """Read the picture as every part of the program does."""
    read_facts(str(path))
    read_header(str(path).encode())
    read_image8(path)
    return read_image(path)


def check_pillow(path: Path, value: Any) -> None:
    with Image.open(path) as image:
        mode = image.mode
        deep = image.format == "PNG" and path.read_bytes()[24] == 16 and mode != "I;16"
        if mode == "1":
            expected = np.asarray(image.convert("L"))
        elif mode in ("L", "RGB", "I;16", "I;16B", "I;16L"):
            expected = np.asarray(image)
        elif mode == "LA":
            expected = np.asarray(image.convert("LA"))[..., 0]
        elif mode == "RGBA":
            expected = np.asarray(image)[..., :3]
        elif mode == "P":
            expected = np.asarray(image.convert("RGB"))
        else:
            return
    if not deep:
        assert value.shape == expected.shape, (value.shape, expected.shape, mode)
        np.testing.assert_array_equal(value, expected)


def check_tiff(path: Path, value: Any) -> None:
    """See that the values are those of tifffile or of Pillow, which differ on what a missing tag means."""
    try:
        with tifffile.TiffFile(path) as file:
            expected = file.pages[0].asarray()
            plain = file.pages[0].photometric in (1, 2) and not file.pages[0].tags.get("Orientation")
    except Exception:  # it reads less than Pillow, or stumbles over what both may pass over
        return
    if plain and expected.shape == value.shape and expected.dtype.kind in "biuf":
        expected = expected * 255.0 if expected.dtype == bool else expected  # as Pillow has pictures of one bit
        if not close(value, expected):
            with Image.open(path) as image:
                assert close(value, np.asarray(image.convert("L") if image.mode == "1" else image)), image.mode


def close(value: Any, expected: Any) -> bool:
    if value.shape != expected.shape:
        return False
    known = np.isfinite(value) & np.isfinite(expected.astype(np.float32))
    return np.allclose(value[known].astype(float), expected[known].astype(float), rtol=1e-7, atol=0)


def check_mask(path: Path, value: Any) -> None:
    with Image.open(path) as image:
        if image.mode in ("L", "P") or image.mode.startswith("I;16"):
            np.testing.assert_array_equal(value, np.asarray(image))


def read_samples_all_ways(path: Path) -> Any:
    read_all_ways(path)
    return read_samples(path)


def read_temperatures(path: Path) -> Any:
    read_facts(str(path))
    return read_samples(path, Conversion(radiometric=True))


def reader(make: Callable[[Path], Path], change: Change) -> Reader:
    return Reader(make, read_all_ways, change, check_pillow, lambda path: ["doctor", str(path.parent)])


READERS = {
    "PNG 8 bit": reader(save("x.png", GREY), change_png),
    "PNG 16 bit": reader(save("x.png", WIDE), change_png),
    "PNG RGB": reader(save("x.png", COLOUR), change_png),
    "PNG palette": reader(palette, change_png),
    "JPEG grey": reader(save("x.jpg", GREY), change_jpeg),
    "JPEG RGB": reader(save("x.jpg", COLOUR), change_jpeg),
    "WebP": reader(save("x.webp", COLOUR), change_head),
    "WebP lossless": reader(save("x.webp", COLOUR, lossless=True), change_head),
    "BMP": reader(save("x.bmp", COLOUR), change_head),
    **{
        f"TIFF {name}": Reader(
            make, read_samples_all_ways, change_tiff, check_tiff, lambda p: ["doctor", str(p.parent)]
        )
        for name, make in {
            "8 bit": tiff(GREY, photometric="minisblack"),
            "16 bit": tiff(WIDE, photometric="minisblack"),
            "float": tiff(FLOAT, photometric="minisblack"),
            "LZW": save("x.tif", GREY, compression="tiff_lzw"),
            "deflate, tiles": tiff(np.tile(WIDE, (2, 2)), compression="zlib", tile=(16, 16), photometric="minisblack"),
        }.items()
    },
    "FLIR JPEG": Reader(
        radiometric(flir_jpeg(WIDE, COLOUR)),
        read_temperatures,
        change_jpeg,
        command=lambda path: ["doctor", str(path.parent), "--radiometric"],
    ),
    "DJI JPEG": Reader(radiometric(dji_jpeg(WIDE, COLOUR)), read_temperatures, change_jpeg),
    "mask PNG": Reader(save("x.png", GREY % 3), lambda path: MaskFile(path).read(), change_png, check_mask),
}
