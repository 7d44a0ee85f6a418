"""What is no frame is refused with a way on; nothing is guessed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT
from unip.deployment.inputs import Inputs, Reader
from unip.errors import UnipError

GREY = np.arange(20 * 30).reshape(20, 30)


def read(item, unit=None):
    given, samples = Reader(DEFAULT, unit=unit).read(3, item)
    if given.problem is not None:
        raise given.problem
    return given, samples


@pytest.mark.parametrize(
    ("item", "unit", "what", "fix"),
    [
        (GREY / 600, None, "holds float64, and floats may be anything", 'unit="kelvin"'),
        (GREY.astype(np.float32), "kelvin", "reaches down to 0, which is too cold", 'unit="celsius"'),
        (GREY - 300.0, "celsius", "below the absolute zero", "NaN"),
        (np.full((4, 4), np.nan), "kelvin", "has no finite number", "measurements"),
        (GREY.astype(np.uint16), "kelvin", "unit='kelvin' is of floats, but it holds uint16", "counts"),
        (GREY - 5, None, "holds int64 of -5..594, which are no counts of 16 bits", 'unit="counts"'),
        (GREY * 1000, None, r"0\.\.599000, which are no counts", "float32"),
        (GREY > 5, None, "holds bool", "uint8"),
        (GREY.astype(complex), None, "holds complex128", "uint8"),
        (np.zeros((3, 20, 30), np.uint8), None, "shape 3x20x30, which is no image", "Channels come last"),
        (np.zeros((20, 30, 4), np.uint8), None, "shape 20x30x4", "Leave alpha out"),
        (np.zeros((2, 20, 30, 3), np.uint8), None, "shape 2x20x30x3", "list"),
        (np.zeros(30, np.uint8), None, "shape 30", r"\(H, W\)"),
        (np.zeros((0, 30), np.uint8), None, "has no pixels", "image"),
        (np.uint8(3), None, "a number", r"\(H, W\)"),
        (np.full((20, 30, 3), 300.0), "kelvin", "three channels of temperatures", "array"),
        (np.ma.masked_less(GREY, 5), None, "masked array of int64", "counts"),
        (torch.zeros(20, 30, 3, dtype=torch.uint8), None, "tensor of shape 20x30x3", "Channels come first"),
        (torch.zeros(20, 30, dtype=torch.bfloat16), "kelvin", "bfloat16", "float32"),
        (b"bytes", None, "is a bytes, which is no image", "path"),
        (7, None, "is a int, which is no image", "path"),
    ],
)
def test_refused(item, unit, what, fix):
    with pytest.raises(UnipError, match=what) as caught:
        read(item, unit)
    assert caught.value.what.startswith("frame 3 ") or caught.value.what.startswith("frame 3:")
    import re

    assert re.search(fix, caught.value.fix)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pillow_images_are_read_as_their_files(tmp_path, mode):
    picture = Image.fromarray((GREY % 256).astype(np.uint8))
    if mode in ("I;16", "I", "F"):
        picture = Image.fromarray(GREY.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    picture = picture.convert(mode) if mode not in ("I;16", "I", "F") else picture
    file = tmp_path / ("a.tif" if mode in ("CMYK", "I", "F") else "a.png")
    picture.save(file)
    given, _ = read(picture, "counts" if mode == "F" else None)
    of_file, _ = Reader(DEFAULT).read(0, file)
    assert of_file.problem is None
    np.testing.assert_array_equal(given.image, of_file.image)


def test_masked_and_missing_samples_are_left_out():
    frame = np.random.default_rng(0).uniform(20, 40, (20, 30))
    missing = frame.copy()
    missing[:5] = np.nan
    expected, _ = read(missing, "celsius")
    sentinel = np.where(np.isnan(missing), -9999, missing)
    masked = np.ma.masked_array(frame, np.isnan(missing))
    given = [
        read(masked, "celsius")[0],
        Reader(Conversion(nodata=-9999), unit="celsius").read(0, sentinel)[0],
        Reader(Conversion(nodata=-9999), unit="celsius").read(0, sentinel.astype(">f4"))[0],
    ]
    for each in given:
        np.testing.assert_array_equal(each.image, expected.image)
        np.testing.assert_allclose(each.kelvin, missing + 273.15, rtol=1e-6)
    counts, _ = Reader(Conversion(nodata=0)).read(0, np.where(np.isnan(missing), 0, missing * 100).astype(">u2"))
    assert np.abs(counts.image.astype(int) - expected.image).max() <= 2
    with pytest.raises(UnipError, match=r"frame 0: without 7 \(nodata\)"):
        raise Reader(Conversion(nodata=7)).read(0, np.full((4, 4), 7, np.uint16))[0].problem


def test_one_and_many(tmp_path):
    Image.fromarray(GREY.astype(np.uint8)).save(tmp_path / "a.png")
    batch = torch.zeros(2, 1, 20, 30, dtype=torch.uint8)
    pictures = {
        "file": (tmp_path / "a.png", False, 1),
        "folder": (tmp_path, True, 1),
        "array": (GREY, False, 1),
        "colours": (np.zeros((2, 3, 3), np.uint8), False, 1),
        "tensor": (batch[0], False, 1),
        "batch": (batch, True, 2),
        "list": ([GREY, tmp_path], True, 2),
        "nothing": ([], True, 0),
        "set": ({tmp_path / "a.png"}, True, 1),
    }
    for name, (given, are_many, count) in pictures.items():
        found = Inputs.of(given)
        assert (found.are_many, len(list(found.items))) == (are_many, count), name
    with pytest.raises(UnipError, match="no such folder or image"):
        Inputs.of([GREY, tmp_path / "b.png"])
