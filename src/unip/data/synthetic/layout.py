"""Where things stand in a synthetic scene: a street, a parking lot or a park before the camera."""

from __future__ import annotations

import math

import numpy as np

from unip.data.synthetic import materials as of
from unip.data.synthetic.buildings import add_building
from unip.data.synthetic.camera import Camera
from unip.data.synthetic.ground import HORIZON, Site, add_crossroad, add_patches, add_road, strip, visible_span
from unip.data.synthetic.objects import add_bush, add_lamp, add_person, add_tree
from unip.data.synthetic.parts import GROUND_LAYER, UP, Parts, Pose
from unip.data.synthetic.vehicles import add_ground_heat, add_vehicle
from unip.data.synthetic.weather import Weather


def lay_out(rng: np.random.Generator, camera: Camera, weather: Weather) -> Parts:
    """Fill a scene with a road, buildings, trees, vehicles and people.

    Args:
        rng: Source of every choice.
        camera: The viewpoint; only what it may see is added.
        weather: Sets temperatures, light and how many are about.

    Returns:
        All surfaces. Part 0 is the open ground that continues to the horizon.
    """
    parts = Parts(camera)
    ground = of.field_material(rng, weather)
    parts.begin(0.0, 0.0, GROUND_LAYER)
    far = [(-2e3, 0.0, -2e3), (2e3, 0.0, -2e3), (2e3, 0.0, 2e3), (-2e3, 0.0, 2e3)]
    parts.face(far, UP, ground)
    kind = str(rng.choice(["street", "lot", "park"], p=[0.66, 0.17, 0.17]))
    # A drone sees the whole of a bend, so there it stays mild.
    bend = 0.0 if rng.uniform() < 0.5 else float(rng.normal(0, 1.2e-3))
    half = float(rng.uniform(2.0, 3.0) if kind == "park" else rng.uniform(3.0, 6.5))
    walk = float(rng.uniform(1.5, 3.5)) if kind != "park" or rng.uniform() < 0.3 else 0.0
    site = Site(rng, weather, parts, visible_span(camera), bend, half, walk, of.asphalt(rng, weather))
    add_patches(site, ground)
    add_road(site)
    if kind == "lot":
        _add_lot(site)
    elif rng.uniform() < 0.3:
        add_crossroad(site)
    _add_vehicles(site, kind)
    _add_people(site, kind)
    _add_buildings(site, kind)
    _add_trees(site, kind)
    _add_lamps(site)
    _add_skyline(site)
    return parts


def _add_lot(site: Site) -> None:
    """A parking lot on one side of the road, with marked stalls and rows of cars."""
    rng = site.rng
    side = float(rng.choice([-1.0, 1.0]))
    near, far = site.half_road, site.half_road + float(rng.uniform(16, 24))
    low, high = site.span
    z0 = max(low, 3.0 if site.parts.camera.eye[1] < 12 else low)
    z1 = min(high, z0 + float(rng.uniform(22, 45)))
    left, right = (near, far) if side > 0 else (-far, -near)
    strip(site, left, right, z0 - 2, z1 + 2, site.road.but(shade=1.15))
    line = site.road.but(warmth=site.road.warmth - 0.4, red=0.6, green=0.6, blue=0.58)
    occupied = float(rng.uniform(0.35, 0.9))
    for row in (near + 3.6, far - 3.0):
        for z in np.arange(z0, z1, 2.7):
            x = side * row
            site.parts.begin(0, 0, GROUND_LAYER)
            strip(site, x - 2.4, x + 2.4, float(z) - 0.05, float(z) + 0.05, line)
            if rng.uniform() < occupied:
                at = site.pose(x, float(z) + 1.35, math.pi / 2 * float(rng.choice([-1.0, 1.0])))
                _place_vehicle(site, at, driven=rng.uniform() < 0.2, small=True, radius=1.25)


def _place_vehicle(site: Site, at: Pose, *, driven: bool, small: bool = False, radius: float = 2.4) -> bool:
    eye = site.parts.camera.eye
    away = math.hypot(at.x - eye[0], at.z - eye[2], eye[1])
    if away < 7.0 or not site.visible(at, 1.5) or not site.free(at, radius):
        return False
    small = small or away < 14.0  # a truck or bus this close would fill the frame
    site.parts.begin(at.x, at.z, GROUND_LAYER)
    add_ground_heat(site.parts, at, site.road, 5.0 if driven else 0.5)
    add_vehicle(site.parts, site.rng, site.weather, at, driven=driven, small=small)
    return True


def _add_vehicles(site: Site, kind: str) -> None:
    rng, half = site.rng, site.half_road
    wanted = int(rng.choice([0, 1, 2, 3, 4, 6], p=[0.1, 0.2, 0.25, 0.2, 0.15, 0.1]))
    parked = rng.uniform() < 0.5 and half > 4
    for _ in range(wanted * 6):
        if wanted == 0:
            break
        side = float(rng.choice([-1.0, 1.0]))
        turn = 0.0 if side > 0 else math.pi
        z = site.distance(6.0)
        if parked and rng.uniform() < 0.6:
            at, driven = site.pose(side * (half - 1.05), z, turn), bool(rng.uniform() < 0.1)
        elif kind == "park" and rng.uniform() < 0.5:
            at = site.pose(side * (half + float(rng.uniform(2, 10))), z, float(rng.uniform(0, 6.3)))
            driven = bool(rng.uniform() < 0.3)
        else:
            at, driven = site.pose(side * half / 2, z, turn + float(rng.normal(0, 0.03))), True
        wanted -= _place_vehicle(site, at, driven=driven)


def _add_people(site: Site, kind: str) -> None:
    rng, half = site.rng, site.half_road
    wanted = int(rng.choice([0, 1, 2, 3, 5, 8, 12], p=[0.1, 0.14, 0.2, 0.2, 0.16, 0.12, 0.08]))
    for _ in range(wanted * 6):
        if wanted <= 0:
            break
        side, choice = float(rng.choice([-1.0, 1.0])), float(rng.uniform())
        walking = bool(rng.uniform() < 0.7)
        z = site.distance(3.2)
        if kind == "park" or choice > 0.85:
            across, heading = side * float(rng.uniform(0.3, 4.0)) * half, float(rng.uniform(0, 2 * math.pi))
        elif choice < 0.2:  # crossing the road
            across, heading = float(rng.uniform(-half, half)), math.pi / 2 * side
        else:
            across = side * (half + float(rng.uniform(0.3, max(0.8, site.walk - 0.2))))
            heading = float(rng.choice([0.0, math.pi])) + float(rng.normal(0, 0.2))
            if not walking:
                heading = float(rng.uniform(0, 2 * math.pi))
        group = int(rng.choice([1, 2, 3], p=[0.68, 0.24, 0.08]))
        for member in range(group):
            at = site.pose(across + 0.7 * member, z + 0.25 * member * float(rng.normal()), heading)
            if site.visible(at, 1.7) and site.free(at, 0.28):
                add_person(site.parts, rng, site.weather, at, walking=walking)
                wanted -= 1


def _add_buildings(site: Site, kind: str) -> None:
    rng = site.rng
    high_camera = site.parts.camera.eye[1] > 12
    tall = 1 if high_camera else 0
    density = {"street": 0.9, "lot": 0.75, "park": 0.35}[kind]
    rows = float(rng.uniform(0.0, 5.0))
    for side in (-1.0, 1.0):
        if rng.uniform() > density:
            continue
        z = (site.span[0] - 15) if high_camera else float(rng.uniform(-2, 12))
        end = min(site.span[1] + 15, HORIZON)
        back = float(rng.uniform(0.5, 6)) + (7.0 if kind == "park" else 0.0) + (20.0 if kind == "lot" else 0.0)
        while z < end:
            width = float(rng.uniform(8, 26))
            depth = float(rng.uniform(7, 13))
            floors = int(np.clip(round(rows + float(rng.normal(0.5, 1.2))), 1, 6 - 2 * tall))
            setback = back + float(rng.uniform(0, 2.5))
            at = site.pose(side * (site.half_road + site.walk + setback), z + width / 2, -side * math.pi / 2)
            add_building(site.parts, rng, site.weather, at, width=width, depth=depth, floors=floors)
            x, _, behind = at.points([(0, 0, -depth / 2)])[0]
            site.taken.append((x, behind, depth / 2))
            z += width + (0.0 if rng.uniform() < 0.4 else float(rng.uniform(2, 14)))


def _add_trees(site: Site, kind: str) -> None:
    rng = site.rng
    wanted = int(rng.integers(2, 9)) + (8 if kind == "park" else 0)
    mean = float(rng.uniform(5, 11))
    edge = site.half_road + site.walk
    avenue = rng.uniform() < 0.4
    for _ in range(wanted * 3):
        if wanted == 0:
            break
        side, z = float(rng.choice([-1.0, 1.0])), site.distance(7.0)
        across = edge + (0.6 if avenue else float(rng.uniform(0.5, 14 if kind != "park" else 30)))
        at = site.pose(side * across, z)
        height = float(np.clip(rng.normal(mean, 0.2 * mean), 3, 16))
        if site.visible(at, height) and site.free(at, 1.4):
            wanted -= 1
            if rng.uniform() < 0.22:
                add_bush(site.parts, rng, site.weather, at.x, at.z, float(rng.uniform(0.6, 1.6)))
            else:
                add_tree(site.parts, rng, site.weather, at.x, at.z, height)


def _add_lamps(site: Site) -> None:
    rng = site.rng
    if rng.uniform() > 0.7:
        return
    step, height = float(rng.uniform(18, 30)), float(rng.uniform(5, 8))
    side = float(rng.choice([-1.0, 1.0]))
    for z in np.arange(max(site.span[0] - 10, -10.0 if site.parts.camera.eye[1] < 12 else -60), site.span[1] + 5, step):
        at = site.pose(side * (site.half_road + 0.5), float(z) + float(rng.uniform(0, 2)), 0.0 if side < 0 else math.pi)
        if site.free(at, 0.4) and len(site.parts.lamps) < 8:
            add_lamp(site.parts, site.weather, at, height)
        side = -side if rng.uniform() < 0.4 else side


def _add_skyline(site: Site) -> None:
    """Far trees, hills and blocks that close the view at the horizon."""
    rng, camera = site.rng, site.parts.camera
    if camera.eye[1] > 12 or rng.uniform() < 0.12:
        return
    crown = of.leaves(rng, site.weather).but(grain=0.6)
    distance = float(rng.uniform(140, 320))
    heading = math.atan2(camera.axes[2, 0], camera.axes[2, 2])
    step = 0.022
    level = float(rng.uniform(4, 10))
    for angle in np.arange(heading - 0.75, heading + 0.75, step):
        level = float(np.clip(level + rng.normal(0, 0.8), 2.5, 14))
        x = float(camera.eye[0] + distance * math.sin(angle))
        z = float(camera.eye[2] + distance * math.cos(angle))
        radius = max(level * 0.6, 0.75 * step * distance)
        site.parts.begin(x, z)
        material = crown.but(shade=float(rng.uniform(0.85, 1.15)))
        site.parts.ball((x, level - radius, z), radius, material, rng.uniform(0.85, 1.15, 14))
