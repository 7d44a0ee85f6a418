"""Measures of fine detail, against frames whose answer is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.data.examination.made import frames
from unip.data.corruptions.optics import motion_kernel
from unip.data.examination.detail import power_spectrum, smear, smoothness
from unip.data.examination.image_quality import quantised, squares

SIZE = (192, 256)


def noise_frame() -> np.ndarray:
    return np.random.default_rng(0).normal(128, 20, SIZE).astype(np.float32)


def moved(image: np.ndarray, pixels: float, degrees: float) -> np.ndarray:
    """Convolve with the tail of a bolometer by Fourier transforms, which the measure does not do."""
    kernel, reach = motion_kernel(pixels, np.radians(degrees))
    wide = np.zeros(image.shape)
    wide[: len(kernel), : len(kernel)] = kernel
    wide = np.roll(wide, (-reach, -reach), (0, 1))
    return np.fft.irfft2(np.fft.rfft2(image) * np.fft.rfft2(wide), image.shape).astype(np.float32)


def test_smoothness_of_noise_of_edges_and_of_waves():
    down, right = np.indices(SIZE)
    edges = np.where((down // 24 + right // 24) % 2, 200, 50).astype(np.float32)
    waves = (128 + 50 * np.sin(right / 20) + 50 * np.sin(down / 20)).astype(np.float32)
    for image, expected in ((noise_frame(), 0.0), (edges, 1.0), (waves, 2.0)):
        power = power_spectrum(image)
        assert power is not None and smoothness(power) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 117, 160, 270])
def test_smear_of_movement_in_any_direction(degrees):
    power = power_spectrum(moved(noise_frame(), 3.5, degrees))
    # Steps between pixels, at slants, also blur across the movement, so that less stands out.
    assert power is not None and 0.55 < smear(power) < 1.25


def test_no_smear_without_movement():
    power = power_spectrum(noise_frame())
    assert power is not None and abs(smear(power)) < 0.1


def test_frames_too_small_or_without_detail():
    assert power_spectrum(np.zeros((40, 300), np.float32)) is None
    power = power_spectrum(np.full(SIZE, 90, np.float32))
    assert power is not None and np.isnan(smoothness(power)) and smear(power) == 0


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("crop", [(0, 0), (3, 5), (7, 1)])
def test_strong_compression_leaves_no_small_waves(crop):
    image = frames(1)[0]
    for quality, strong in ((18, True), (40, True), (90, False), (98, False)):
        levels = jpeg(image, quality)[crop[0] :, crop[1] :].astype(np.float32)
        assert (squares(levels)[1] > 0.95) == strong, quality
    assert squares(image.astype(np.float32))[1] < 0.9


def test_too_little_to_tell_compression_by():
    assert quantised(np.full((64, 64), 9, np.float32)) == 0
    assert quantised(np.zeros((5, 90), np.float32)) == 0
