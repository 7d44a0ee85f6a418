"""Buildings of a synthetic scene: rows of bays with window grids, flat or pitched roofs, chimneys and vents."""

from __future__ import annotations

import math

import numpy as np

from unip.data.synthetic import materials as of
from unip.data.synthetic.camera import Floats
from unip.data.synthetic.parts import UP, Material, Parts, Pose
from unip.data.synthetic.weather import Weather

STOREY = 3.0


def add_building(
    parts: Parts, rng: np.random.Generator, weather: Weather, at: Pose, *, width: float, depth: float, floors: int
) -> None:
    """Add a building.

    It is painted bay by bay, each with its own distance, so that people and cars beside a long facade are not
    hidden by the far end of it.

    Args:
        parts: Where to add it.
        rng: Source of materials and window layout.
        weather: For materials and lit windows.
        at: Middle of the front facade, with the local z axis pointing out of it.
        width: Length of the facade in metres.
        depth: Extent behind the facade in metres.
        floors: Storeys of 3 m.
    """
    bays = max(1, round(width / 3.6))
    bay = width / bays
    height = floors * STOREY + float(rng.uniform(0.2, 0.8))
    facade, top = of.wall(rng, weather), of.roof(rng)
    pitched = floors <= 3 and rng.uniform() < 0.55
    ridge = height + (0.25 * depth if pitched else 0.0)
    style = rng.uniform(size=4)
    lit_share = float(rng.uniform(0.1, 0.5)) if weather.night else 0.0
    panes = [of.window(rng, weather, lit=False), of.window(rng, weather, lit=False), of.window(rng, weather, lit=True)]
    for i in range(bays):
        left, right = -width / 2 + i * bay, -width / 2 + (i + 1) * bay
        x, _, z = at.points([((left + right) / 2, 0, -0.3 * depth)])[0]
        middle = np.array([x, height / 2, z])
        parts.begin(x, z)
        if not parts.camera.sees(middle, bay + depth + height / 2):
            continue
        ends = [side for side, on in ((-1.0, i == 0), (1.0, i == bays - 1)) if on]
        for way in (0.0, -depth):
            _wall(parts, at, [(left, way), (right, way)], height, 1.0 if way == 0 else -1.0, facade)
        for side in ends:
            x = side * width / 2
            gable = [[x, 0, 0], [x, height, 0], [x, ridge, -depth / 2], [x, height, -depth], [x, 0, -depth]]
            parts.face(at.points(gable), at.direction((side, 0.0, 0.0)), facade.but(shade=0.95))
        _add_roof(parts, at, left, right, depth, height, ridge, top)
        size = parts.camera.pixels_per_metre(middle) * bay
        if size < 5:
            continue
        for floor in range(floors):
            shop = floor == 0 and style[3] < 0.35
            _add_windows(parts, rng, at, (left, right), depth, floor, style, panes, lit_share, shop, facade)
        if not pitched and rng.uniform() < 0.35:
            _add_vent(parts, rng, at, (left + right) / 2, -depth * float(rng.uniform(0.3, 0.7)), height)
        elif pitched and rng.uniform() < 0.25:
            _add_vent(parts, rng, at, (left + right) / 2, -depth * 0.35, ridge - 0.3, 0.35)


def _wall(
    parts: Parts, at: Pose, line: list[tuple[float, float]], height: float, way: float, material: Material
) -> None:
    (x0, z0), (x1, z1) = line
    quad = at.points([[x0, 0, z0], [x0, height, z0], [x1, height, z1], [x1, 0, z1]])
    parts.face(quad, at.direction((0.0, 0.0, way)), material)


def _add_roof(
    parts: Parts,
    at: Pose,
    left: float,
    right: float,
    depth: float,
    height: float,
    ridge: float,
    material: Material,
) -> None:
    if ridge <= height:
        flat = at.points([[left, height, 0], [right, height, 0], [right, height, -depth], [left, height, -depth]])
        parts.face(flat, UP, material)
        return
    rise, run = ridge - height, depth / 2
    length = math.hypot(rise, run)
    for z, way in ((0.35, 1.0), (-depth - 0.35, -1.0)):
        low = height - 0.35 * rise / run
        slope = at.points([[left, low, z], [right, low, z], [right, ridge, -depth / 2], [left, ridge, -depth / 2]])
        parts.face(slope, at.direction((0.0, run / length, way * rise / length)), material, over=1)


def _add_windows(
    parts: Parts,
    rng: np.random.Generator,
    at: Pose,
    bay: tuple[float, float],
    depth: float,
    floor: int,
    style: Floats,
    panes: list[Material],
    lit_share: float,
    shop: bool,
    facade: Material,
) -> None:
    left, right = bay
    wide = (right - left) * (0.86 if shop else 0.3 + 0.45 * float(style[0]))
    low = floor * STOREY + (0.3 if shop else 0.9 - 0.5 * float(style[1] > 0.7))
    high = floor * STOREY + 2.5
    middle = (left + right) / 2
    door = floor == 0 and not shop and rng.uniform() < 0.3
    if door:
        wide, low, high = 1.2, 0.0, 2.2
    for z, way in ((0.02, 1.0), (-depth - 0.02, -1.0)):
        chance, pick, tilted = rng.uniform(size=3).tolist()
        if not parts.shows(at.points([(middle, low, z)])[0], at.direction((0.0, 0.0, way))):
            continue
        lit = chance < lit_share * (1.6 if shop else 1.0)
        pane = panes[2] if lit else panes[int(2 * pick)]
        if tilted < 0.12:  # tilted open: the warm room shows
            pane = pane.but(warmth=pane.warmth + 3.0, emissivity=0.95)
        if door:
            pane = facade.but(shade=0.4, warmth=facade.warmth + 0.8)
        quad = [[middle - wide / 2, low, z], [middle - wide / 2, high, z], [middle + wide / 2, high, z]]
        quad.append([middle + wide / 2, low, z])
        parts.face(at.points(quad), at.direction((0.0, 0.0, way)), pane, over=2)
        if not door and not shop and style[2] > 0.5:  # the warm sill and a radiator's trace below the window
            sill = [[middle - wide / 2, low - 0.25, z], [middle - wide / 2, low, z], [middle + wide / 2, low, z]]
            sill.append([middle + wide / 2, low - 0.25, z])
            trace = facade.but(warmth=facade.warmth + 0.9, shade=1.15)
            parts.face(at.points(sill), at.direction((0.0, 0.0, way)), trace, over=2)


def _add_vent(
    parts: Parts, rng: np.random.Generator, at: Pose, x: float, z: float, y: float, half: float = 0.7
) -> None:
    """A chimney, vent or cooling unit on a roof: often the hottest thing on a building."""
    shade = float(rng.uniform(0.15, 0.5))
    warm = float(rng.choice([0.5, 4.0, 12.0]))
    box = Material(of.BUILDING, warm, 9.0, 3.0, 0.9, shade, shade, shade, 0.3, 0.1)
    tall = float(rng.uniform(0.7, 1.4))
    for nx, nz in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
        ax, az = x + nx * half, z + nz * half
        quad = [[ax - nz * half, y, az - nx * half], [ax - nz * half, y + tall, az - nx * half]]
        quad += [[ax + nz * half, y + tall, az + nx * half], [ax + nz * half, y, az + nx * half]]
        parts.face(at.points(quad), at.direction((nx, 0.0, nz)), box, over=3)
    top = [[x - half, y + tall, z - half], [x + half, y + tall, z - half], [x + half, y + tall, z + half]]
    top.append([x - half, y + tall, z + half])
    parts.face(at.points(top), UP, box.but(warmth=warm * 1.3), over=4)
