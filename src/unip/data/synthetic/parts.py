"""Surfaces of a scene: polygons, capsules and balls with a material, sorted and drawn by the painter's rule."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unip.data.synthetic.camera import NEAR, Camera, Floats

SKY_LABEL, FIRST_LABEL = 0, 1  # label 1 + i is part i; part 0 is the open ground
Point = tuple[float, float, float]
UP: Point = (0.0, 1.0, 0.0)
GROUND_LAYER, OBJECT_LAYER = 0, 1
_CAP = np.linspace(0.0, math.pi, 6)
_TURN = np.linspace(0.0, 2 * math.pi, 14, endpoint=False)


class Material(NamedTuple):
    """How a surface looks to both cameras.

    Args:
        label: Class id.
        warmth: Kelvin above the air from inner heat, without sun and sky.
        solar: Kelvin gained when the full sun stands at right angles to it.
        cooling: Kelvin lost when it faces a clear sky.
        emissivity: In the thermal band; the rest is reflected.
        red: Linear reflectance, 0 to 1; so are green and blue.
        grain: Thermal texture, Kelvin.
        pattern: Visible texture, as a share of the reflectance.
        glow: Visible light given off, in units of white paper in the sun; warm white unless ``glow_red``.
        glow_red: 1 for red light.
    """

    label: int
    warmth: float
    solar: float
    cooling: float
    emissivity: float
    red: float
    green: float
    blue: float
    grain: float = 0.2
    pattern: float = 0.1
    glow: float = 0.0
    glow_red: float = 0.0

    def but(self, *, shade: float = 1.0, **changes: Any) -> Material:
        """A copy with some values changed and the reflectance multiplied by ``shade``."""
        new = self._replace(**changes)
        return new._replace(red=new.red * shade, green=new.green * shade, blue=new.blue * shade)


@dataclass(frozen=True)
class Pose:
    """A place on the ground and a heading; local coordinates are (to the right, up, ahead) in metres."""

    x: float
    z: float
    yaw: float

    @functools.cached_property
    def _turn(self) -> tuple[float, float]:
        return math.cos(self.yaw), math.sin(self.yaw)

    def points(self, local: Iterable[Sequence[float]]) -> list[Point]:
        """Turn local points into world points (plain floats: an array for four points costs more)."""
        (c, s), x, z = self._turn, self.x, self.z
        return [(x + c * p[0] + s * p[2], p[1], z - s * p[0] + c * p[2]) for p in local]

    def direction(self, local: Sequence[float]) -> tuple[float, float, float]:
        """Turn a local direction into a world direction."""
        c, s = self._turn
        return (c * local[0] + s * local[2], local[1], -s * local[0] + c * local[2])


@dataclass
class Parts:
    """All surfaces of a scene, collected object by object.

    Attributes:
        materials: One per part.
        normals: Outward normal of each part.
        centres: World position that stands for each part in distances and in shadows.
        drawn: (painter's key, polygon in pixels) of each visible part, with its number.
    """

    camera: Camera
    materials: list[Material] = field(default_factory=list)
    normals: list[Point] = field(default_factory=list)
    centres: list[Any] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    flat: list[bool] = field(default_factory=list)  # lies on the ground
    lamps: list[Point] = field(default_factory=list)
    _keys: list[tuple[float, ...]] = field(default_factory=list)
    _shapes: list[tuple[str, int]] = field(default_factory=list)
    _polygons: list[list[Point]] = field(default_factory=list)
    _capsules: list[tuple[float, ...]] = field(default_factory=list)
    _balls: list[tuple[float, ...]] = field(default_factory=list)
    _outlines: list[Any] = field(default_factory=list)
    _layer: int = OBJECT_LAYER
    _distance: float = 0.0
    _object: int = 0

    def __post_init__(self) -> None:
        x, y, z = self.camera.eye.tolist()
        self._eye: Point = (x, y, z)

    def begin(self, x: float, z: float, layer: int = OBJECT_LAYER) -> None:
        """Start an object that stands at (x, z); nearer objects hide farther ones."""
        self._layer = layer
        self._object += 1
        self._distance = 0.0 if layer == GROUND_LAYER else math.hypot(x - self._eye[0], z - self._eye[2])

    def _add(self, shape: str, index: int, material: Material, normal: Any, centre: Any, over: int) -> None:
        depth = math.dist(centre, self._eye) if self._layer == OBJECT_LAYER and over == 0 else 0.0
        self._keys.append((self._layer, -self._distance, self._object, over, -depth, len(self.materials)))
        self._shapes.append((shape, index))
        self.materials.append(material)
        self.normals.append(normal)
        self.centres.append(centre)
        self.objects.append(self._object)
        self.flat.append(self._layer == GROUND_LAYER)

    def shows(self, point: Point, normal: Point) -> bool:
        """Whether the camera is in front of the plane through ``point``."""
        (ex, ey, ez), (x, y, z), (nx, ny, nz) = self._eye, point, normal
        return nx * (ex - x) + ny * (ey - y) + nz * (ez - z) > 0

    def face(self, points: list[Point], normal: Point, material: Material, *, over: int = 0) -> None:
        """Add a flat polygon.

        Args:
            points: World points.
            normal: Outward unit normal; a face seen from behind is left out.
            material: Its material.
            over: Parts of one object with a higher number are painted later; equal ones far to near.
        """
        if not self.shows(points[0], normal):
            return
        self._polygons.append(points)
        count = len(points)
        x, y, z = (sum(axis) / count for axis in zip(*points, strict=True))
        self._add("polygon", len(self._polygons) - 1, material, normal, (x, y, z), over)

    def capsule(self, a: Any, b: Any, ra: float, rb: float, material: Material, *, over: int = 0) -> None:
        """Add a limb: the hull of two balls at ``a`` and ``b`` (world points) with radii in metres."""
        self._capsules.append((*a, *b, ra, rb))
        middle = [(p + q) / 2 for p, q in zip(a, b, strict=True)]
        self._add("capsule", len(self._capsules) - 1, material, self._towards_eye(middle), middle, over)

    def ball(self, centre: Any, radius: float, material: Material, outline: Any = 1.0, *, over: int = 0) -> None:
        """Add a ball; ``outline`` (14 factors) makes its edge irregular."""
        self._balls.append((*centre, radius))
        self._outlines.append(np.broadcast_to(outline, _TURN.shape))
        self._add("ball", len(self._balls) - 1, material, self._towards_eye(centre), list(centre), over)

    def _towards_eye(self, point: Any) -> tuple[float, float, float]:
        """Mean normal of the visible half of a round part, tilted up."""
        x, y, z = (e - p for e, p in zip(self._eye, point, strict=True))
        length = math.sqrt(x * x + y * y + z * z) + 1e-9
        x, y, z = x / length, y / length + 0.6, z / length
        length = math.sqrt(x * x + y * y + z * z) + 1e-9
        return (x / length, y / length, z / length)

    def paint(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Draw all parts, far to near, over ``labels`` (H, W): label 1 + i where part i is seen."""
        image = Image.fromarray(labels)
        draw = ImageDraw.Draw(image)
        outlines = {
            "polygon": self._polygon_outlines(self._polygons),
            "capsule": self._capsule_outlines(),
            "ball": self._ball_outlines(),
        }
        order = sorted(range(1, len(self._keys)), key=self._keys.__getitem__)  # part 0 is in ``labels``
        for number in order:
            shape, index = self._shapes[number]
            outline = outlines[shape][index]
            if outline is not None:
                draw.polygon(outline, fill=FIRST_LABEL + number)
        return np.array(image, dtype=np.int32)

    def shadows(self, sun: Floats, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draw what the parts cast on the ground: (H, W) uint8, 255 in full shadow."""
        image = Image.new("L", (size[1], size[0]))
        draw = ImageDraw.Draw(image)
        slant = np.array([sun[0] / sun[1], 1.0, sun[2] / sun[1]])
        across = np.array([sun[2], 0.0, -sun[0]]) / math.hypot(sun[0], sun[2])
        casts: list[Floats] = []
        for (shape, index), flat in zip(self._shapes, self.flat, strict=True):
            if flat:
                continue
            if shape == "polygon":
                points = np.array(self._polygons[index])
                casts.append(points - points[:, 1:2] * slant)
            elif shape == "capsule":
                x = self._capsules[index]
                ends = np.array([x[0:3], x[3:6]])
                ends = ends - ends[:, 1:2] * slant
                side = across * np.array([[x[6]], [x[7]]])
                casts.append(np.concatenate([ends + side, (ends - side)[::-1]]))
            else:
                centre, radius = np.array(self._balls[index][:3]), self._balls[index][3]
                turn = _TURN[::2]
                disc = across * np.cos(turn)[:, None] + np.array([sun[0], 0, sun[2]]) * np.sin(turn)[:, None] / max(
                    sun[1], 0.3
                )
                casts.append((centre - centre[1] * slant) + disc * radius)
        for outline in self._polygon_outlines(casts):
            if outline is not None:
                draw.polygon(outline, fill=255)
        return np.array(image)

    def _polygon_outlines(self, polygons: Sequence[Sequence[Point] | Floats]) -> list[list[float] | None]:
        if not polygons:
            return []
        corners = np.array([point for polygon in polygons for point in polygon])
        local = (corners - self.camera.eye) @ self.camera.axes.T
        pixels = self.camera.to_pixels(local).ravel().tolist()
        ends = np.cumsum([len(polygon) for polygon in polygons]).tolist()
        nearest = np.minimum.reduceat(local[:, 2], [0, *ends[:-1]])
        farthest = np.maximum.reduceat(local[:, 2], [0, *ends[:-1]])
        outlines: list[list[float] | None] = []
        start = 0
        for end, near, far in zip(ends, nearest.tolist(), farthest.tolist(), strict=True):
            if near >= NEAR:
                outlines.append(pixels[2 * start : 2 * end])
            elif far < NEAR:
                outlines.append(None)
            else:
                cut = self.camera.clip_near(local[start:end])
                outlines.append(self.camera.to_pixels(cut).ravel().tolist() if len(cut) > 2 else None)
            start = end
        return outlines

    def _capsule_outlines(self) -> list[list[float] | None]:
        if not self._capsules:
            return []
        values = np.array(self._capsules)
        (a, near_a), (b, near_b) = self.camera.project(values[:, :3]), self.camera.project(values[:, 3:6])
        radius_a = self.camera.focal * values[:, 6] / np.maximum(near_a, NEAR)
        radius_b = self.camera.focal * values[:, 7] / np.maximum(near_b, NEAR)
        angle = np.arctan2(b[:, 1] - a[:, 1], b[:, 0] - a[:, 0])[:, None] + _CAP - math.pi / 2
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=2)
        outline = np.concatenate(
            [b[:, None] + circle * radius_b[:, None, None], a[:, None] - circle * radius_a[:, None, None]], axis=1
        )
        return self._rows(outline, np.minimum(near_a, near_b))

    def _ball_outlines(self) -> list[list[float] | None]:
        if not self._balls:
            return []
        values = np.array(self._balls)
        centre, near = self.camera.project(values[:, :3])
        radius = self.camera.focal * values[:, 3] / np.maximum(near, NEAR)
        factor = np.array(self._outlines) * radius[:, None]
        circle = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
        return self._rows(centre[:, None] + factor[..., None] * circle, near)

    @staticmethod
    def _rows(outline: Floats, near: Floats) -> list[list[float] | None]:
        rows = outline.reshape(len(outline), -1).tolist()
        return [row if z >= NEAR else None for row, z in zip(rows, near.tolist(), strict=True)]
