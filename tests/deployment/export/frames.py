"""Frames of any size and type, with contrast, noise and something hot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TYPES = ("uint8", "int32", "float32")

#: Odd and tiny ones, whole patches of 14 and 16, wide and tall ones.
SIZES = (
    (1, 2), (2, 1), (3, 5), (7, 7), (8, 8), (13, 14), (14, 28), (15, 17), (16, 16), (17, 16),
    (28, 42), (31, 33), (32, 32), (32, 33), (33, 32), (37, 53), (40, 100), (42, 42), (48, 64), (50, 63),
    (63, 65), (64, 64), (64, 80), (65, 63), (70, 70), (96, 128), (100, 40), (113, 97), (128, 97), (150, 200),
)  # fmt: skip


def make_frame(size: tuple[int, int], kind: str, seed: int = 0) -> npt.NDArray[Any]:
    """Return a frame ``(H, W)``, uint8, int32 counts, or float32 Kelvin."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    scene = 30 * np.sin(x / 9 + seed) + 20 * np.cos(y / 7) + rng.normal(0, 3, size)
    scene += 60 * ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(size) / 4) ** 2)
    values = {"uint8": np.clip(scene + 100, 0, 255), "int32": 7000 + 9 * scene, "float32": 300 + scene / 10}
    return values[kind].astype(kind)
