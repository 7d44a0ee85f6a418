"""Cars, vans, trucks and buses of a synthetic scene: a side outline drawn out to a width, with wheels and panes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from unip.data.synthetic import materials as of
from unip.data.synthetic.parts import UP, Material, Parts, Pose
from unip.data.synthetic.weather import CELSIUS, Weather

# Corners of the side outline from the rear bottom over the roof to the front bottom: (along, up), both as shares
# of length and height; the letter names the surface up to the next corner.
_SEDAN = (
    "-.50 .14 b|-.50 .58 b|-.48 .65 b|-.33 .68 g|-.17 .97 b|"
    "-.02 1.0 b|.08 .97 g|.25 .68 h|.45 .59 h|.495 .50 f|.50 .14 b"
)
_HATCH = "-.50 .14 b|-.50 .55 b|-.485 .64 g|-.40 .96 b|-.20 1.0 b|.05 .98 g|.24 .67 h|.45 .57 h|.495 .48 f|.50 .14 b"
_PICKUP = "-.50 .22 b|-.50 .56 c|-.12 .56 g|-.10 .95 b|-.02 1.0 b|.10 .97 g|.22 .64 h|.44 .60 h|.495 .55 f|.50 .2 b"
_VAN = "-.50 .10 b|-.50 .93 b|-.48 1.0 b|.22 1.0 b|.26 .97 g|.39 .58 h|.48 .48 f|.50 .40 f|.50 .10 b"
_BUS = "-.50 .10 b|-.50 .96 b|-.49 1.0 b|.48 1.0 b|.49 .95 g|.50 .40 f|.50 .10 b"


class _Kind(NamedTuple):
    outline: str
    length: float
    width: float
    height: float
    panes: tuple[tuple[float, float, float, float], ...]  # rear, front, low, high; as shares
    wheels: tuple[float, ...]
    radius: float


_CAR_PANES = ((-0.2, -0.04, 0.68, 0.92), (-0.02, 0.15, 0.68, 0.92))
_BUS_PANES = tuple((-0.46 + 0.13 * i, -0.35 + 0.13 * i, 0.5, 0.85) for i in range(7))
_KINDS = (
    _Kind(_SEDAN, 4.6, 1.82, 1.46, _CAR_PANES, (-0.31, 0.32), 0.32),
    _Kind(_HATCH, 4.0, 1.76, 1.5, ((-0.36, -0.16, 0.66, 0.9), (-0.14, 0.13, 0.67, 0.9)), (-0.33, 0.31), 0.31),
    _Kind(_HATCH, 4.6, 1.9, 1.75, ((-0.37, -0.16, 0.66, 0.9), (-0.14, 0.13, 0.67, 0.9)), (-0.31, 0.31), 0.37),
    _Kind(_VAN, 5.4, 2.0, 2.2, ((0.12, 0.3, 0.58, 0.84),), (-0.32, 0.32), 0.35),
    _Kind(_PICKUP, 5.3, 1.9, 1.8, ((-0.08, 0.01, 0.66, 0.9), (0.03, 0.13, 0.66, 0.9)), (-0.3, 0.31), 0.39),
    _Kind(_BUS, 11.0, 2.5, 3.1, _BUS_PANES, (-0.28, 0.3), 0.48),
)
_KIND_ODDS = (0.29, 0.24, 0.22, 0.11, 0.07, 0.07)


class _Heat(NamedTuple):
    """Kelvin above the body, by how recently it was driven."""

    hood: float
    front: float
    tyre: float
    under: float


def add_vehicle(
    parts: Parts, rng: np.random.Generator, weather: Weather, at: Pose, *, driven: bool, small: bool = False
) -> None:
    """Add a vehicle heading along its frame's z axis.

    Args:
        parts: Where to add it.
        rng: Source of its kind and colours.
        weather: For panes and lights.
        at: Middle of the vehicle.
        driven: Whether the engine is on: hot hood, tyres and underside, lights at night.
        small: Only cars (for parking lots).
    """
    truck = not small and rng.uniform() < 0.1
    body = of.paint(rng)
    share = float(rng.uniform(0.6, 1.2)) if driven else float(rng.choice([0.0, 0.0, 0.1, 0.4]))
    heat = _Heat(8.0 * share, 10.0 * share, 11.0 * share, 8.0 * share)
    parts.begin(at.x, at.z)
    if truck:
        _add_truck(parts, rng, weather, at, body, heat, driven)
        return
    odds = np.array(_KIND_ODDS[:3] if small else _KIND_ODDS)
    kind = _KINDS[int(rng.choice(len(odds), p=odds / odds.sum()))]
    _add_shell(parts, rng, weather, at, kind, body, heat)
    _add_wheels(parts, at, kind, heat, 0)
    _add_lights(parts, weather, at, kind, driven)


def _add_truck(
    parts: Parts,
    rng: np.random.Generator,
    weather: Weather,
    at: Pose,
    body: Material,
    heat: _Heat,
    driven: bool,
) -> None:
    """A cab and a box (or tank) behind it."""
    long = float(rng.uniform(4.0, 7.5))
    x, _, z = at.direction((0.0, 0.0, 1.0))
    cab_at = Pose(at.x + x * (long / 2 + 0.4), at.z + z * (long / 2 + 0.4), at.yaw)
    cab = _Kind(_BUS, 2.0, 2.3, 2.7, ((-0.15, 0.4, 0.5, 0.85),), (0.1,), 0.48)
    box_at = Pose(at.x - x * 0.8, at.z - z * 0.8, at.yaw)
    outline = "-.5 .25 b|-.5 1.0 b|.5 1.0 b|.5 .25 b"
    box = _Kind(outline, long, 2.4, float(rng.uniform(2.6, 3.5)), (), (-0.36, -0.2), 0.48)
    load = of.paint(rng).but(grain=0.25)
    near_cab = math.dist((cab_at.x, cab_at.z), parts.camera.eye[[0, 2]].tolist())
    near_box = math.dist((box_at.x, box_at.z), parts.camera.eye[[0, 2]].tolist())
    over = 0
    for part in ("box", "cab") if near_cab < near_box else ("cab", "box"):
        pose, kind, material = (cab_at, cab, body) if part == "cab" else (box_at, box, load)
        warm = heat if part == "cab" else _Heat(0, 0, heat.tyre, heat.under)
        _add_shell(parts, rng, weather, pose, kind, material, warm, over)
        _add_wheels(parts, pose, kind, warm, over)
        if part == "cab":
            _add_lights(parts, weather, pose, kind, driven, over)
        over += 4


def _corners(kind: _Kind) -> tuple[list[tuple[float, float]], list[str]]:
    rows = [row.split() for row in kind.outline.split("|")]
    corners = [(float(a) * kind.length, float(b) * kind.height) for a, b, _ in rows]
    return corners, [row[2] for row in rows]


def _half_width(kind: _Kind, up: float) -> float:
    """Cars narrow above the belt line; boxes hardly do."""
    belt, slope = (0.64, 0.2) if kind.height < 2 else (0.6, 0.05)
    return kind.width / 2 * (1 - slope * max(0.0, up / kind.height - belt) / (1 - belt))


def _add_shell(
    parts: Parts,
    rng: np.random.Generator,
    weather: Weather,
    at: Pose,
    kind: _Kind,
    body: Material,
    heat: _Heat,
    over: int = 0,
) -> None:
    corners, letters = _corners(kind)
    cabin = float(rng.uniform(0.0, 3.0)) if heat.hood > 3 and weather.air < CELSIUS + 15 else 0.0
    glass = Material(of.VEHICLE, cabin, 5.0, 3.0, 0.83, 0.03, 0.035, 0.045, 0.1, 0.05)
    surfaces = {
        "b": body,
        "g": glass,
        "h": body.but(warmth=body.warmth + heat.hood),
        "f": body.but(warmth=body.warmth + heat.front, shade=0.5, grain=0.6),
        "c": body.but(shade=0.3),
    }
    for i in range(len(corners) - 1):
        (a0, u0), (a1, u1) = corners[i], corners[i + 1]
        w0, w1 = _half_width(kind, u0), _half_width(kind, u1)
        length = math.hypot(a1 - a0, u1 - u0)
        normal = at.direction((0.0, (a1 - a0) / length, -(u1 - u0) / length))
        quad = at.points([[-w0, u0, a0], [-w1, u1, a1], [w1, u1, a1], [w0, u0, a0]])
        parts.face(quad, normal, surfaces[letters[i]], over=over)
    for side in (-1.0, 1.0):
        outline = at.points([[side * _half_width(kind, u), u, a] for a, u in corners])
        normal = at.direction((side, 0.0, 0.0))
        if not parts.shows(outline[0], normal):
            continue
        parts.face(outline, normal, body, over=over)
        fender = [(0.22, 0.15), (0.22, 0.5), (0.47, 0.47), (0.495, 0.15)]
        if heat.hood > 0 and kind.height < 2.5:
            points = [[side * (kind.width / 2 + 0.005), u * kind.height, a * kind.length] for a, u in fender]
            parts.face(at.points(points), normal, body.but(warmth=body.warmth + 0.5 * heat.hood), over=over + 1)
        for rear, front, low, high in kind.panes:
            rake = 0.1 * kind.height if kind.height < 2 else 0.0
            lift = (low * kind.height, high * kind.height)
            quad = at.points(
                [
                    [side * (_half_width(kind, lift[0]) + 0.01), lift[0], rear * kind.length - rake * (rear < -0.1)],
                    [side * (_half_width(kind, lift[1]) + 0.01), lift[1], rear * kind.length],
                    [side * (_half_width(kind, lift[1]) + 0.01), lift[1], front * kind.length - rake * (front > 0.1)],
                    [
                        side * (_half_width(kind, lift[0]) + 0.01),
                        lift[0],
                        front * kind.length + 0.5 * rake * (front > 0.1),
                    ],
                ]
            )
            parts.face(quad, normal, glass, over=over + 1)


def _add_wheels(parts: Parts, at: Pose, kind: _Kind, heat: _Heat, over: int) -> None:
    tyre = Material(of.VEHICLE, 0.5 + heat.tyre, 6.0, 1.0, 0.95, 0.02, 0.02, 0.02, 0.2, 0.05)
    rim = tyre.but(warmth=0.4 * heat.tyre, red=0.3, green=0.3, blue=0.3, emissivity=0.6)
    turn = [2 * math.pi * i / 12 for i in range(12)]
    for along in kind.wheels:
        for side in (-1.0, 1.0):
            normal = at.direction((side, 0.0, 0.0))
            for radius, material, out in ((kind.radius, tyre, 0.01), (0.6 * kind.radius, rim, 0.02)):
                x, z = side * (kind.width / 2 + out), along * kind.length
                disc = [(x, kind.radius + radius * math.sin(t), z + radius * math.cos(t)) for t in turn]
                parts.face(at.points(disc), normal, material, over=over + 2)
            # The tread as seen from ahead and behind, below the bumper.
            w, r = side * kind.width / 2, kind.radius
            for way in (-1.0, 1.0):
                a = along * kind.length + way * r * 0.9
                quad = at.points([[w, 0, a], [w, 1.2 * r, a], [w - side * 0.2, 1.2 * r, a], [w - side * 0.2, 0, a]])
                parts.face(quad, at.direction((0.0, 0.0, way)), tyre, over=over - 1)


def _add_lights(parts: Parts, weather: Weather, at: Pose, kind: _Kind, driven: bool, over: int = 0) -> None:
    on = weather.night and driven
    white = Material(of.VEHICLE, 6.0 if on else 0.5, 4.0, 1.0, 0.9, 0.6, 0.6, 0.6, 0.1, 0.02, glow=4.0 if on else 0.0)
    red = white.but(red=0.35, green=0.02, blue=0.02, warmth=2.0 if on else 0.3, glow=0.8 if on else 0.0, glow_red=1.0)
    dark = Material(of.VEHICLE, 0.4, 5.0, 1.0, 0.9, 0.02, 0.02, 0.02, 0.1, 0.02)
    low, high = 0.38 * min(kind.height, 1.8), 0.48 * min(kind.height, 1.8)
    for way, lamp in ((1.0, white), (-1.0, red)):
        normal = at.direction((0.0, 0.0, way))
        end = way * (kind.length / 2 + 0.01)
        if not parts.shows(at.points([(0, 0, end)])[0], normal):
            continue
        for side in (-1.0, 1.0):
            x0, x1 = side * 0.3 * kind.width, side * 0.47 * kind.width
            quad = at.points([[x0, low, end], [x0, high, end], [x1, high, end], [x1, low, end]])
            parts.face(quad, normal, lamp, over=over + 2)
        plate = at.points([[-0.3, 0.3, end], [-0.3, 0.42, end], [0.3, 0.42, end], [0.3, 0.3, end]])
        parts.face(plate, normal, white.but(glow=0.0, emissivity=0.75), over=over + 2)
        bumper = 0.46 * kind.width
        quad = at.points([[-bumper, 0.16, end], [-bumper, 0.28, end], [bumper, 0.28, end], [bumper, 0.16, end]])
        parts.face(quad, normal, dark, over=over + 1)


def add_ground_heat(parts: Parts, at: Pose, material: Material, kelvin: float) -> None:
    """Add the patch under a vehicle: dark in the visible, warmed by the engine or shaded from sky and sun."""
    quad = at.points([[-0.8, 0.0, -2.0], [-0.8, 0.0, 2.0], [0.8, 0.0, 2.0], [0.8, 0.0, -2.0]])
    parts.face(
        quad, UP, material.but(warmth=material.warmth + kelvin, solar=0.2 * material.solar, cooling=0, shade=0.15)
    )
