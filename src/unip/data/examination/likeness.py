"""How unlike frames are to data that models know: statistics of levels and detail, in robust z-scores.

``likeness.json`` holds the median and the spread (1.4826 times the median absolute deviation) of each feature over the
frames of a data set: statistics only, no images. ``benchmarks/doctor.py --references`` made it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from unip.data.examination.records import Features, Likeness
from unip.data.images.decoding import Pixels8
from unip.data.images.quality import sharpness

OCTAVES = 4  # scales of detail that the slope is fitted to
LEAST_SPREAD = {
    "gradient": 0.5,
    "slope": 0.15,
    "side": 0.5,
}  # so that a uniform set makes no other remote
LEAST_LEVELS = 2.0  # of the other features: levels
MOST_Z = 10.0  # one feature tells no more than that
ALIKE, UNLIKE = 1.5, 3.0  # distances

NAMES = {
    "level_05": "dark end",
    "level_25": "lower quartile",
    "level_50": "median level",
    "level_75": "upper quartile",
    "level_95": "bright end",
    "contrast": "contrast",
    "gradient": "fine detail",
    "slope": "smoothness",
    "side": "frame size",
}


def features_of(grey: Pixels8, counts: npt.NDArray[np.int64]) -> Features:
    """Measure a frame as a model sees it.

    Args:
        grey: ``(H, W)`` uint8.
        counts: Its histogram, ``(256,)``.
    """
    ends = np.cumsum(counts) / max(1, counts.sum())
    levels = [float(np.searchsorted(ends, share)) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
    at = np.arange(len(counts))
    mean = float(counts @ at) / max(1, counts.sum())
    variance = float(counts @ (at - mean) ** 2) / max(1, counts.sum())
    values = [*levels, variance**0.5, sharpness(grey), _slope(grey), float(np.log2(min(grey.shape)))]
    return Features(*(round(value, 3) for value in values))


def _slope(grey: Pixels8) -> float:
    """Fit by how many octaves the variance of differences grows when pixels are averaged two by two."""
    image: npt.NDArray[np.float32] = grey.astype(np.float32)
    found = []
    for _ in range(OCTAVES):
        height, width = (side // 2 * 2 for side in image.shape)
        if min(height, width) < 4:
            break
        found.append(float(np.square(np.diff(image, axis=1)).mean() + np.square(np.diff(image, axis=0)).mean()))
        quads = image[:height, :width]
        image = (quads[::2, ::2] + quads[1::2, ::2] + quads[::2, 1::2] + quads[1::2, 1::2]) * np.float32(0.25)
    if len(found) < 2:
        return 0.0
    return float(np.polyfit(np.arange(len(found)), np.log2(np.maximum(found, 1e-3)), 1)[0])


@cache
def references() -> dict[str, dict[str, tuple[float, float]]]:
    """Return median and spread of each feature, by data set."""
    stored = json.loads(files("unip.data.examination").joinpath("likeness.json").read_text(encoding="utf-8"))
    return {name: {key: (float(m), float(s)) for key, (m, s) in kept.items()} for name, kept in stored.items()}


def summarise(frames: Sequence[Features]) -> dict[str, tuple[float, float]]:
    """Return median and spread of each feature over some frames."""
    found = {}
    for field in fields(Features):
        values = np.array([getattr(frame, field.name) for frame in frames])
        middle = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - middle)))
        found[field.name] = (round(middle, 3), round(max(spread, LEAST_SPREAD.get(field.name, LEAST_LEVELS)), 3))
    return found


def likeness(frames: Sequence[Features]) -> tuple[Likeness, ...]:
    """Compare frames with each known data set, the nearest first."""
    here = {name: float(np.median([getattr(frame, name) for frame in frames])) for name in NAMES}
    found = []
    for data, known in references().items():
        scores = {name: (here[name] - middle) / spread for name, (middle, spread) in known.items()}
        cut = np.clip(list(scores.values()), -MOST_Z, MOST_Z)
        distance = float(np.sqrt(np.mean(cut**2)))
        rounded = {name: round(score, 2) for name, score in scores.items()}
        found.append(Likeness(data, round(distance, 2), _words(data, distance, scores), rounded))
    return tuple(sorted(found, key=lambda one: one.distance))


def _words(data: str, distance: float, scores: dict[str, float]) -> str:
    if distance < ALIKE:
        return f"about like the frames of {data}"
    name = max(scores, key=lambda key: abs(scores[key]))
    most = f"most of all in {NAMES[name]} ({scores[name]:+.1f} robust standard deviations)"
    return f"{'unlike' if distance >= UNLIKE else 'somewhat unlike'} the frames of {data}, {most}"


def as_stored(summaries: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Return the text of ``likeness.json``."""
    lines = [f' "{name}": {json.dumps(kept)}' for name, kept in summaries.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
