"""Deterministic synthetic scenes: a thermal frame, the visible frame beside it and the mask of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unip.data.synthetic.camera import draw_camera
from unip.data.synthetic.config import MIN_SIDE
from unip.data.synthetic.layout import lay_out
from unip.data.synthetic.materials import SCENE_CLASSES, SCENE_PALETTE
from unip.data.synthetic.rendering import OVERSAMPLING, render
from unip.data.synthetic.sensor import Sensor, agc, draw_sensor, expose
from unip.data.synthetic.weather import Weather, draw_weather
from unip.errors import UnipError

__all__ = ["SCENE_CLASSES", "SCENE_PALETTE", "Scene", "generate_scene"]


@dataclass(frozen=True)
class Scene:
    """One paired frame of a synthetic scene, white hot.

    Attributes:
        temperature: Apparent temperature in front of the lens, Kelvin, float32 (H, W).
        thermal16: Raw 14-bit counts, uint16 (H, W).
        thermal8: The same after automatic gain control, uint8 (H, W).
        visible: RGB, uint8 (H, W, 3).
        mask: Index into SCENE_CLASSES, uint8 (H, W).
        weather: Air, sun and sky it was made with.
        sensor: The thermal camera it was made with.
    """

    temperature: NDArray[np.float32]
    thermal16: NDArray[np.uint16]
    thermal8: NDArray[np.uint8]
    visible: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    weather: Weather
    sensor: Sensor


def generate_scene(seed: int, size: tuple[int, int] = (256, 320)) -> Scene:
    """Make a scene, a pure function of its arguments.

    The same seed at another size of the same proportions shows the same place with other noise.

    Args:
        seed: Any integer from 0 on.
        size: Height and width in pixels, each at least 32; made for 96x128 to 512x640.

    Raises:
        UnipError: The seed is negative or the size too small.
    """
    height, width = size
    if seed < 0:
        raise UnipError(f"the scene's seed is {seed}", "Give an integer from 0 on.")
    if min(height, width) < MIN_SIDE:
        raise UnipError(f"a scene of {height}x{width} pixels is too small", f"Give at least {MIN_SIDE}x{MIN_SIDE}.")
    streams = [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(4)]
    weather = draw_weather(streams[0])
    camera = draw_camera(streams[1], (height * OVERSAMPLING, width * OVERSAMPLING))
    parts = lay_out(streams[1], camera, weather)
    rendering = render(parts, weather, streams[2])
    sensor = draw_sensor(streams[3])
    plateau, detail = float(streams[3].uniform(0.1, 0.75)), max(0.0, float(streams[3].uniform(-0.3, 0.9)))
    thermal16 = expose(rendering.temperature, sensor, streams[3])
    return Scene(
        temperature=rendering.temperature,
        thermal16=thermal16,
        thermal8=agc(thermal16, plateau=plateau, detail=detail),
        visible=rendering.visible,
        mask=rendering.mask,
        weather=weather,
        sensor=sensor,
    )
