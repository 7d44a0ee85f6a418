"""TIFF: each way of storing a frame gives the pixels of its plain twin, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unip.data.images.config import Conversion
from unip.data.images.decoding import read_image, read_image8, read_samples
from unip.data.images.tiff import NO_DATA_TAG, to_16bit
from unip.data.labelled.masks import MaskFile
from unip.errors import UnipError

RNG = np.random.default_rng(0)
CELSIUS = (20 + 15 * RNG.random((40, 60)) + np.linspace(0, 5, 60)).astype(np.float32)
DEEP = RNG.integers(2000, 9000, (40, 60)).astype(np.uint16)
EIGHT = RNG.integers(0, 256, (40, 60)).astype(np.uint8)
RGB = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray, no_data: str | None = None, **more) -> Path:
    extra = [(NO_DATA_TAG, "s", 0, no_data, True)] if no_data is not None else []
    tifffile.imwrite(path, pixels, extratags=extra, **more)
    return path


STORED = {
    "big-endian": {"byteorder": ">"},
    "zlib": {"compression": "zlib"},
    "zlib with a predictor": {"compression": "zlib", "predictor": True},
    "tiled": {"tile": (16, 32)},
    "strips": {"rowsperstrip": 7},
    "BigTIFF": {"bigtiff": True},
}


@pytest.mark.parametrize("twin", [CELSIUS, DEEP, EIGHT, RGB], ids=["float", "16 bits", "8 bits", "rgb"])
@pytest.mark.parametrize("how", STORED)
def test_ways_of_storing_give_the_plain_twin(tmp_path, twin, how):
    options = STORED[how] | {"photometric": "rgb" if twin.ndim == 3 else "minisblack"}
    try:
        write(tmp_path / "a.tif", twin, **options)
    except (ValueError, KeyError, RuntimeError) as error:
        assert "imagecodecs" in str(error) or isinstance(error, KeyError)
        pytest.skip(f"tifffile cannot write it here: {error}")
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif"), twin)


@pytest.mark.parametrize("twin", [DEEP, EIGHT, RGB, CELSIUS], ids=["16 bits", "8 bits", "rgb", "float"])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
def test_compressed_by_other_programs(tmp_path, twin, compression):
    try:
        Image.fromarray(twin).save(tmp_path / "a.tif", compression=compression)
    except Exception as error:  # whatever libtiff of this machine lacks
        pytest.skip(f"Pillow cannot write it here: {error}")
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif"), twin)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_declared_value_is_no_data_also_in_compressed_files(tmp_path, compression):
    frame = CELSIUS.copy()
    frame[:, :4] = -9999
    image = Image.fromarray(frame)
    tags = {NO_DATA_TAG: "-9999"}
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo=tags)
    found = read_samples(tmp_path / "a.tif")
    assert np.isnan(found[:, :4]).all()
    np.testing.assert_array_equal(found[:, 4:], CELSIUS[:, 4:])


def test_white_is_zero_is_the_whole_scale_turned_round(tmp_path):
    for twin, top in ((DEEP, 65535), (EIGHT, 255)):
        write(tmp_path / "a.tif", top - twin, photometric="miniswhite")
        np.testing.assert_array_equal(read_samples(tmp_path / "a.tif"), twin)
    write(tmp_path / "a.tif", CELSIUS, photometric="miniswhite")
    with pytest.raises(UnipError, match="zero is white"):
        read_samples(tmp_path / "a.tif")


def test_planes_apart(tmp_path):
    for twin in (RGB, RGB.astype(np.uint16) * 200):
        planes = np.ascontiguousarray(twin.transpose(2, 0, 1))
        write(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
        np.testing.assert_array_equal(read_samples(tmp_path / "a.tif"), twin)


def test_signed_8_bits_are_refused(tmp_path):
    write(tmp_path / "a.tif", (EIGHT.astype(int) - 128).astype(np.int8), photometric="minisblack")
    with pytest.raises(UnipError, match="signed 8-bit"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra, channels", [("unspecified", 4), ("unspecified", 2), ("unassalpha", 4)])
def test_a_channel_is_opacity_only_where_the_file_says_so(tmp_path, depth, extra, channels):
    pixels = RNG.integers(0, 255, (40, 60, channels)).astype(depth)
    photometric = "rgb" if channels == 4 else "minisblack"
    write(tmp_path / "a.tif", pixels, photometric=photometric, extrasamples=[extra], planarconfig="contig")
    if extra == "unassalpha":
        np.testing.assert_array_equal(read_samples(tmp_path / "a.tif"), pixels[..., :3])
    else:
        with pytest.raises(UnipError, match=f"has {channels} channels"):
            read_samples(tmp_path / "a.tif")


def test_several_pages_are_refused_but_not_smaller_copies(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(DEEP, photometric="minisblack")
        file.write(DEEP[::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif"), DEEP)
    for twin in (DEEP, EIGHT):
        write(tmp_path / "b.tif", np.stack([twin, twin, twin]), photometric="minisblack")
        with pytest.raises(UnipError, match="holds 3 pages"):
            read_samples(tmp_path / "b.tif")


# samples that do not count

BAD = {
    "one wild pixel": (lambda a: a.__setitem__((0, 0), -3.4e38), None),
    "one glowing pixel": (lambda a: a.__setitem__((0, 0), 1e6), None),
    "NaN": (lambda a: a.__setitem__((0, 0), np.nan), None),
    "infinity": (lambda a: a.__setitem__((0, 0), -np.inf), None),
    "declared border": (lambda a: a.__setitem__((slice(None), slice(4)), -9999), "-9999"),
    "declared float32 minimum": (
        lambda a: a.__setitem__((slice(None), slice(4)), -3.4028235e38),
        "-3.40282346638529e+38",
    ),
    "declared nan": (lambda a: a.__setitem__((slice(None), slice(4)), np.nan), "nan"),
}


@pytest.mark.parametrize("method", ["percentile", "plateau"])
@pytest.mark.parametrize("bad", BAD)
def test_bad_samples_change_no_other(tmp_path, bad, method):
    change, no_data = BAD[bad]
    frame = CELSIUS.copy()
    change(frame)
    rule = Conversion(method=method)
    border = 4 if bad.startswith("declared") else 0
    write(tmp_path / "good.tif", CELSIUS[:, border:])
    write(tmp_path / "bad.tif", frame, no_data)
    good, found = read_image8(tmp_path / "good.tif", rule), read_image8(tmp_path / "bad.tif", rule)
    off = np.abs(good.astype(int) - found[:, border:]).ravel()
    assert not off.any() if border else off[1:].max() <= 1
    assert len(np.unique(found)) > 150


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.uint32])
def test_declared_no_data_of_integers(tmp_path, dtype):
    frame = DEEP.astype(dtype)
    frame[:, :4] = 7
    found = read_samples(write(tmp_path / "a.tif", frame, "7"))
    assert np.isnan(found[:, :4]).all() and found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 4:], DEEP[:, 4:])


def test_a_window_never_sees_no_data_as_cold(tmp_path):
    frame = CELSIUS.copy()
    frame[:, :4] = -9999
    write(tmp_path / "a.tif", frame, "-9999")
    found = read_image8(tmp_path / "a.tif", Conversion(method="window", window=(15, 45)))
    least = np.rint((CELSIUS[:, 4:].min() - 15) * 255 / 30)
    assert np.abs(found[:, :4].astype(float) - least).max() <= 1


def test_a_tag_that_is_no_number(tmp_path):
    with pytest.raises(UnipError, match="GDAL_NODATA is 'none'"):
        read_samples(write(tmp_path / "a.tif", DEEP, "none"))


def test_wide_integers_are_not_stretched_between_their_extremes(tmp_path):
    frame = DEEP.astype(np.int32)
    frame[0, 0] = -(2**31)
    found = read_image8(write(tmp_path / "a.tif", frame))
    plain = read_image8(write(tmp_path / "b.tif", DEEP))
    assert np.abs(found.astype(int) - plain).ravel()[1:].max() <= 1


def test_16_bits_of_floats_keep_the_frame_not_the_wild_sample():
    plain = to_16bit(CELSIUS)
    low, high = float(CELSIUS.min()), float(CELSIUS.max())
    np.testing.assert_allclose(plain, (CELSIUS.astype(float) - low) / (high - low) * 65535, atol=1)
    wild = CELSIUS.copy()
    wild[0, 0] = -3.4e38
    assert len(np.unique(to_16bit(wild))) > 0.9 * len(np.unique(plain))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("options", [{"rowsperstrip": 4}, {"tile": (16, 16)}])
def test_a_tiff_that_lists_fewer_parts_than_its_picture_needs_is_refused(tmp_path, dtype, options):
    """Pillow and tifffile leave black what is not listed."""
    pixels = (np.arange(24 * 32).reshape(24, 32) % 200).astype(dtype)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_samples(path), pixels)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages[0].tags
        for name in ("StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts"):
            if name in tags:
                tags[name].overwrite(tags[name].value[:1])
    with pytest.raises(UnipError, match=r"lists 1 of the [46] strips or tiles"):
        read_samples(path)
    if dtype == np.uint8:
        with pytest.raises(UnipError, match=r"lists 1 of the [46] strips or tiles"):
            MaskFile(path).read()
