"""Radiometric JPEGs, on miniature files made here."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.images.radiometric_files import dji_jpeg, flir_jpeg, kelvin_of_counts
from unip.data.images import radiometric
from unip.data.images.config import Conversion
from unip.data.images.decoding import read_grey8, read_image, read_image8, read_samples
from unip.data.images.radiometric import decode_radiometric, radiometric_maker, read_temperature
from unip.errors import UnipError

COUNTS = (12000 + np.arange(60 * 80).reshape(60, 80)).astype(np.uint16)
PICTURE = np.dstack([np.full((60, 80), level, np.uint8) for level in (200, 90, 20)])  # colour-mapped
LARGE = np.repeat(np.repeat(PICTURE, 2, 0), 2, 1)
WINDOW = Conversion(method="window", window=(415, 430))


def needs_flyr() -> None:
    pytest.importorskip("flyr", reason="needs flyr, of the extra `thermal`")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("chunk", [60000, 3000])
def test_flir_temperatures_follow_the_radiometric_chain(tmp_path: Path, chunk: int) -> None:
    needs_flyr()
    path = write(tmp_path / "a.jpg", flir_jpeg(COUNTS, PICTURE, chunk))
    kelvin = read_temperature(path)
    assert kelvin is not None and kelvin.dtype == np.float32
    np.testing.assert_allclose(kelvin, kelvin_of_counts(COUNTS), atol=1e-3)
    np.testing.assert_array_equal(read_image(path), read_image8(path))  # the picture, as before
    assert read_image(path).ndim == 3


def test_window_and_other_conversions_of_a_flir_file(tmp_path: Path) -> None:
    needs_flyr()
    path = write(tmp_path / "a.jpg", flir_jpeg(COUNTS, PICTURE))
    kelvin = kelvin_of_counts(COUNTS)
    expected = np.clip((kelvin - 415) / 15 * 255, 0, 255)
    assert np.abs(read_grey8(path, WINDOW) - expected).max() <= 0.51
    stretched = (kelvin - kelvin.min()) / np.ptp(kelvin) * 255
    got = read_image8(path, Conversion(method="minmax", radiometric=True))
    assert np.abs(got - stretched).max() <= 0.51
    assert read_image8(path, Conversion(method="minmax")).ndim == 3  # not asked for


def test_temperatures_are_enlarged_to_the_picture(tmp_path: Path) -> None:
    needs_flyr()
    path = write(tmp_path / "a.jpg", flir_jpeg(COUNTS, LARGE))
    temperature = read_temperature(path)
    assert temperature is not None and temperature.shape == (60, 80)
    large = read_samples(path, WINDOW)
    assert large.shape == (120, 160) and large.dtype == np.float32
    np.testing.assert_allclose(large[1:-1:2, 1:-1:2], temperature[:-1, :-1], atol=1.0)
    other = write(tmp_path / "b.jpg", flir_jpeg(COUNTS, LARGE[:, :150]))  # of another shape: what it shows is unknown
    assert read_samples(other, WINDOW).shape == (60, 80)


def test_damaged_flir_files_are_refused(tmp_path: Path) -> None:
    needs_flyr()
    whole = flir_jpeg(COUNTS, PICTURE)
    at = whole.index(b"FFF\0")
    for broken in (
        whole[:at] + b"\xff" * 500 + whole[at + 500 :],
        whole.replace(b"FLIR\0\x01\x00\x00", b"FLIR\0\x01\x03\x01"),
        whole[: at + 3000],
    ):
        path = write(tmp_path / "a.jpg", broken)
        try:
            kelvin = read_temperature(path)
        except UnipError as error:
            assert "a.jpg" in error.what
        else:
            assert kelvin is None  # Pillow finds no whole segment: not even a JPEG
    hot = flir_jpeg(np.full((60, 80), 20, np.uint16), PICTURE)
    with pytest.raises(UnipError, match="make no sense"):
        decode_radiometric(hot, "hot.jpg")


def test_without_flyr_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flyr", None)
    path = write(tmp_path / "a.jpg", flir_jpeg(COUNTS, PICTURE))
    with pytest.raises(UnipError, match=r"unip\[thermal\]"):
        read_temperature(path)
    assert read_image8(path).shape == PICTURE.shape  # its picture needs no package


def test_what_flyr_gives_becomes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    given = np.full((60, 80), 300.0)
    fake = SimpleNamespace(unpack=lambda file: SimpleNamespace(kelvin=given))
    monkeypatch.setitem(sys.modules, "flyr", fake)
    found = decode_radiometric(flir_jpeg(COUNTS, LARGE), "a.jpg")
    assert found is not None and found.maker == "FLIR" and found.counts is None and found.picture == (120, 160)
    assert found.kelvin is not None and found.kelvin.dtype == np.float32
    np.testing.assert_array_equal(found.kelvin, given)


def test_dji_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radiometric, "dji_kelvin", lambda data, name: None)  # as where DJI's SDK is missing
    path = write(tmp_path / "a.jpg", dji_jpeg(COUNTS, PICTURE))
    found = decode_radiometric(path.read_bytes(), path)
    assert found is not None and found.maker == "DJI" and found.kelvin is None
    assert found.counts is not None
    np.testing.assert_array_equal(found.counts, COUNTS)
    conversion = Conversion(radiometric=True, method="minmax")
    np.testing.assert_array_equal(read_samples(path, conversion), COUNTS)
    assert np.abs(read_grey8(path, conversion) - (COUNTS - 12000.0) / 4799 * 255).max() <= 0.51
    for read in (read_temperature, lambda p: read_grey8(p, WINDOW)):
        with pytest.raises(UnipError, match="only DJI's Thermal SDK"):
            read(path)
    assert read_image8(path).shape == PICTURE.shape


def test_dji_frame_in_several_segments_and_a_larger_picture() -> None:
    counts = np.arange(200 * 240, dtype=np.uint16).reshape(200, 240)  # 96,000 bytes: two segments
    found = decode_radiometric(dji_jpeg(counts, np.zeros((400, 480, 3), np.uint8)), "a.jpg")
    assert found is not None and found.picture == (400, 480)
    assert found.counts is not None
    np.testing.assert_array_equal(found.counts, counts)


def test_dji_counts_of_another_size_are_refused() -> None:
    data = dji_jpeg(COUNTS, np.zeros((70, 80, 3), np.uint8))
    with pytest.raises(UnipError, match="9600 bytes of counts do not fit its picture of 80x70"):
        decode_radiometric(data, "a.jpg")


def test_the_maker_is_told_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flyr", None)  # an import of it fails
    assert radiometric_maker(flir_jpeg(COUNTS, PICTURE)) == "FLIR"
    assert radiometric_maker(dji_jpeg(COUNTS, PICTURE)) == "DJI"
    picture = io.BytesIO()
    Image.fromarray(PICTURE).save(picture, "JPEG")
    assert radiometric_maker(picture.getvalue()) is None
    assert radiometric_maker(b"\xff\xd8") is None


def test_other_files_are_not_radiometric(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, format="JPEG")
    assert decode_radiometric(file.getvalue(), "a.jpg") is None
    assert decode_radiometric(dji_jpeg(COUNTS, PICTURE, make="Canon"), "a.jpg") is None
    assert decode_radiometric(dji_jpeg(COUNTS[:8], PICTURE), "a.jpg") is None  # too little for a frame
    assert decode_radiometric(b"\xff\xd8\xff", "a.jpg") is None
    assert decode_radiometric(b"", "a.jpg") is None
    Image.fromarray(COUNTS).save(tmp_path / "a.png")
    assert read_temperature(tmp_path / "a.png") is None
    with pytest.raises(UnipError, match="cannot read image"):
        read_temperature(tmp_path / "none.jpg")


def test_a_window_sees_tiff_samples_as_stored(tmp_path: Path) -> None:
    celsius = np.linspace(-20, 60, 48, dtype=np.float32).reshape(6, 8)
    tifffile.imwrite(tmp_path / "a.tif", celsius)
    conversion = Conversion(method="window", window=(0, 40))
    np.testing.assert_array_equal(read_samples(tmp_path / "a.tif", conversion), celsius)
    assert np.abs(read_grey8(tmp_path / "a.tif", conversion) - np.clip(celsius / 40 * 255, 0, 255)).max() <= 0.51
    assert read_image(tmp_path / "a.tif").dtype == np.uint16  # as before
    tifffile.imwrite(tmp_path / "b.tif", (celsius * 100).astype(np.int16))
    assert read_samples(tmp_path / "b.tif", conversion).min() == -2000
