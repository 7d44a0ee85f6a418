"""A long-wave microbolometer camera: blur, fixed-pattern and temporal noise, 14-bit counts, AGC to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unip.data.images.filters import Image32, blur, smooth
from unip.data.synthetic.weather import radiance

MAX_COUNTS = 2**14 - 1


@dataclass(frozen=True)
class Sensor:
    """A camera's properties.

    Args:
        responsivity: Counts per Kelvin at 300 K.
        offset: Counts for no radiance.
        blur: Standard deviation of the optics' point spread, pixels.
        netd: Temporal noise (noise-equivalent temperature difference at 300 K), Kelvin.
        column: Standard deviation of column offsets left by the correction, Kelvin.
        row: The same for rows.
        pixel: The same for single pixels.
        gain: Relative spread of the pixels' gain.
        shading: Kelvin by which the corners differ from the centre (the housing's own radiation).
    """

    responsivity: float = 40.0
    offset: float = 1200.0
    blur: float = 0.6
    netd: float = 0.05
    column: float = 0.03
    row: float = 0.015
    pixel: float = 0.03
    gain: float = 0.002
    shading: float = 0.2

    def counts(self, temperature: Any) -> Any:
        """Noiseless response, not yet rounded: proportional to radiance, rising with temperature.

        Args:
            temperature: Apparent temperature in Kelvin, any shape.
        """
        at_300 = (radiance(300.05) - radiance(299.95)) / 0.1
        return self.offset + self.responsivity * radiance(temperature) / at_300


def draw_sensor(rng: np.random.Generator) -> Sensor:
    """Choose a camera, from a good cooled-down one to a cheap one that needs its shutter."""
    worn = float(rng.uniform(0.4, 1.6))
    return Sensor(
        responsivity=float(rng.uniform(30, 60)),
        offset=float(rng.uniform(500, 2500)),
        blur=float(rng.uniform(0.4, 0.85)),
        netd=float(rng.uniform(0.03, 0.08)),
        column=0.022 * worn,
        row=0.012 * worn,
        pixel=0.03 * worn,
        gain=0.002 * worn,
        shading=float(rng.normal(0, 0.25)),
    )


def expose(temperature: Image32, sensor: Sensor, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Take one raw frame.

    Args:
        temperature: Apparent scene temperature in Kelvin, float32 (H, W).
        sensor: The camera.
        rng: Source of its fixed pattern and of the temporal noise.

    Returns:
        Counts between 0 and 16383, uint16 (H, W).
    """
    height, width = temperature.shape
    signal = blur(sensor.counts(temperature).astype(np.float32), sensor.blur)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    kelvin = np.asarray(0.5 * sensor.shading * (x * x + y * y), dtype=np.float32)
    # Stripes differ from pixel to pixel but also drift slowly over neighbouring columns.
    knots = np.arange(0, width + 16, 16)
    drift = np.interp(np.arange(width), knots, rng.standard_normal(len(knots)))
    columns = np.asarray(drift + rng.standard_normal(width), dtype=np.float32)
    kelvin = (
        kelvin
        + np.float32(sensor.column) * columns
        + np.float32(sensor.row) * rng.standard_normal((height, 1), dtype=np.float32)
    )
    # One frame shows the sum of what each pixel adds always and what it adds this time.
    noise = rng.standard_normal((2, height, width), dtype=np.float32)
    kelvin = kelvin + np.float32(np.hypot(sensor.pixel, sensor.netd)) * noise[0]
    gain = 1.0 + sensor.gain * noise[1]
    middle = signal.mean()
    raw = middle + gain * (signal - middle) + sensor.responsivity * kelvin
    return np.asarray(np.clip(np.rint(raw), 0, MAX_COUNTS), dtype=np.uint16)


def agc(
    counts: NDArray[np.uint16],
    *,
    plateau: float = 0.5,
    low: float = 0.5,
    high: float = 99.5,
    detail: float = 0.0,
    least: float = 150.0,
) -> NDArray[np.uint8]:
    """Automatic gain control: 14 bits to 8, white hot.

    Args:
        counts: Raw frame, uint16 (H, W).
        plateau: 0 stretches linearly between two percentiles; 1 equalises the histogram with its peaks cut
            off at a plateau, as thermal cores do; in between mixes both.
        low: Percentile that becomes black.
        high: Percentile that becomes white.
        detail: How much local contrast is raised over the smooth base of the frame.
        least: Counts that the full range of grey stands for at least, so that a frame without contrast
            does not become a picture of its noise.

    Returns:
        uint8 (H, W) that uses the whole range when the frame's contrast is more than ``least``; a constant
        frame is mid-grey.
    """
    bottom, top = np.percentile(counts, (low, high))
    missing = max(0.0, least - (top - bottom)) / 2
    bottom, top = bottom - missing, top + missing
    linear = np.clip((counts.astype(np.float32) - bottom) / (top - bottom), 0.0, 1.0).astype(np.float32)
    histogram = np.bincount((linear * 511).astype(np.int64).ravel(), minlength=512).astype(np.float64)
    histogram = np.minimum(histogram, 4.0 * counts.size / 512)
    curve = np.cumsum(histogram)
    curve = (curve - curve[0]) / max(curve[-1] - curve[0], 1e-9)
    mixed = (1 - plateau) * np.linspace(0, 1, 512) + plateau * curve
    grey = np.interp(linear, np.linspace(0, 1, 512), mixed).astype(np.float32)
    if detail > 0:
        grey = np.clip(grey + detail * (grey - smooth(grey, max(4.0, counts.shape[1] / 24))), 0.0, 1.0)
    return np.asarray(np.rint(grey * 255), dtype=np.uint8)
