"""People, trees and lamp posts of a synthetic scene, built of simple surfaces."""

from __future__ import annotations

import math

import numpy as np

from unip.data.synthetic import materials as of
from unip.data.synthetic.parts import Material, Parts, Pose
from unip.data.synthetic.weather import CELSIUS, Weather


def add_person(parts: Parts, rng: np.random.Generator, weather: Weather, at: Pose, *, walking: bool) -> None:
    """Add a person of 1.1 to 1.95 m: head, hair or hat, trunk, limbs in a stride, now and then a bag or coat."""
    height = float(rng.uniform(1.55, 1.93) if rng.uniform() < 0.88 else rng.uniform(1.05, 1.4))
    stout = float(rng.uniform(0.85, 1.25))
    s = height / 1.75
    cold = float(np.clip((CELSIUS + 22 - weather.air) / 25, 0.0, 1.0))
    top = of.cloth(rng, weather, float(np.clip(cold * rng.uniform(0.6, 1.1) + rng.uniform(-0.1, 0.2), 0, 1)))
    legs = of.cloth(rng, weather, float(np.clip(0.6 * cold + rng.uniform(-0.1, 0.15), 0, 0.8)))
    grey = (legs.red + legs.green + legs.blue) / 3  # trousers are mostly dull
    legs = legs.but(
        red=0.6 * grey + 0.2 * legs.red, green=0.6 * grey + 0.2 * legs.green, blue=0.65 * grey + 0.25 * legs.blue
    )
    flesh = of.skin(weather).but(shade=float(rng.choice([0.3, 0.6, 1.0, 1.1])))
    shoes = top.but(warmth=0.25 * flesh.warmth, red=0.05, green=0.05, blue=0.05)
    hair = flesh.but(warmth=0.6 * flesh.warmth, red=0.04, green=0.03, blue=0.02, grain=0.6)
    short_trousers = cold < 0.25 and rng.uniform() < 0.5
    bare_arms = cold < 0.35 and rng.uniform() < 0.7

    parts.begin(at.x, at.z)
    stride = float(rng.uniform(0.25, 0.5)) if walking else float(rng.uniform(0.0, 0.08))
    phase = float(rng.choice([-1.0, 1.0])) * (float(rng.uniform(0.3, 1.0)) if walking else 1.0)

    def limb(
        a: tuple[float, ...], b: tuple[float, ...], ra: float, rb: float, material: Material, over: int = 0
    ) -> None:
        ends = at.points([[c * s for c in a], [c * s for c in b]])
        parts.capsule(ends[0], ends[1], ra * s * stout, rb * s * stout, material, over=over)

    for side in (-1.0, 1.0):
        swing = side * phase * stride
        hip, ankle_z = 0.09 * side, swing
        lift = 0.1 * max(0.0, -swing) / 0.5
        knee = (hip, 0.49, 0.5 * swing + 0.05 + 0.3 * lift)
        ankle = (hip, 0.1 + lift, ankle_z)
        limb((hip, 0.9, 0.0), knee, 0.085, 0.062, legs)
        limb(knee, ankle, 0.058, 0.042, flesh if short_trousers else legs)
        limb((hip, 0.06 + lift, ankle_z - 0.04), (hip * 1.2, 0.045 + lift, ankle_z + 0.15), 0.05, 0.042, shoes)
        bend = float(rng.uniform(0.0, 0.25)) if rng.uniform() < 0.75 else float(rng.uniform(0.6, 1.2))
        elbow = (0.25 * side, 1.13, -0.5 * swing)
        hand = (0.24 * side - 0.08 * side * bend, 0.86 + 0.3 * bend, -0.85 * swing + 0.12 + 0.15 * bend)
        limb((0.2 * side, 1.42, 0.0), elbow, 0.058, 0.046, top)
        limb(elbow, hand, 0.044, 0.034, flesh if bare_arms else top)
        limb(hand, tuple(h - 0.05 * (i == 1) for i, h in enumerate(hand)), 0.042, 0.035, flesh)
    warm_chest = top.but(warmth=top.warmth + 0.08 * flesh.warmth)
    limb((0.0, 0.95, 0.0), (0.0, 1.12, 0.0), 0.145, 0.135, legs if rng.uniform() < 0.5 else top)
    for side in (-0.075, 0.075):
        limb((side * 0.7, 1.05, 0.0), (side, 1.4, 0.0), 0.115, 0.115, warm_chest)
    if cold > 0.4 and rng.uniform() < 0.35:  # a long coat or a skirt
        limb((0.0, 1.15, 0.0), (0.0, 0.62, 0.0), 0.15, 0.2, top)
    if rng.uniform() < 0.25:  # a backpack hides the warm back
        bag = of.cloth(rng, weather, 1.0)
        limb((0.0, 1.12, -0.2), (0.0, 1.36, -0.2), 0.12, 0.11, bag.but(warmth=0.12 * flesh.warmth))
    limb((0.0, 1.45, 0.0), (0.0, 1.55, 0.01), 0.052, 0.05, flesh)
    # The face looks ahead, the hair lies behind and above it: painting far to near sorts them out.
    skull = hair if rng.uniform() < 0.75 else top.but(warmth=0.4 * flesh.warmth)
    limb((0.0, 1.6, 0.035), (0.0, 1.68, 0.035), 0.075, 0.08, flesh, over=1 if _faces_eye(parts, at) else 0)
    limb((0.0, 1.6, -0.025), (0.0, 1.69, -0.015), 0.08, 0.088, skull, over=0 if _faces_eye(parts, at) else 1)
    if _faces_eye(parts, at):
        limb((0.0, 1.745, 0.0), (0.0, 1.75, 0.01), 0.072, 0.07, skull, over=2)


def _faces_eye(parts: Parts, at: Pose) -> bool:
    x, _, z = at.direction((0.0, 0.0, 1.0))
    return bool(x * (parts.camera.eye[0] - at.x) + z * (parts.camera.eye[2] - at.z) > 0)


def add_tree(parts: Parts, rng: np.random.Generator, weather: Weather, x: float, z: float, height: float) -> None:
    """Add a broad-leaved tree, a conifer, a palm-like tree or, in the cold seasons, a bare one."""
    parts.begin(x, z)
    kind = rng.uniform()
    trunk = of.bark(rng, weather)
    size = height * parts.camera.pixels_per_metre(np.array([x, height / 2, z]))
    if weather.season == "winter" and kind < 0.55:
        _add_branches(
            parts, rng, trunk, (x, 0.0, z), (0.0, 1.0, 0.0), 0.3 * height, 0.025 * height, 4 if size > 90 else 3
        )
    elif kind > 0.8:
        crown = of.leaves(rng, weather).but(shade=0.7, red=0.03, green=0.07, blue=0.03)
        parts.capsule((x, 0, z), (x, 0.2 * height, z), 0.03 * height, 0.03 * height, trunk)
        levels = 4 if size < 60 else 8
        for i in range(levels):
            low = 0.12 + 0.8 * i / levels
            for _ in range(3):
                turn, reach = rng.uniform(0, 2 * math.pi), 0.12 * (1.05 - low) * height
                shade = float(rng.uniform(0.8, 1.2))
                centre = (x + reach * math.cos(turn), (low + 0.06) * height, z + reach * math.sin(turn))
                radius = 0.19 * (1.12 - low) * height * 0.75
                parts.ball(centre, radius, crown.but(shade=shade), rng.uniform(0.7, 1.25, 14), over=i)
    else:
        crown = of.leaves(rng, weather)
        fork = float(rng.uniform(0.22, 0.4)) * height
        lean = float(rng.normal(0, 0.03)) * height
        parts.capsule((x, 0, z), (x + lean, fork + 0.1 * height, z), 0.035 * height, 0.022 * height, trunk)
        wide = float(rng.uniform(0.24, 0.42)) * height
        tall = (height - fork) / 2
        count = 9 if size < 40 else 22 if size < 160 else 48
        for _ in range(count):
            direction = rng.normal(size=3)
            direction *= rng.uniform(0.35, 0.9) / (np.linalg.norm(direction) + 1e-9)
            cx, cy, cz = x + lean + wide * direction[0], fork + tall + tall * direction[1], z + wide * direction[2]
            # Lower clumps see warm ground and stand in the shade of the upper ones.
            clump = crown.but(
                shade=float(rng.uniform(0.75, 1.2)) * (0.85 + 0.3 * direction[1]),
                warmth=crown.warmth + float(rng.normal(0, 0.35)) - 0.3 * direction[1],
            )
            radius = (0.52 if count < 10 else 0.4 if count < 30 else 0.3) * min(wide, tall) * rng.uniform(0.7, 1.2)
            parts.ball((cx, cy, cz), float(radius), clump, rng.uniform(0.65, 1.3, 14))


def _add_branches(
    parts: Parts,
    rng: np.random.Generator,
    material: Material,
    start: tuple[float, float, float],
    direction: tuple[float, float, float],
    length: float,
    radius: float,
    depth: int,
) -> None:
    end = (start[0] + direction[0] * length, start[1] + direction[1] * length, start[2] + direction[2] * length)
    parts.capsule(start, end, radius, radius * 0.65, material)
    if depth == 0:
        return
    for _ in range(3):
        d = np.array(direction) + rng.normal(0, 0.4, 3) + np.array([0.0, 0.25, 0.0])
        x, y, z = (d / np.linalg.norm(d)).tolist()
        thin = material.but(warmth=0.6 * material.warmth)
        _add_branches(
            parts, rng, thin, end, (x, y, z), length * float(rng.uniform(0.55, 0.85)), radius * 0.55, depth - 1
        )


def add_bush(parts: Parts, rng: np.random.Generator, weather: Weather, x: float, z: float, height: float) -> None:
    """Add a shrub, labelled as tree."""
    parts.begin(x, z)
    crown = of.leaves(rng, weather)
    for _ in range(7):
        dx, dz = rng.uniform(-0.7, 0.7, 2) * height
        radius = float(rng.uniform(0.3, 0.5)) * height
        material = crown.but(shade=float(rng.uniform(0.7, 1.2)))
        parts.ball((x + dx, radius * 0.9, z + dz), radius, material, rng.uniform(0.75, 1.25, 14))


def add_lamp(parts: Parts, weather: Weather, at: Pose, height: float) -> None:
    """Add a lamp post (labelled as building) whose arm reaches to its local right; it is lit at night."""
    parts.begin(at.x, at.z)
    steel = Material(of.BUILDING, 0.3, 8.0, 2.0, 0.9, 0.25, 0.26, 0.27, 0.1, 0.05)
    head = steel.but(warmth=8.0 if weather.night else 0.5, glow=3.0 if weather.night else 0.0)
    foot, top, arm, tip = at.points([(0, 0, 0), (0, height, 0), (0.6, height + 0.25, 0), (1.5, height + 0.25, 0)])
    parts.capsule(foot, top, 0.085, 0.06, steel)
    parts.capsule(top, arm, 0.05, 0.045, steel)
    parts.capsule(arm, tip, 0.09, 0.11, head)
    if weather.night:
        parts.lamps.append(tip)
