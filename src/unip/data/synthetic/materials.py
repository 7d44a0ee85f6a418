"""The classes of the synthetic scenes and what their surfaces are made of."""

from __future__ import annotations

import numpy as np

from unip.data.synthetic.parts import Material
from unip.data.synthetic.weather import CELSIUS, Weather

SCENE_CLASSES: tuple[str, ...] = ("ground", "sky", "road", "building", "tree", "person", "vehicle")
SCENE_PALETTE: tuple[tuple[int, int, int], ...] = (
    (152, 130, 96),
    (120, 180, 230),
    (128, 64, 128),
    (90, 90, 100),
    (60, 140, 50),
    (220, 20, 60),
    (20, 60, 200),
)
GROUND, SKY, ROAD, BUILDING, TREE, PERSON, VEHICLE = range(7)

_Colours = tuple[tuple[float, float, float], ...]
_CLOTH: _Colours = ((0.03, 0.03, 0.04), (0.05, 0.07, 0.16), (0.35, 0.05, 0.05), (0.45, 0.43, 0.4), (0.08, 0.16, 0.08))
_CLOTH += ((0.25, 0.2, 0.12), (0.5, 0.35, 0.05), (0.15, 0.15, 0.17), (0.6, 0.6, 0.6), (0.1, 0.2, 0.35))
_PAINT: _Colours = ((0.6, 0.6, 0.6), (0.02, 0.02, 0.025), (0.3, 0.3, 0.32), (0.35, 0.03, 0.03), (0.03, 0.08, 0.3))
_PAINT += ((0.12, 0.12, 0.13), (0.7, 0.68, 0.62), (0.05, 0.15, 0.08), (0.5, 0.4, 0.05))
_WALLS: _Colours = ((0.35, 0.15, 0.1), (0.5, 0.42, 0.3), (0.45, 0.44, 0.42), (0.6, 0.56, 0.48), (0.25, 0.24, 0.23))
_WALLS += ((0.45, 0.28, 0.16), (0.3, 0.33, 0.36), (0.66, 0.64, 0.6))


def _pick(rng: np.random.Generator, colours: _Colours) -> tuple[float, float, float]:
    red, green, blue = colours[int(rng.integers(len(colours)))]
    shade = float(rng.uniform(0.75, 1.25))
    return red * shade, green * shade, blue * shade


def field_material(rng: np.random.Generator, weather: Weather) -> Material:
    """Open ground: grass, dry grass, soil, gravel or (in some winters) snow."""
    kind = rng.uniform()
    if weather.season == "winter" and kind < 0.35:
        return Material(GROUND, -1.5, 1.5, 4.0, 0.985, 0.75, 0.78, 0.83, 0.5, 0.06)
    if kind < 0.6:
        dry = float(rng.uniform(0.6, 1.0) if weather.season in ("winter", "autumn") else rng.uniform(0, 0.6))
        warmth = float(rng.uniform(-1.0, 0.5))
        return Material(
            GROUND, warmth, 5 + 7 * dry, 5.0, 0.98, 0.06 + 0.16 * dry, 0.12 + 0.08 * dry, 0.03 + 0.06 * dry, 0.8, 0.35
        )
    shade = float(rng.uniform(0.7, 1.2))
    warmth = float(rng.uniform(-0.5, 1.0)) + 0.4 * weather.stored
    return Material(GROUND, warmth, 15.0, 3.5, 0.95, 0.28 * shade, 0.22 * shade, 0.16 * shade, 0.7, 0.28)


def paving(rng: np.random.Generator, weather: Weather) -> Material:
    """Concrete slabs of sidewalks and yards (ground, not road)."""
    shade = float(rng.uniform(0.3, 0.5))
    warmth = weather.stored * float(rng.uniform(0.5, 1.0))
    return Material(GROUND, warmth, 13.0, 3.0, 0.95, shade, shade * 0.97, shade * 0.92, 0.5, 0.18)


def asphalt(rng: np.random.Generator, weather: Weather) -> Material:
    """Road surface: dark, hot in the sun, warm after sunset, now and then wet and then cold and shiny."""
    wet = weather.clouds > 0.6 and rng.uniform() < 0.3
    shade = float(rng.uniform(0.05, 0.14)) * (0.6 if wet else 1.0)
    warmth = (-0.5 if wet else 1.0) * weather.stored * float(rng.uniform(0.7, 1.3))
    return Material(ROAD, warmth, 19.0, 2.5, 0.92 if wet else 0.95, shade, shade, shade * 1.04, 0.42, 0.18)


def wall(rng: np.random.Generator, weather: Weather) -> Material:
    """Facade: brick, plaster, concrete or cladding."""
    red, green, blue = _pick(rng, _WALLS)
    dark = 1.0 - (red + green + blue) / 3
    leak = float(rng.uniform(0.0, 3.0)) if weather.air < CELSIUS + 15 else 0.0
    warmth = leak + weather.stored * float(rng.uniform(0.2, 1.0))
    return Material(BUILDING, warmth, 6 + 10 * dark, 2.5, 0.94, red, green, blue, 0.3, 0.15)


def roof(rng: np.random.Generator) -> Material:
    """Tiles, tar or metal: hot in the sun, cold at night; metal reflects the cold sky."""
    metal = rng.uniform() < 0.2
    red, green, blue = _pick(rng, ((0.3, 0.1, 0.06), (0.12, 0.12, 0.13), (0.3, 0.3, 0.3)))
    return Material(
        BUILDING, float(rng.uniform(-0.5, 2)), 20.0, 4.5, 0.6 if metal else 0.93, red, green, blue, 0.5, 0.25
    )


def window(rng: np.random.Generator, weather: Weather, lit: bool) -> Material:
    """Pane: warm from within when it is cold outside, and a mirror of a part of the sky."""
    inside = max(0.0, CELSIUS + 20 - weather.air) * float(rng.uniform(0.05, 0.3))
    shade = float(rng.uniform(0.03, 0.09))
    glow = float(rng.uniform(0.08, 0.3)) if lit else 0.0
    warmth = inside + float(rng.uniform(-0.8, 0.8))
    return Material(BUILDING, warmth, 3.0, 2.5, 0.86, shade, shade * 1.1, shade * 1.25, 0.1, 0.08, glow)


def leaves(rng: np.random.Generator, weather: Weather) -> Material:
    """Foliage: close to the air's temperature, whatever the sun and the sky do."""
    red, green, blue = 0.05, 0.11, 0.03
    if weather.season == "autumn" and rng.uniform() < 0.6:
        red, green, blue = float(rng.uniform(0.15, 0.35)), float(rng.uniform(0.1, 0.18)), 0.03
    shade = float(rng.uniform(0.6, 1.5))
    warmth = float(rng.uniform(-0.6, 1.2))
    return Material(TREE, warmth, 3.0, 1.2, 0.975, red * shade, green * shade, blue * shade, 1.1, 0.55)


def bark(rng: np.random.Generator, weather: Weather) -> Material:
    """Trunks and branches: slower to cool than leaves."""
    shade = float(rng.uniform(0.06, 0.16))
    warmth = 0.3 + 0.5 * weather.stored
    return Material(TREE, warmth, 7.0, 1.0, 0.95, shade, shade * 0.8, shade * 0.6, 0.5, 0.35)


def skin(weather: Weather) -> Material:
    """Bare skin: 34 degrees Celsius in mild air, less in the cold, since the blood withdraws."""
    temperature = min(34.5, 31.0 + 0.12 * (weather.air - CELSIUS))
    return Material(PERSON, temperature + CELSIUS - weather.air, 1.0, 0.0, 0.98, 0.42, 0.24, 0.17, 0.25, 0.06)


def cloth(rng: np.random.Generator, weather: Weather, thickness: float) -> Material:
    """Clothes: between the skin and the air; ``thickness`` 0 (thin) to 1 (down jacket)."""
    red, green, blue = _pick(rng, _CLOTH)
    share = 0.72 - 0.5 * thickness
    skin_warmth = skin(weather).warmth
    return Material(PERSON, share * skin_warmth, 5.0, 0.5, 0.95, red, green, blue, 0.5, 0.12)


def paint(rng: np.random.Generator) -> Material:
    """Car body: thin metal that follows sun and sky quickly and mirrors a little."""
    red, green, blue = _pick(rng, _PAINT)
    dark = 1.0 - (red + green + blue) / 3
    return Material(VEHICLE, 0.0, 7 + 16 * dark, 6.0, 0.9, red, green, blue, 0.15, 0.04)
