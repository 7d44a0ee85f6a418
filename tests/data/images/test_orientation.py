"""Every format and kind of samples is read as it is stored, whatever the orientation that the file states."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from unip.data.images.decoding import read_grey8, read_image
from unip.data.images.formats import open_image
from unip.data.images.orientation import ORIENTATION, as_shown, as_stored, orientation_of, stored_size
from unip.data.labelled.masks import MaskFile
from unip.data.labelled.pairs import read_channel

GREY = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
KINDS = {
    "png": (GREY, {}),
    "jpg": (GREY, {"quality": 100}),
    "webp": (RGB, {"lossless": True}),
    "tif": (GREY, {}),
    "rgb.tif": (RGB, {}),
    "lzw.tif": (RGB, {"compression": "tiff_lzw"}),
    "16.tif": (GREY.astype(np.uint16) * 300, {}),
    "16.lzw.tif": (GREY.astype(np.uint16) * 300, {"compression": "tiff_lzw"}),
}


def save(path: Path, pixels: np.ndarray, orientation: int, **options: object) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_stored(tmp_path: Path, kind: str, orientation: int) -> None:
    pixels, options = KINDS[kind]
    path = save(tmp_path / f"a.{kind}", pixels, orientation, **options)
    read = read_image(path)
    assert read.shape == pixels.shape
    np.testing.assert_allclose(read, pixels, atol=2 if kind == "jpg" else 0)
    assert read_grey8(path).shape == pixels.shape[:2]
    if pixels.ndim == 3:
        np.testing.assert_array_equal(read_channel(path, 1), pixels[..., 1])
    if kind == "tif":
        np.testing.assert_array_equal(MaskFile(path).read(), pixels)
    with open_image(path.read_bytes()) as image:
        assert (orientation_of(image), stored_size(image)) == (orientation, pixels.shape[:2])


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_wide_samples_whose_codec_pillow_has_are_those_stored(tmp_path: Path, orientation: int) -> None:
    deep = GREY.astype(np.uint16) * 300
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, deep, extratags=[(ORIENTATION, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_image(path), deep)


def test_turns_are_those_of_viewers_and_back() -> None:
    for orientation in range(1, 9):
        image = Image.fromarray(RGB)
        image.getexif()[ORIENTATION] = orientation
        shown = as_shown(RGB, orientation)
        np.testing.assert_array_equal(shown, np.asarray(ImageOps.exif_transpose(image)))
        np.testing.assert_array_equal(as_stored(shown, orientation), RGB)


def test_a_png_says_it_after_its_pixels_or_in_the_words_of_older_programs() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    plain, tagged = io.BytesIO(), io.BytesIO()
    Image.fromarray(GREY).save(plain, "PNG")
    Image.fromarray(GREY).save(tagged, "PNG", exif=exif)
    chunk = tagged.getvalue()[tagged.getvalue().index(b"eXIf") - 4 :]
    chunk = chunk[: 12 + int.from_bytes(chunk[:4], "big")]
    end = plain.getvalue().index(b"IEND") - 4
    late = plain.getvalue()[:end] + chunk + plain.getvalue()[end:]
    words = PngInfo()
    words.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>')
    other = PngInfo()
    other.add_text("Software", "of a camera")
    for info, expected in ((words, 6), (other, 1)):
        file = io.BytesIO()
        Image.fromarray(GREY).save(file, "PNG", pnginfo=info)
        assert orientation_of(open_image(file.getvalue())) == expected
    with open_image(late) as image:
        assert orientation_of(image) == 6
        np.testing.assert_array_equal(np.asarray(image), GREY)  # it can still be decoded
