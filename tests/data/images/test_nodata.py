"""Samples without a measurement that no tag declares: left out where it is said, noticed where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT
from unip.data.images.decoding import read_image8, read_samples
from unip.data.images.nodata import suspected_nodata
from unip.data.synthetic.generator import generate_scene
from unip.errors import UnipError

RNG = np.random.default_rng(0)
SCENE = np.clip(RNG.normal(8000, 150, (64, 80)), 7300, 8700).astype(np.uint16)
SCENE[20:30, 20:30] += 600
INSIDE = np.s_[6:-6, 8:-8]
METHODS = [
    DEFAULT,
    Conversion(method="minmax"),
    Conversion(method="plateau"),
    Conversion(method="window", window=(7000, 9000)),
    Conversion(polarity="black-hot"),
]
KINDS = [
    ("png", np.uint16, 0),
    ("png", np.uint16, 65535),
    ("tif", np.uint16, 16383),
    ("tif", np.int16, -9999),
    ("tif", np.int32, -2147483648),
    ("tif", np.uint32, 2**32 - 1),
    ("tif", np.float32, -9999.0),
    ("tif", np.float32, float(np.finfo(np.float32).min)),
    ("tif", np.float64, 1e20),
    ("rgb.tif", np.uint16, 0),
]


def bordered(scene: np.ndarray, value: float) -> np.ndarray:
    framed = np.full_like(scene, value)
    framed[INSIDE] = scene[INSIDE]
    return framed


def save(path: Path, pixels: np.ndarray, kind: str, **options: object) -> Path:
    path = path.with_suffix(f".{kind}")
    if kind == "png":
        Image.fromarray(pixels).save(path)
    elif kind == "rgb.tif":
        tifffile.imwrite(path, np.repeat(pixels[..., None], 3, axis=2), photometric="rgb", **options)
    else:
        tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize("conversion", METHODS)
@pytest.mark.parametrize(("kind", "dtype", "value"), KINDS)
def test_the_scene_is_grey_as_if_it_had_no_border(tmp_path, kind, dtype, value, conversion):
    scene = SCENE.astype(dtype)
    if scene.dtype.kind == "f":
        scene += dtype(0.25)  # plateau equalisation counts whole numbers in another way
    path = save(tmp_path / "a", bordered(scene, value), kind)
    alone = save(tmp_path / "b", scene[INSIDE], kind)
    given = conversion.model_copy(update={"nodata": float(value)})
    grey = read_image8(path, given)
    np.testing.assert_allclose(grey[INSIDE].astype(int), read_image8(alone, conversion), atol=1)  # floats round
    if conversion.method == "window":
        return
    assert np.unique(grey[0]).tolist() == [255 if conversion.polarity == "black-hot" else 0]
    assert suspected_nodata(read_samples(path, conversion), conversion) == float(np.float32(value))
    assert suspected_nodata(read_samples(path, given), given) is None
    if conversion.method != "plateau":  # without it, the border takes the contrast
        assert read_image8(path, conversion)[INSIDE].std() < 0.5 * grey[INSIDE].std()


@pytest.mark.parametrize("side", ["top", "left", "corner", "rotated", "hole"])
@pytest.mark.parametrize("value", [0, 65535])
def test_any_place_of_it_is_noticed(side, value):
    frame = SCENE.copy()
    rows, columns = np.mgrid[:64, :80]
    places = {
        "top": rows < 5,
        "left": columns < 3,
        "corner": rows + columns < 30,
        "rotated": np.abs(rows - 32) + np.abs(columns - 40) > 42,
        "hole": np.hypot(rows - 32, columns - 40) < 24,
    }
    frame[places[side]] = value
    assert suspected_nodata(frame, DEFAULT) == value
    assert suspected_nodata(np.where(frame == value, np.nan, frame.astype(np.float32)), DEFAULT) is None


def flame() -> np.ndarray:
    frame = SCENE.copy()
    frame[30:42, 30:42] = 16383  # saturated
    return frame


def sky() -> np.ndarray:
    frame = SCENE.copy()
    frame[:20] = 7200  # clipped at the least that the camera measures, just below the scene
    return frame


def specks() -> np.ndarray:
    frame = SCENE.copy()
    frame[0, :3] = frame[10, 10] = 0
    return frame


@pytest.mark.parametrize("frame", [SCENE, flame(), sky(), specks(), (SCENE // 64).astype(np.uint8)])
def test_scenes_are_not_taken_for_it(frame):
    assert suspected_nodata(frame, DEFAULT) is None


def test_synthetic_counts_are_not_taken_for_it():
    for index in range(12):
        assert suspected_nodata(generate_scene(index, (96, 128)).thermal16, DEFAULT) is None


def test_a_window_does_not_care():
    window = Conversion(method="window", window=(7000, 9000))
    assert suspected_nodata(bordered(SCENE, 0), window) is None


def test_what_a_file_declares_is_left_out_beside_what_is_given(tmp_path):
    frame = bordered(SCENE.astype(np.float32), -9999.0)
    frame[:, :20] = -1.0
    path = save(tmp_path / "a", frame, "tif", extratags=[(42113, "s", 0, "-1", True)])
    assert suspected_nodata(read_samples(path), DEFAULT) == -9999
    both = read_samples(path, Conversion(nodata=-9999))
    np.testing.assert_array_equal(np.isnan(both), frame < 0)


def test_8_bit_frames_and_colours_keep_their_values(tmp_path):
    grey = (SCENE // 64).astype(np.uint8)
    np.testing.assert_array_equal(read_image8(save(tmp_path / "a", grey, "png"), Conversion(nodata=120)), grey)
    colours = np.stack([SCENE, SCENE // 2, SCENE // 3], axis=-1)
    colours[:8] = 0
    colours[20:, :, 0] = 0  # not all channels: a measurement
    tifffile.imwrite(tmp_path / "c.tif", colours, photometric="rgb")
    found = read_samples(tmp_path / "c.tif", Conversion(nodata=0))
    np.testing.assert_array_equal(np.isnan(found).all(axis=2), (colours == 0).all(axis=2))
    assert not np.isnan(found[8:]).any()


def test_a_frame_without_anything_else_is_refused(tmp_path):
    path = save(tmp_path / "a", np.zeros_like(SCENE), "png")
    with pytest.raises(UnipError, match=r"a\.png: without 0 \(nodata\) it holds no finite sample"):
        read_image8(path, Conversion(nodata=0))
    with pytest.raises(UnipError, match="nodata"):
        Conversion.make(nodata=float("nan"))
