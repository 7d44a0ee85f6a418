"""What the air takes away: fog and rain.

Both follow the law of Beer and Lambert: of an object's radiance the share ``t = exp(-extinction * path)`` arrives, and
the air on the way radiates the rest at its own temperature. That is the contrast model of N. S. Kopeika, "A System
Engineering Approach to Imaging", SPIE Press, 1998. A frame says neither its distances nor the temperature of its air:
``PATH_KM`` is assumed for all of it, and the frame's median level for the air.
"""

from __future__ import annotations

import math

import numpy as np

from unip.data.corruptions.corruption import (
    LEVELS_PER_KELVIN,
    Grey8,
    Image32,
    clip_to_uint8,
    level_below,
    smooth_field,
)
from unip.data.images.filters import smooth

PATH_KM = 0.3  # km
FOG_SPREAD = 0.3  # spread of the density of fog over the frame
FORWARD = 0.3  # share of the scattered radiance that still arrives, from beside the object
GLOW_PIXELS = 32.0  # width of that, pixels
DROPS = 3e-5  # drops on a pixel for each mm/h
STREAK_PIXELS = 14  # length of a drop's trace, pixels
DROP_KELVIN = 0.4  # Kelvin by which its trace is colder than what is behind


def fog(image: Grey8, visibility: float, rng: np.random.Generator) -> Grey8:
    """Contrast lost to patchy fog, and the glow of what its droplets scatter forward.

    Sources: extinction from I. I. Kim, B. McArthur and E. Korevaar, "Comparison of laser beam propagation at 785 nm and
    1550 nm in fog and haze for optical wireless communications", Proc. SPIE 4214, 2001; glow from the aerosol transfer
    function of Kopeika (1998). Its patches, ``FORWARD`` and ``GLOW_PIXELS`` are assumptions.

    Args:
        image: ``(H, W)``.
        visibility: Distance at which 2 % of the visible contrast is left, km.
        rng: Of the frame.
    """
    patches = np.maximum(0.0, 1.0 + FOG_SPREAD * smooth_field(image.shape, rng))
    lost = 1.0 - np.exp(-fog_extinction(visibility) * PATH_KM * patches)
    air, seen = np.float32(level_below(image, 0.5)), image.astype(np.float32)
    return clip_to_uint8(seen + lost * (air - seen + np.float32(FORWARD) * (smooth(seen, GLOW_PIXELS) - air)))


def rain(image: Grey8, rate: float, rng: np.random.Generator) -> Grey8:
    """Contrast lost to rain, and the faint traces of drops near the camera.

    Source: the extinction of Rec. ITU-R P.1814, 2007; drops are large beside any infrared wavelength, which makes it
    the same in all bands. The traces' number, length and contrast are assumptions.

    Args:
        image: ``(H, W)``.
        rate: Of rain, mm/h.
        rng: Of the frame.
    """
    lost = np.float32(1.0 - math.exp(-rain_extinction(rate) * PATH_KM))
    air, seen = np.float32(level_below(image, 0.5)), image.astype(np.float32)
    return clip_to_uint8(
        seen + lost * (air - seen) - np.float32(DROP_KELVIN * LEVELS_PER_KELVIN) * _traces(image, rate, rng)
    )


def fog_extinction(visibility: float, wavelength: float = 10.5) -> float:
    """Return the extinction of fog, 1/km, by the model of Kim et al. (2001): 3.91 / V * (wavelength / 0.55) ** -q.

    q is 0 in dense fog, which is the same in all bands, V - 0.5 between 0.5 and 1 km, 0.16 V + 0.34 from there to 6 km.
    It was fitted to near infrared; its use at 10 micrometres is an extrapolation.

    Args:
        visibility: V, km, at most 6.
        wavelength: Micrometres.
    """
    size = max(0.0, visibility - 0.5) if visibility <= 1 else 0.16 * visibility + 0.34
    return 3.91 / visibility * math.pow(wavelength / 0.55, -size)


def rain_extinction(rate: float) -> float:
    """Return the extinction of rain, 1/km: 1.076 R ** 0.67 dB/km (Rec. ITU-R P.1814) for a rate R in mm/h."""
    return 1.076 * math.pow(rate, 0.67) * math.log(10.0) / 10.0


def _traces(image: Grey8, rate: float, rng: np.random.Generator) -> Image32:
    """Draw where drops have passed, 0 or 1; those of a weaker rain are among those of a stronger one."""
    height, width = image.shape
    slant = rng.uniform(-0.3, 0.3)
    drops = rng.random((height + STREAK_PIXELS, width + STREAK_PIXELS), dtype=np.float32) < rate * DROPS
    traces = np.zeros((height, width), bool)
    for row in range(STREAK_PIXELS):
        column = round(slant * row) + STREAK_PIXELS // 2
        traces |= drops[row : row + height, column : column + width]
    return traces.astype(np.float32)
