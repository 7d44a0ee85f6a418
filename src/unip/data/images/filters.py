"""Blurs of images: a Gaussian, and a wide one by way of a small copy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Image32 = NDArray[np.float32]


def blur(image: Image32, sigma: float) -> Image32:
    """Convolve with a Gaussian, edges repeated.

    Args:
        image: Shape (H, W) or (H, W, C).
        sigma: Standard deviation in pixels.
    """
    radius = max(1, round(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        pad = [(radius, radius) if i == axis else (0, 0) for i in range(image.ndim)]
        wide = np.pad(image, pad, mode="edge")
        total = np.zeros_like(image)
        for i, weight in enumerate(kernel.tolist()):
            part = wide[i : i + image.shape[0]] if axis == 0 else wide[:, i : i + image.shape[1]]
            total += weight * part
        image = total
    return image


def smooth(image: Image32, pixels: float) -> Image32:
    """A wide blur by way of a small copy: area mean over about ``pixels``, then bicubic back, shape (H, W)."""
    height, width = image.shape
    small = (max(2, round(width / pixels)), max(2, round(height / pixels)))
    picture = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
