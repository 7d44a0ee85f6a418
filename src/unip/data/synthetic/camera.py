"""A pinhole camera over flat ground, and polygons clipped and projected into its frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEAR = 0.4  # metres; what is closer than this to the image plane is cut away


@dataclass(frozen=True)
class Camera:
    """A camera in a world with x to the right, y up and z forward, in metres; the ground is y = 0.

    Args:
        eye: Position, shape (3,).
        axes: Rows right, up, forward as unit vectors, shape (3, 3).
        focal: Focal length in pixels.
        size: Height and width of the frame in pixels.
    """

    eye: Floats
    axes: Floats
    focal: float
    size: tuple[int, int]

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Project points.

        Args:
            points: World points, shape (N, 3).

        Returns:
            Pixel coordinates x, y, shape (N, 2), and depth along the optical axis in metres, shape (N,).
        """
        local = (points - self.eye) @ self.axes.T
        depth = local[:, 2]
        return self.to_pixels(local), depth

    def to_pixels(self, local: Floats) -> Floats:
        """Project points given in camera coordinates (N, 3) to pixels (N, 2)."""
        scale = self.focal / np.maximum(local[:, 2:], 1e-3)
        centre = np.array([self.size[1] / 2, self.size[0] / 2])
        pixels = centre + local[:, :2] * scale * np.array([1.0, -1.0])
        return np.asarray(np.clip(pixels, -30000.0, 30000.0))  # far outside: Pillow keeps coordinates as 32-bit

    def rays(self, step: int = 1) -> NDArray[np.float32]:
        """Directions of the viewing rays in the world, unit length, shape (H // step, W // step, 3)."""
        height, width = self.size
        x = (np.arange(step / 2, width, step) - width / 2) / self.focal
        y = (height / 2 - np.arange(step / 2, height, step)) / self.focal
        right, up, forward = self.axes
        rays = (forward + y[:, None] * up)[:, None, :] + x[None, :, None] * right
        rays /= np.sqrt(np.einsum("hwc,hwc->hw", rays, rays))[..., None]
        return np.asarray(rays, dtype=np.float32)

    def pixels_per_metre(self, point: Floats) -> float:
        """Size in pixels of one metre at ``point``, shape (3,)."""
        return self.focal / max(NEAR, float(np.linalg.norm(point - self.eye)))

    def sees(self, point: Floats, radius: float = 0.0) -> bool:
        """Whether a ball around ``point`` (3,) with ``radius`` metres reaches into the frame."""
        x, y, depth = (self.axes @ (point - self.eye)).tolist()
        if depth + radius < NEAR:
            return False
        tall = self.size[0] / 2 / self.focal
        wide = self.size[1] / 2 / self.focal
        # Distance from the frustum's side planes, whose normals are (1, wide) and (1, tall), scaled.
        return bool(
            abs(x) - wide * depth <= radius * math.hypot(1, wide)
            and abs(y) - tall * depth <= radius * math.hypot(1, tall)
        )

    def clip_near(self, local: Floats) -> Floats:
        """Cut a polygon in camera coordinates (N, 3) at the near plane (Sutherland-Hodgman, one plane)."""
        kept: list[Floats] = []
        for a, b in zip(local, np.roll(local, -1, axis=0), strict=True):
            if a[2] >= NEAR:
                kept.append(a)
            if (a[2] >= NEAR) != (b[2] >= NEAR):
                kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
        return np.array(kept).reshape(-1, 3)


def make_camera(
    eye: tuple[float, float, float],
    *,
    yaw: float,
    pitch: float,
    roll: float,
    field: float,
    size: tuple[int, int],
) -> Camera:
    """Make a camera.

    Args:
        eye: Position in metres.
        yaw: Turn to the right from +z, radians.
        pitch: Tilt downwards, radians.
        roll: Turn about the optical axis, radians.
        field: Horizontal field of view, radians.
        size: Height and width in pixels.
    """
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    forward = np.array([sy * cp, -sp, cy * cp])
    right = np.array([cy, 0.0, -sy])
    up = np.cross(forward, right)
    cr, sr = math.cos(roll), math.sin(roll)
    axes = np.stack([cr * right + sr * up, cr * up - sr * right, forward])
    return Camera(np.array(eye), axes, size[1] / 2 / math.tan(field / 2), size)


def draw_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    """Choose a viewpoint: at street level (half of the scenes), from a mast, or from a drone (no sky).

    Args:
        rng: Source of the choice.
        size: Height and width of the frame in pixels.
    """
    kind = rng.uniform()
    roll = math.radians(float(rng.normal(0, 1.0)))
    if kind < 0.55:
        eye = (float(rng.uniform(-6.5, 6.5)), float(rng.uniform(1.3, 2.6)), 0.0)
        yaw = math.radians(
            float(rng.normal(0, 10) if rng.uniform() < 0.75 else rng.choice([-1, 1]) * rng.uniform(15, 50))
        )
        pitch = math.radians(float(rng.uniform(-3.0, 4.0)))
        return make_camera(
            eye, yaw=yaw, pitch=pitch, roll=roll, field=math.radians(float(rng.uniform(32, 62))), size=size
        )
    if kind < 0.72:
        height, pitch = float(rng.uniform(4, 11)), math.radians(float(rng.uniform(6, 24)))
        yaw = math.radians(float(rng.uniform(-40, 40)))
        field_of_view = math.radians(float(rng.uniform(30, 55)))
    else:
        height, pitch = float(rng.uniform(16, 48)), math.radians(float(rng.uniform(42, 88)))
        yaw = float(rng.uniform(0, 2 * math.pi))
        field_of_view = math.radians(float(rng.uniform(30, 50)))
    # Look at a point of the street near the world's origin.
    reach = min(height / math.tan(pitch), 45.0)
    eye = (float(rng.uniform(-7, 7)) - reach * math.sin(yaw), height, -reach * math.cos(yaw))
    return make_camera(eye, yaw=yaw, pitch=pitch, roll=roll, field=field_of_view, size=size)
