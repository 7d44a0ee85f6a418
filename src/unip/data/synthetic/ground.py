"""The ground of a synthetic scene: the site's coordinates along its road, the road itself and uneven soil."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from unip.data.synthetic import materials as of
from unip.data.synthetic.camera import Camera
from unip.data.synthetic.parts import UP, Material, Parts, Pose
from unip.data.synthetic.weather import Weather

HORIZON = 130.0  # metres; farther things are only a skyline


@dataclass
class Site:
    """The street and what is already taken.

    Args:
        rng: Source of every choice.
        weather: Sets temperatures.
        parts: Where surfaces are added.
        span: First and last z of the visible ground, metres.
        bend: The road's middle lies at x = bend * z * z.
        half_road: Half the road's width, metres.
        walk: Width of each sidewalk, metres; 0 for none.
        road: The road's surface.
        taken: (x, z, radius) of what stands already.
    """

    rng: np.random.Generator
    weather: Weather
    parts: Parts
    span: tuple[float, float]
    bend: float
    half_road: float
    walk: float
    road: Material
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def pose(self, across: float, z: float, turn: float = 0.0) -> Pose:
        """The place ``across`` metres to the right of the road's middle, heading along the road."""
        slope = 2 * self.bend * z
        return Pose(self.bend * z * z + across * math.cos(slope), z - across * math.sin(slope), math.atan(slope) + turn)

    def free(self, at: Pose, radius: float) -> bool:
        """Take the place if nothing stands there and the camera is not inside it."""
        eye = self.parts.camera.eye
        others = (*self.taken, (float(eye[0]), float(eye[2]), 1.2 if eye[1] < 4 else 0.0))
        if any(math.hypot(at.x - x, at.z - z) < radius + r for x, z, r in others):
            return False
        self.taken.append((at.x, at.z, radius))
        return True

    def visible(self, at: Pose, height: float) -> bool:
        """Whether something of that height, standing there, reaches into the frame."""
        return self.parts.camera.sees(np.array([at.x, height / 2, at.z]), 0.2 * height)

    def distance(self, near: float = 3.0) -> float:
        """A z in the visible span, denser near the camera (uniform in the logarithm, halfway)."""
        low, high = self.span
        if self.parts.camera.eye[1] > 12:
            return float(self.rng.uniform(low, high))
        low = max(low, near)
        return float(min(high, low * (max(high, low + 5) / low) ** float(self.rng.uniform(0.0, 0.95))))


def visible_span(camera: Camera) -> tuple[float, float]:
    """First and last z in metres of the ground that the camera sees, up to HORIZON from it."""
    rays = camera.rays(max(1, min(camera.size) // 12)).reshape(-1, 3).astype(np.float64)
    down = rays[rays[:, 1] < -0.02]
    if not len(down):
        return 5.0, HORIZON
    z = camera.eye[2] - camera.eye[1] * down[:, 2] / down[:, 1]
    z = z[np.abs(z - camera.eye[2]) < HORIZON]
    return (float(z.min()), float(z.max())) if len(z) else (5.0, HORIZON)


def strip(site: Site, left: float, right: float, z0: float, z1: float, material: Material) -> None:
    """A band along the road between two offsets, following its bend."""
    pieces = 1 if site.bend == 0 else max(2, round(abs(z1 - z0) / 8))
    for a, b in zip(np.linspace(z0, z1, pieces + 1)[:-1], np.linspace(z0, z1, pieces + 1)[1:], strict=True):
        frames = [site.pose(left, a), site.pose(right, a), site.pose(right, b), site.pose(left, b)]
        site.parts.face([(f.x, 0.0, f.z) for f in frames], UP, material)


def add_patches(site: Site, ground: Material) -> None:
    """Uneven open ground: irregular patches of other vegetation, soil or moisture."""
    rng = site.rng
    for _ in range(int(rng.integers(2, 9))):
        x, z = float(rng.uniform(-35, 35)), site.distance(1.0)
        radius = float(rng.uniform(1.5, 9))
        turn = [2 * math.pi * i / 12 for i in range(12)]
        reach = radius * rng.uniform(0.6, 1.3, 12)
        points = [(x + r * math.cos(t), 0.0, z + r * math.sin(t)) for r, t in zip(reach.tolist(), turn, strict=True)]
        other = of.field_material(rng, site.weather) if rng.uniform() < 0.3 else ground
        warmth = other.warmth + float(rng.normal(0, 0.9))
        site.parts.face(points, UP, other.but(warmth=warmth, shade=float(rng.uniform(0.8, 1.25))))


def add_road(site: Site) -> None:
    """Add the road with its sidewalks, curbs, tyre tracks, repairs and markings."""
    half, road = site.half_road, site.road
    z0, z1 = site.span[0] - 10, max(site.span[1] + 10, 60.0)
    if site.parts.camera.eye[1] < 12:
        start = float(site.parts.camera.eye[2]) - 5.0
        z0, z1 = start, start + (2.4 if site.bend == 0 else 1.3) * HORIZON
    if site.walk:
        _add_sidewalks(site, z0, z1)
    strip(site, -half, half, z0, z1, road)
    for side in (-1, 1):  # lanes polished and warmed by tyres
        for track in (-0.8, 0.8):
            x = side * half / 2 + track
            strip(site, x - 0.3, x + 0.3, z0, z1, road.but(warmth=road.warmth + 0.5, shade=0.92))
    _add_repairs(site, z0, min(z1, 60.0))
    _add_markings(site, z0, z1)


def _add_sidewalks(site: Site, z0: float, z1: float) -> None:
    half = site.half_road
    slab = of.paving(site.rng, site.weather)
    strip(site, -half - site.walk, half + site.walk, z0, z1, slab)
    curb = slab.but(shade=1.25, warmth=slab.warmth + 0.5)
    strip(site, -half - 0.18, half + 0.18, z0, z1, curb)


def _add_markings(site: Site, z0: float, z1: float) -> None:
    """Some of: the line in the middle, dashed or double, those at the sides, and a zebra crossing."""
    rng, half, road = site.rng, site.half_road, site.road
    line = road.but(warmth=road.warmth - 0.5, solar=0.8 * road.solar, emissivity=0.93, red=0.6, green=0.6, blue=0.58)
    if rng.uniform() < 0.75:
        if rng.uniform() < 0.7:
            for z in np.arange(z0, min(z1, 110), 6.0):
                strip(site, -0.08, 0.08, float(z), float(z) + 3, line)
        else:
            strip(site, -0.2, -0.08, z0, z1, line)
            strip(site, 0.08, 0.2, z0, z1, line)
    if rng.uniform() < 0.5:
        for side in (-1, 1):
            strip(site, side * (half - 0.3) - 0.06, side * (half - 0.3) + 0.06, z0, z1, line)
    if rng.uniform() < 0.3:
        z = max(z0, site.distance(6.0))
        for x in np.arange(-half + 0.3, half - 0.4, 1.0):
            strip(site, float(x), float(x) + 0.5, z, z + 3.0, line)


def _add_repairs(site: Site, z0: float, z1: float) -> None:
    """Patches, cracks and manholes, which show in the thermal image as faint relief."""
    rng, half, road = site.rng, site.half_road, site.road
    turn = [2 * math.pi * i / 10 for i in range(10)]
    for _ in range(int(rng.integers(2, 7))):
        x, z = float(rng.uniform(-half, half - 1)), float(rng.uniform(z0, z1))
        patch = road.but(warmth=road.warmth + float(rng.normal(0, 0.6)), shade=float(rng.uniform(0.75, 1.2)))
        strip(site, x, min(half, x + float(rng.uniform(0.8, 3))), z, z + float(rng.uniform(1, 6)), patch)
    for _ in range(int(rng.integers(0, 3))):
        x, z = float(rng.uniform(-0.8, 0.8)) * half, float(rng.uniform(z0, z1))
        at = site.pose(x, z)
        disc = [(at.x + 0.35 * math.cos(t), 0.0, at.z + 0.35 * math.sin(t)) for t in turn]
        lid = road.but(warmth=road.warmth + float(rng.uniform(0, 5)), shade=0.7, emissivity=0.85)
        site.parts.face(disc, UP, lid)
    for _ in range(int(rng.integers(1, 5))):
        z = float(rng.uniform(z0, z1))
        crack = road.but(warmth=road.warmth + 0.9, shade=0.5)
        strip(site, -half, half, z, z + 0.07, crack)


def add_crossroad(site: Site) -> None:
    """Add a second road at right angles."""
    z = max(site.distance(12.0), site.span[0])
    half = 0.8 * site.half_road
    width = float(site.rng.uniform(30, 70))
    strip(site, -width, width, z - half, z + half, site.road)
    site.taken.append((site.pose(0, z).x, z, 0.0))
