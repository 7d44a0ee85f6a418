"""Each corruption does what its sensor model says."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from unip.data.corruptions import CORRUPTIONS
from unip.data.corruptions.corruption import LEVELS_PER_KELVIN
from unip.data.corruptions.detector import DEAD_ROWS, ROWS_TO_COLUMNS, dead_pixels, stripes, temporal_noise
from unip.data.corruptions.electronics import agc_pumping, jpeg, low_contrast, polarity, saturation
from unip.data.corruptions.optics import defocus, motion, motion_kernel, resolution
from unip.data.corruptions.weather import PATH_KM, fog, fog_extinction, rain, rain_extinction


@pytest.fixture
def rng():
    return np.random.default_rng(0)


FLAT = np.full((256, 320), 128, np.uint8)
POINT = np.zeros((41, 41), np.uint8)
POINT[20, 20] = 255
RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


def test_netd_in_kelvin(rng):
    noise = temporal_noise(FLAT, 0.4, rng).astype(float) - 128
    assert noise.std() == pytest.approx(0.4 * LEVELS_PER_KELVIN, rel=0.02)
    assert abs(noise.mean()) < 0.1


def test_stripes_are_columns_and_rows(rng):
    pattern = stripes(FLAT, 0.4, rng).astype(float) - 128
    columns, rows = pattern.mean(0), pattern.mean(1)
    assert columns.std() == pytest.approx(0.4 * LEVELS_PER_KELVIN, rel=0.15)
    assert rows.std() == pytest.approx(ROWS_TO_COLUMNS * 0.4 * LEVELS_PER_KELVIN, rel=0.15)
    rest = pattern - columns - rows[:, None] + pattern.mean()
    assert np.abs(rest).max() <= 1.5  # rounding


def test_dead_pixels_and_rows(rng):
    out = dead_pixels(FLAT, 0.04, rng)
    assert set(np.unique(out)) == {0, 128, 255}
    rows = (out != 128).all(1)
    assert rows.sum() == round(DEAD_ROWS * 0.04 * 256)
    assert (out[rows] == out[rows, :1]).all()
    assert (out[~rows] != 128).mean() == pytest.approx(0.04, rel=0.1)


def test_a_worse_camera_has_the_same_dead_pixels_and_more():
    image = FLAT.copy()
    few, many = (CORRUPTIONS["dead_pixels"](image, severity, 3) for severity in (2, 4))
    alone = ~(many != 128).all(1, keepdims=True) & (few != 128)  # not in a row that died later
    assert alone.any() and (few[alone] == many[alone]).all() and (many != 128).sum() > (few != 128).sum()


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.5, 4.0, 6.0])
def test_defocus_makes_a_disc(radius, rng):
    out = defocus(POINT, radius, rng)
    y, x = np.mgrid[-20:21, -20:21]
    inside = y * y + x * x <= radius * radius
    np.testing.assert_array_equal(out > 0, inside)
    assert set(np.unique(out)) == {0, round(255 / inside.sum())}
    np.testing.assert_array_equal(defocus(FLAT, radius, rng), FLAT)


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0, 4.4])
def test_motion_leaves_a_tail_about_the_object(angle):
    kernel, reach = motion_kernel(6.0, angle)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    along = math.sin(angle) * y + math.cos(angle) * x
    across = math.cos(angle) * y - math.sin(angle) * x
    assert (kernel * along).sum() == pytest.approx(0.0, abs=0.25)
    assert (kernel * along**2).sum() ** 0.5 == pytest.approx(4.9, rel=0.05)  # 6 without the end of the tail
    assert (kernel * along**3).sum() > 0  # a tail on one side
    assert (kernel * across**2).sum() < 0.5


def test_blurs_keep_flat_frames_and_the_mean(rng):
    for blurred in (motion(FLAT, 5.0, rng), resolution(FLAT, 3.0, rng)):
        np.testing.assert_array_equal(blurred, FLAT)


def test_resolution_leaves_no_finer_pattern(rng):
    board = (np.indices((64, 64)).sum(0) % 2 * 200).astype(np.uint8)
    assert np.ptp(resolution(board, 2.0, rng)) <= 1


def test_gain_and_polarity(rng):
    mean = RAMP.mean()
    assert np.abs(low_contrast(RAMP, 0.4, rng) - (mean + 0.4 * (RAMP - mean))).max() <= 0.5
    narrow = saturation(RAMP, 0.5, rng)
    assert np.abs(narrow - np.clip(127 + 2.0 * (RAMP - 127.0), 0, 255)).max() <= 0.5
    assert (narrow == 255).mean() == pytest.approx(0.25, abs=0.02)
    pumped = agc_pumping(RAMP, 4.0, rng)
    assert np.ptp(pumped) == pytest.approx(255 / 4, abs=1)
    np.testing.assert_array_equal(polarity(polarity(RAMP, 1.0, rng), 1.0, rng), RAMP)


def test_pumping_moves_the_frame_about():
    starts = [agc_pumping(RAMP, 5.0, np.random.default_rng(seed)).min() for seed in range(30)]
    assert min(starts) < 30 and max(starts) > 170


def test_jpeg_is_a_jpeg_of_that_quality(rng):
    image = rng.integers(0, 256, (40, 48), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=20)
    np.testing.assert_array_equal(jpeg(image, 20.0, rng), np.asarray(Image.open(buffer)))


def test_extinction_by_hand():
    assert fog_extinction(0.4) == pytest.approx(3.91 / 0.4)  # dense fog: the same in all bands
    assert fog_extinction(2.0) == pytest.approx(1.955 * (10.5 / 0.55) ** -0.66)
    assert fog_extinction(1.0) == pytest.approx(fog_extinction(1.0001), rel=1e-3)
    assert rain_extinction(25.0) == pytest.approx(9.303 * math.log(10) / 10, rel=1e-3)


def test_air_takes_contrast_and_adds_its_own_level(rng):
    scene = np.full((128, 160), 100, np.uint8)
    scene[60:68, 70:90] = 200
    wet = rain(scene, 25.0, rng)
    through = math.exp(-rain_extinction(25.0) * PATH_KM)
    assert np.median(wet[60:68, 70:90]) == pytest.approx(100 + 100 * through, abs=1)
    assert np.median(wet) == 100 and wet.min() == 90  # traces of drops
    misty = fog(scene, 0.65, rng)
    assert np.median(misty[:40]) == pytest.approx(100, abs=1)
    assert 110 < misty[60:68, 70:90].mean() < 180
