"""From the surfaces of a scene to its thermal radiation, its colours and its mask."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unip.data.images.filters import blur, smooth
from unip.data.synthetic.materials import SKY
from unip.data.synthetic.parts import FIRST_LABEL, SKY_LABEL, Parts
from unip.data.synthetic.weather import Weather, brightness, radiance

Image32 = NDArray[np.float32]

OVERSAMPLING = 2
_TILE = 512  # samples of the noise tile along one side, a power of two
_GRID = 4  # samples across one blob of noise
_LAMP = np.array((1.0, 0.78, 0.5), dtype=np.float32)  # colour of lamps


@functools.lru_cache(maxsize=1)
def _noise_tile() -> Image32:
    """Smooth periodic noise of unit variance."""
    noise = np.random.Generator(np.random.PCG64(20250502)).standard_normal((_TILE, _TILE))
    frequency = np.fft.fftfreq(_TILE)
    envelope = np.exp(-0.5 * (frequency * _GRID * 2.2) ** 2)
    noise = np.fft.ifft2(np.fft.fft2(noise) * envelope[:, None] * envelope[None]).real
    tile: Image32 = np.asarray(noise / noise.std(), dtype=np.float32)
    tile.flags.writeable = False
    return tile


def _noise(u: Image32, v: Image32, scale: float) -> Image32:
    """Noise with blobs of ``scale`` in the units of ``u`` and ``v``, bilinear between samples."""
    tile = _noise_tile().ravel()
    a, b = u * np.float32(_GRID / scale), v * np.float32(_GRID / scale)
    a0, b0 = np.floor(a), np.floor(b)
    fa, fb = a - a0, b - b0
    i0 = a0.astype(np.int32) & (_TILE - 1)
    j0 = b0.astype(np.int32) & (_TILE - 1)
    i1, j1 = (i0 + 1) & (_TILE - 1), (j0 + 1) & (_TILE - 1)
    top, bottom = j0 * _TILE, j1 * _TILE
    upper = tile[top + i0] * (1 - fa) + tile[top + i1] * fa
    lower = tile[bottom + i0] * (1 - fa) + tile[bottom + i1] * fa
    return np.asarray(upper * (1 - fb) + lower * fb, dtype=np.float32)


@dataclass(frozen=True)
class Rendering:
    """What the two cameras look at.

    Attributes:
        temperature: Apparent temperature in Kelvin, float32 (H, W).
        visible: uint8 (H, W, 3).
        mask: Class ids, uint8 (H, W).
    """

    temperature: Image32
    visible: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def _mean(image: Image32) -> Image32:
    """Average the OVERSAMPLING x OVERSAMPLING samples of each pixel."""
    mean = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) * np.float32(0.25)
    return np.asarray(mean, dtype=np.float32)


def render(parts: Parts, weather: Weather, rng: np.random.Generator) -> Rendering:
    """Draw a scene.

    Args:
        parts: Its surfaces, with a camera of OVERSAMPLING times the frame's size.
        weather: Light, air and sky.
        rng: Source of texture and of the visible camera's noise.
    """
    rays2 = parts.camera.rays()
    labels2 = parts.paint(np.where(rays2[..., 1] < 0, FIRST_LABEL, SKY_LABEL).astype(np.int32))
    rays = np.ascontiguousarray(rays2[::2, ::2])
    table = _Table(parts, weather)
    labels = labels2[::2, ::2]
    sky_share = _mean((labels2 == SKY_LABEL).astype(np.float32))
    place = _Place(parts, rays, labels, table, rng)
    shadow = _shadow(parts, weather, place)
    cloud = _clouds(rays, weather, rng)
    temperature = _temperature(labels2, rays, table, place, shadow, cloud, sky_share, weather)
    visible = _visible(parts, labels2, rays, table, place, shadow, cloud, sky_share, weather, rng)
    return Rendering(temperature, visible, _mask(table.label[labels2]))


def _mask(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class of most samples of a pixel; of two equal shares the thing wins over what is behind it."""
    samples = np.stack([classes[::2, ::2], classes[1::2, ::2], classes[::2, 1::2], classes[1::2, 1::2]])
    samples.sort(axis=0)
    return np.ascontiguousarray(samples[2])


class _Table:
    """Values of every label: row 0 is the sky, row 1 + i is part i."""

    def __init__(self, parts: Parts, weather: Weather) -> None:
        rows = np.array(parts.materials, dtype=np.float64)
        normal = np.array(parts.normals)
        centre = np.array(parts.centres, dtype=np.float64)
        up = np.maximum(normal[:, 1], 0.0)
        lit = np.maximum(normal @ weather.sun, 0.0)
        self.solar = weather.sunshine * rows[:, 2] * lit
        sky_loss = rows[:, 3] * up * weather.clear * (1.0 if weather.night else 0.35)
        # Diffuse daylight warms too, also under clouds.
        diffuse = 0.0 if weather.night else 0.12 * rows[:, 2] * (0.5 + 0.5 * up)
        own = weather.air + rows[:, 1] + self.solar + diffuse - sky_loss
        seen_sky = 0.5 + 0.5 * normal[:, 1]
        around = seen_sky * weather.sky_mean() + (1 - seen_sky) * radiance(weather.air)
        emitted = rows[:, 4] * radiance(own) + (1 - rows[:, 4]) * around

        def column(values: object, first: float = 0.0) -> Image32:
            return np.concatenate([[first], np.asarray(values, dtype=np.float64)]).astype(np.float32)

        self.label = column(rows[:, 0], SKY).astype(np.uint8)
        self.radiance = column(emitted)
        self.sun_gain = column(self.solar)
        self.grain, self.pattern = column(rows[:, 8]), column(rows[:, 9])
        self.albedo = np.stack([column(np.minimum(rows[:, i], 0.9)) for i in (5, 6, 7)], axis=1)
        self.glow = column(rows[:, 10])
        self.glow_red = column(rows[:, 11])
        self.lit, self.up = column(lit), column(up)
        self.flat = np.concatenate([[False], np.array(parts.flat)])
        self.centre = np.concatenate([np.zeros((1, 3)), centre]).astype(np.float32)
        self.distance = column(np.linalg.norm(centre - parts.camera.eye, axis=1), 1e4)
        self.object = column(parts.objects)


class _Place:
    """Where the surface seen by each pixel is: distance, texture coordinates and texture, all (H, W)."""

    def __init__(
        self, parts: Parts, rays: Image32, labels: NDArray[np.int32], table: _Table, rng: np.random.Generator
    ) -> None:
        camera = parts.camera
        self.labels = labels
        self.flat = table.flat[labels]
        down = np.minimum(rays[..., 1], np.float32(-1e-3))
        to_ground = np.float32(-camera.eye[1]) / down
        self.distance = np.where(self.flat, np.minimum(to_ground, 3000.0), table.distance[labels]).astype(np.float32)
        eye = camera.eye.astype(np.float32)
        self.world = eye + rays * self.distance[..., None]
        # Ground texture lies on the ground; on objects it faces the camera, other for each object.
        right, up, _ = camera.axes.astype(np.float32)
        phase = table.object[labels] * np.float32(7.31)
        u = np.where(self.flat, self.world[..., 0], self.world @ right + phase)
        v = np.where(self.flat, self.world[..., 2], self.world @ up + 0.37 * phase)
        shift = rng.uniform(0, 1000, 2).astype(np.float32)
        u, v = (u + shift[0]).astype(np.float32), (v + shift[1]).astype(np.float32)
        footprint = self.distance * np.float32(OVERSAMPLING / camera.focal)
        footprint = np.where(self.flat, footprint * np.clip(0.5 / -down, 1.0, 12.0), footprint)
        octaves = []
        for scale in (0.12, 0.5, 2.2, 11.0):
            weight = np.clip(scale / footprint - 0.6, 0.0, 1.0).astype(np.float32)
            octaves.append(_noise(u, v, scale) * weight)
        self.octaves = octaves


def _shadow(parts: Parts, weather: Weather, place: _Place) -> Image32:
    """Share of the direct sun that is kept from the ground, 0 to 1."""
    height, width = parts.camera.size
    if weather.sunshine < 0.05:
        return np.zeros((height // 2, width // 2), dtype=np.float32)
    cast = np.asarray(parts.shadows(weather.sun, (height, width)), dtype=np.float32)
    return np.asarray(_mean(cast) * np.float32(1 / 255) * place.flat, dtype=np.float32)


def _clouds(rays: Image32, weather: Weather, rng: np.random.Generator) -> Image32:
    """Opacity of the clouds, on a layer overhead, so they crowd together at the horizon."""
    shift = rng.uniform(0, 500, 2).astype(np.float32)
    stretch = float(rng.uniform(1.0, 3.0))
    if weather.clouds < 0.03 or rays[..., 1].max() <= 0:
        return np.zeros(rays.shape[:2], dtype=np.float32)
    lift = np.maximum(rays[..., 1], np.float32(0.02)) + np.float32(0.08)
    u, v = rays[..., 0] / lift + shift[0], rays[..., 2] / lift + shift[1]
    field = 0.6 * _noise(u, v, 2.0 * stretch) + 0.3 * _noise(u, v, 0.7 * stretch) + 0.15 * _noise(u, v, 0.25)
    threshold = 1.4 - 2.8 * weather.clouds
    return np.asarray(np.clip((field - 0.5 * threshold) * 1.6 + 0.3, 0.0, 1.0), dtype=np.float32)


def _temperature(
    labels2: NDArray[np.int32],
    rays: Image32,
    table: _Table,
    place: _Place,
    shadow: Image32,
    cloud: Image32,
    sky_share: Image32,
    weather: Weather,
) -> Image32:
    """Apparent temperature: emitted and reflected radiance, dimmed by the air, which radiates itself."""
    fine, small, large, huge = place.octaves
    solid = 1 - sky_share
    surface = _mean(table.radiance[labels2]) / np.maximum(solid, 0.25)
    kelvin = brightness(np.maximum(surface, np.float32(1e-5)))
    grain = table.grain[place.labels]
    kelvin += grain * (0.3 * fine + 0.45 * small + 0.45 * large + 0.45 * huge * place.flat)
    # A shadow has not been there forever: the ground keeps a part of the sun's heat.
    kelvin -= 0.6 * shadow * table.sun_gain[place.labels]
    through = np.exp(np.float32(-weather.extinction) * place.distance)
    scene = through * radiance(kelvin) + (1 - through) * np.float32(radiance(weather.air))
    sky = weather.sky_radiance(np.maximum(rays[..., 1], 0.0), cloud)
    return np.asarray(brightness(solid * scene + sky_share * sky), dtype=np.float32)


def _sky_colour(rays: Image32, cloud: Image32, weather: Weather) -> tuple[Image32, Image32]:
    """Colour of the visible sky (H, W, 3) and of the haze in front of far things (3,), linear."""
    height = np.clip(rays[..., 1], 0.0, 1.0)[..., None]
    if weather.night:
        zenith, horizon, white = (0.004, 0.005, 0.010), (0.018, 0.016, 0.017), (0.02, 0.018, 0.018)
    elif weather.sun[1] < 0.25:
        zenith, horizon, white = (0.12, 0.17, 0.32), (0.75, 0.45, 0.28), (0.5, 0.38, 0.36)
    else:
        zenith, horizon, white = (0.13, 0.3, 0.75), (0.62, 0.75, 0.9), (0.85, 0.87, 0.9)
    grey = 0.55 + 0.45 * (1 - weather.clouds)
    low, high = np.array(horizon, dtype=np.float32), np.array(zenith, dtype=np.float32)
    blue = high + (low - high) * np.exp(-5.0 * height).astype(np.float32)
    clouds = np.array(white, dtype=np.float32) * np.float32(grey)
    sky = blue + (clouds - blue) * cloud[..., None]
    haze = low + (clouds - low) * np.float32(weather.clouds)
    # Near the ground the air scatters light from all sides, so a coloured horizon tints it only by half.
    return sky, (0.5 * haze + 0.5 * haze.mean() * (0.8 if weather.sun[1] < 0.25 else 1.0)).astype(np.float32)


def _ground_light(parts: Parts, place: _Place) -> Image32:
    """Light of the lamps on the ground, (H, W); it changes slowly, so every other pixel will do."""
    height, width = place.labels.shape
    light = Image.fromarray(_light_at(parts, place.world[::2, ::2], level=True))
    return np.asarray(light.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def _light_at(parts: Parts, where: Image32, *, level: bool) -> Image32:
    """Light of street lamps and of the camera's own vehicle, in units of the sun.

    At world points (..., 3) of level ground, or of upright surfaces.
    """
    light = np.zeros(where.shape[:-1], dtype=np.float32)
    for lamp in parts.lamps:
        offset = np.asarray(lamp, dtype=np.float32) - where
        square = np.einsum("...c,...c->...", offset, offset) + 1.0
        slope = np.maximum(offset[..., 1] / np.sqrt(square), 0.15) if level else np.float32(0.7)
        light += np.float32(6.0) * slope / square
    if parts.camera.eye[1] < 2.6:
        ahead = (where - parts.camera.eye.astype(np.float32)) @ parts.camera.axes[2].astype(np.float32)
        light += np.float32(1.6 if level else 4.0) / (16.0 + ahead * ahead) * (ahead > 0)
    return light


def _visible(
    parts: Parts,
    labels2: NDArray[np.int32],
    rays: Image32,
    table: _Table,
    place: _Place,
    shadow: Image32,
    cloud: Image32,
    sky_share: Image32,
    weather: Weather,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """The colour image: sun, sky or lamps on textured surfaces, haze, glow, exposure, noise."""
    fine, small, large, huge = place.octaves
    sky, haze_colour = _sky_colour(rays, cloud, weather)
    low_sun = weather.sun[1] < 0.25
    sun = np.array((1.0, 0.6, 0.35) if low_sun else (1.0, 0.95, 0.86), dtype=np.float32) * np.float32(weather.sunshine)
    ambient = np.array((0.3, 0.34, 0.42), dtype=np.float32)
    ambient *= np.float32(0.012 if weather.night else 0.55 if low_sun else 0.75 + 0.4 * weather.clouds)
    light = ambient * (0.55 + 0.45 * table.up[:, None]) + sun * table.lit[:, None]
    tint = np.stack([np.ones_like(table.glow), 0.8 - 0.75 * table.glow_red, 0.5 - 0.48 * table.glow_red], axis=1)
    if weather.night:
        light = light + (_light_at(parts, table.centre, level=False) * ~table.flat)[:, None] * _LAMP
    colours = (table.albedo * light + table.glow[:, None] * tint).astype(np.float32)
    picture = np.stack([_mean(colours[:, i][labels2]) for i in range(3)], axis=-1)
    # What the ground would be without the sun, where a shadow falls.
    dark = (ambient / np.maximum(ambient + sun * np.float32(max(weather.sun[1], 0.0)), 1e-6)).astype(np.float32)
    picture *= 1 - shadow[..., None] * (1 - dark)
    if weather.night:
        lamps = _ground_light(parts, place)[..., None] * _LAMP
        ground = table.albedo * table.flat[:, None]
        picture += np.stack([_mean(ground[:, i][labels2]) for i in range(3)], axis=-1) * lamps
    pattern = table.pattern[place.labels]
    factor = 1 + pattern * (0.8 * fine + 0.7 * small + 0.4 * large + 0.3 * huge)
    picture *= np.clip(factor, 0.15, 2.5)[..., None]
    clear = np.exp(np.float32(-weather.haze) * place.distance)[..., None]
    solid = (1 - sky_share)[..., None]
    picture = picture * clear + haze_colour * (1 - clear) * solid + sky_share[..., None] * sky
    bright = np.maximum(picture.max(axis=2) - 0.9, 0.0)
    if weather.night and bright.max() > 0:  # the lens spreads the light of lamps
        halo = smooth(bright.astype(np.float32), max(3.0, rays.shape[1] / 60))
        picture += np.maximum(halo, 0)[..., None] * np.array((0.5, 0.38, 0.22), dtype=np.float32)
    return _develop(picture.astype(np.float32), weather, rng)


def _develop(picture: Image32, weather: Weather, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Expose, add sensor noise and encode for the screen."""
    level = float(np.percentile(picture, 80.0 if not weather.night else 93.0))
    target = float(rng.uniform(0.14, 0.26)) if weather.night else float(rng.uniform(0.42, 0.62))
    gain = min(target / max(level, 1e-4), 6.0 if weather.night else 3.0)
    picture = blur(picture, 0.45) * np.float32(gain)
    noise = 0.004 + 0.0035 * math.sqrt(gain) * (1.5 if weather.night else 0.5)
    root = np.sqrt(np.maximum(picture, 0.0))  # close to the screen's own curve, and to photon noise
    root += np.float32(noise) * rng.standard_normal(picture.shape, dtype=np.float32)
    root = np.where(root > 0.8, 0.8 + (1 - np.exp(-(root - 0.8) * 4)) * 0.2, root)  # a soft shoulder
    return np.asarray(np.rint(np.clip(root, 0, 1) * 255), dtype=np.uint8)
