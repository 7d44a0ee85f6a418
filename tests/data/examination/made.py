"""Made frames: a smooth background, sharp rectangles and a little noise, another scene in each frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.examination.fixed_defects import Camera, add_up
from unip.data.examination.frames import measure_frame
from unip.data.examination.records import FixedDefects, FrameMeasures, Symptom
from unip.data.examination.symptoms import find_symptoms

Grey8 = npt.NDArray[np.uint8]
SIZE = (120, 160)


def scene(seed: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.float64]:
    """Return levels, not rounded, from 20 to 235 as gain control would spread them."""
    rng = np.random.default_rng(seed)
    knots = Image.fromarray(rng.uniform(60, 190, (5, 6)).astype(np.float32))
    image = np.array(knots.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float64)
    for _ in range(25):
        top, left = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        height, width = rng.integers(6, 30, 2)
        image[top : top + height, left : left + width] += rng.uniform(-60, 60)
    image = np.clip(image, 30, 225) + rng.normal(0, 0.8, size)
    return np.interp(image, (image.min(), image.max()), (20, 235))


def frames(count: int = 12) -> list[Grey8]:
    return [np.rint(scene(seed)).astype(np.uint8) for seed in range(count)]


def judge(images: list[npt.NDArray]) -> tuple[list[FrameMeasures], list[FixedDefects], dict[str, Symptom]]:
    """Return the measures of frames, what stays in them, and the symptoms by kind."""
    cameras: dict[tuple[str, int, int, str], Camera] = {}
    readings = [measure_frame(image, f"set/{number}.png") for number, image in enumerate(images)]
    add_up(readings, cameras)
    measures, judged = [one.measures for one in readings], [camera.judge() for camera in cameras.values()]
    return measures, judged, {one.kind: one for one in find_symptoms(measures, judged)}


def write(folder: Path, images: list[npt.NDArray], ending: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.{ending}")
    return folder
