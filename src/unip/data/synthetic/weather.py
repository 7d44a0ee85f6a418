"""The air, the sun and the sky of a synthetic scene, and thermal radiance in the 8-14 micrometre band."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELSIUS = 273.15
# Second radiation constant over an effective wavelength of 10.5 um: Planck's law at one wavelength stands
# in for the integral over a microbolometer's band.
SPECTRAL = 14387.77 / 10.5


def radiance(temperature: Any) -> Any:
    """Black-body radiance at 10.5 um (Planck, arbitrary unit) for a temperature in Kelvin."""
    return 1.0 / np.expm1(SPECTRAL / temperature)


def brightness(value: Any) -> Any:
    """Temperature in Kelvin of the black body with that :func:`radiance`: its inverse."""
    return SPECTRAL / np.log1p(1.0 / value)


@dataclass(frozen=True)
class Weather:
    """What surrounds the objects.

    Args:
        season: One of winter, spring, summer, autumn.
        night: No sun; lamps are on.
        air: Air temperature in Kelvin.
        sun: Direction to the sun, unit length, shape (3,).
        sunshine: Direct sun between 0 (night, overcast) and 1.
        clouds: Cloud cover between 0 and 1.
        cloud_base: Temperature of the clouds in Kelvin.
        sky_depth: Optical depth of the clear sky at the zenith (water vapour), in the band.
        extinction: Attenuation by the air near the ground in 1/m, in the band.
        haze: Attenuation of visible light in 1/m.
        stored: Heat kept by streets and walls since the day, Kelvin.
    """

    season: str
    night: bool
    air: float
    sun: NDArray[np.float64]
    sunshine: float
    clouds: float
    cloud_base: float
    sky_depth: float
    extinction: float
    haze: float
    stored: float

    @property
    def clear(self) -> float:
        """How freely a surface radiates to space: 1 under a clear sky, 0.1 under a closed one."""
        return 1.0 - 0.9 * self.clouds

    def sky_radiance(self, elevation: Any, cloud: Any) -> Any:
        """Radiance of the sky.

        The clear sky is air that fills the path with an opacity growing with its length (1 / sin of the
        elevation), in front of space; a cloud is a nearly black body behind half of that air.

        Args:
            elevation: Sine of the elevation above the horizon, any shape.
            cloud: Cloud opacity between 0 and 1, same shape.
        """
        path = self.sky_depth / np.maximum(elevation, 0.015)
        clear = np.exp(-path)
        before_cloud = np.exp(-0.5 * path)
        air, space = radiance(self.air - 2.0), radiance(195.0)
        blue = air + (space - air) * clear
        white = air + (radiance(self.cloud_base) - air) * before_cloud
        return blue + (white - blue) * cloud

    def sky_mean(self) -> float:
        """Radiance of the whole upper half space, as a level surface receives it."""
        return float(self.sky_radiance(0.6, self.clouds))


def draw_weather(rng: np.random.Generator) -> Weather:
    """Choose hour, season and sky; temperatures are those of a temperate climate."""
    season = str(rng.choice(["winter", "spring", "summer", "autumn"]))
    hour = float(rng.uniform())
    night = hour < 0.45
    dusk = not night and hour < 0.58
    low, high = {"winter": (-8, 6), "spring": (6, 18), "summer": (17, 31), "autumn": (3, 16)}[season]
    air = CELSIUS + rng.uniform(low, high) - (5.0 if night else 2.0 if dusk else 0.0)
    clouds = float(np.clip(rng.beta(0.7, 0.9), 0.0, 1.0))
    elevation = math.radians(rng.uniform(3, 12) if dusk else rng.uniform(18, 38 if season == "winter" else 62))
    azimuth = rng.uniform(0, 2 * math.pi)
    sun = np.array(
        [
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
            math.cos(elevation) * math.cos(azimuth),
        ]
    )
    strength = 0.0 if night else (0.3 if dusk else 1.0) * (1.0 - 0.95 * clouds**1.5)
    foggy = rng.uniform() < 0.1
    return Weather(
        season=season,
        night=night,
        air=float(air),
        sun=sun,
        sunshine=float(strength),
        clouds=clouds,
        cloud_base=float(air - rng.uniform(6, 22)),
        sky_depth=float(rng.uniform(0.25, 0.6) + (0.4 if season == "summer" else 0.0)),
        extinction=float(rng.uniform(2e-3, 8e-3) if foggy else rng.uniform(1e-4, 6e-4)),
        haze=float(rng.uniform(8e-3, 3e-2) if foggy else rng.uniform(3e-4, 3e-3)),
        stored=float(rng.uniform(1.0, 5.0) if night else rng.uniform(0.5, 3.0)),
    )
