"""Large files that are read in parts are the same images as those that are read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unip.data.images import blocks
from unip.data.images.blocks import is_large_file, large_counts, read_large
from unip.data.images.config import Conversion
from unip.data.images.counts import percentile
from unip.data.images.decoding import read_image8, read_samples
from unip.data.images.nodata import suspected_nodata, suspected_nodata_of_counts
from unip.errors import UnipError
from unip.limits import limited_to

RNG = np.random.default_rng(0)
COUNTS = RNG.normal(8000, 300, (133, 87)).astype(np.uint16)
BORDER = COUNTS.copy()
BORDER[:20] = 0
FRAMES = {
    "counts": COUNTS,
    "border": BORDER,
    "flat": np.full((133, 87), 700, np.uint16),
    "few levels": (COUNTS // 40).astype(np.uint16),
    "8 bits": RNG.integers(0, 255, (133, 87), dtype=np.uint8),
    "colour": RNG.integers(0, 255, (133, 87, 3), dtype=np.uint8),
    "grey in colour": np.repeat(RNG.integers(0, 255, (133, 87, 1), dtype=np.uint8), 3, axis=2),
}
STORED = {
    "rows": {},
    "strips": {"rowsperstrip": 16},
    "packed strips": {"compression": "zlib", "rowsperstrip": 16},
    "packed tiles": {"compression": "zlib", "predictor": True, "tile": (32, 32)},
    "big-endian": {"byteorder": ">"},
    "packed big-endian tiles": {"byteorder": ">", "compression": "zlib", "tile": (16, 48)},
    "BigTIFF": {"bigtiff": True},
    "with nodata": {"extratags": [(42113, "s", 2, "0", True)]},
}
CONVERSIONS = [
    Conversion(),
    Conversion(method="minmax"),
    Conversion(percentiles=(0, 100)),
    Conversion(method="plateau"),
    Conversion(method="window", window=(7800.5, 8200)),
    Conversion(nodata=0),
    Conversion(method="plateau", nodata=8000),
    Conversion(polarity="black-hot"),
]


@pytest.fixture(autouse=True)
def _all_is_large(monkeypatch):
    monkeypatch.setattr(blocks, "LARGE_PIXELS", 100)
    monkeypatch.setattr(blocks, "LARGE_BYTES", 10)
    monkeypatch.setattr(blocks, "ROW_BYTES", 2000)


def store(path: Path, frame: np.ndarray, how: str) -> Path:
    photometric = "rgb" if frame.ndim == 3 else "minisblack"
    tifffile.imwrite(path, frame, photometric=photometric, **STORED[how])
    return path


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("frame", FRAMES)
def test_tiff_in_parts_is_tiff_as_a_whole(tmp_path, frame, how):
    path = store(tmp_path / "a.tif", FRAMES[frame], how)
    assert is_large_file(path)
    for conversion in CONVERSIONS:
        found = read_large(path, conversion)
        assert found is not None
        np.testing.assert_array_equal(found.image, read_image8(path, conversion), err_msg=str(conversion))
        samples = read_samples(path, conversion)
        assert (found.sampled is None) == (samples.dtype == np.uint8)
        if found.sampled is not None:
            assert suspected_nodata_of_counts(found.sampled, conversion) == suspected_nodata(samples, conversion)
            assert found.is_complete == (samples.dtype == np.uint16)


@pytest.mark.parametrize("conversion", CONVERSIONS, ids=str)
def test_png_and_arrays_of_counts(tmp_path, conversion):
    Image.fromarray(BORDER).save(tmp_path / "a.png")
    wanted = read_image8(tmp_path / "a.png", conversion)
    for found in (read_large(tmp_path / "a.png", conversion), large_counts(BORDER, conversion)):
        assert found is not None
        np.testing.assert_array_equal(found.image, wanted)


def test_what_is_read_whole(tmp_path):
    """None: the ordinary reader takes it, or says what is wrong with it."""
    assert large_counts(COUNTS.astype(np.float32), Conversion()) is None
    assert large_counts(COUNTS[:2, :2], Conversion()) is None
    invert = Conversion(palette="invert")
    assert read_large(store(tmp_path / "c.tif", FRAMES["colour"], "strips"), invert) is None
    odd = {
        "float": {"data": COUNTS.astype(np.float32)},
        "signed": {"data": COUNTS.astype(np.int16)},
        "colour counts": {"data": np.repeat(COUNTS[..., None], 3, axis=2), "photometric": "rgb"},
        "white is zero": {"data": COUNTS, "photometric": "miniswhite"},
        "lzma": {"data": COUNTS, "compression": "lzma"},
    }
    for name, given in odd.items():
        tifffile.imwrite(tmp_path / "odd.tif", **given)
        assert read_large(tmp_path / "odd.tif", Conversion()) is None, name
    Image.fromarray(FRAMES["8 bits"]).save(tmp_path / "8.png")
    assert read_large(tmp_path / "8.png", Conversion()) is None


def test_what_is_damaged_is_refused(tmp_path):
    whole = store(tmp_path / "a.tif", COUNTS, "packed strips").read_bytes()
    for cut in (len(whole) // 2, len(whole) - 200):
        (tmp_path / "cut.tif").write_bytes(whole[:cut])
        with pytest.raises(UnipError, match=r"cut\.tif"):
            read_large(tmp_path / "cut.tif", Conversion())
    rows = store(tmp_path / "a.tif", COUNTS, "rows").read_bytes()
    (tmp_path / "cut.tif").write_bytes(rows[:-300])
    with pytest.raises(UnipError, match=r"cut\.tif"):
        read_large(tmp_path / "cut.tif", Conversion())
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(COUNTS)
        file.write(COUNTS)
    with pytest.raises(UnipError, match="holds 2 pages"):
        read_large(tmp_path / "two.tif", Conversion())
    store(tmp_path / "n.tif", np.zeros((90, 90), np.uint16), "with nodata")
    with pytest.raises(UnipError, match=r"n\.tif.*no finite sample"):
        read_large(tmp_path / "n.tif", Conversion())


def test_limits_are_of_parts(tmp_path):
    """A frame of more pixels than the limit can be read in parts, up to ten times as many."""
    path = store(tmp_path / "a.tif", COUNTS, "packed strips")
    with limited_to(16 * 87):
        assert read_large(path, Conversion()) is not None
        with pytest.raises(UnipError, match="more than"):
            read_image8(path)
    with limited_to(16 * 87 - 1), pytest.raises(UnipError, match="a strip or tile of it claims") as caught:
        read_large(path, Conversion())
    assert "--max-pixels 1392" in caught.value.fix
    rows = store(tmp_path / "b.tif", COUNTS, "rows")
    with limited_to(COUNTS.size // 10 + 1):
        assert read_large(rows, Conversion()) is not None
    with limited_to(COUNTS.size // 10 - 1), pytest.raises(UnipError, match="10 times --max-pixels"):
        read_large(rows, Conversion())
    Image.fromarray(COUNTS).save(tmp_path / "c.png")
    with limited_to(1000), pytest.raises(UnipError, match="more than") as caught:
        read_large(tmp_path / "c.png", Conversion())
    assert "save it as TIFF" in caught.value.fix


def test_percentiles_are_those_of_numpy():
    samples = RNG.integers(0, 40, 777) ** 2
    values, weights = np.unique(samples, return_counts=True)
    for percent in (0, 0.5, 12.34, 50, 99.5, 100):
        assert percentile(values, weights, percent) == np.percentile(samples.astype(np.uint16), percent)
