"""Corruptions of infrared frames, each from a model of the camera or of the air, in five severities.

They work on 8-bit grey, after gain control: the only frames that all data sets have.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from unip.data.corruptions.corruption import Corruption, Grey8
from unip.data.corruptions.detector import dead_pixels, fixed_pattern, stripes, temporal_noise
from unip.data.corruptions.electronics import agc_pumping, jpeg, low_contrast, polarity, saturation
from unip.data.corruptions.optics import defocus, motion, resolution
from unip.data.corruptions.weather import fog, rain
from unip.runtime.seeds import seed_for

CORRUPTIONS: dict[str, Corruption] = {
    "temporal_noise": Corruption(temporal_noise, (0.06, 0.12, 0.24, 0.48, 0.96)),  # Kelvin
    "fixed_pattern": Corruption(fixed_pattern, (0.06, 0.12, 0.24, 0.48, 0.96), per_camera=True),  # Kelvin
    "stripes": Corruption(stripes, (0.04, 0.08, 0.16, 0.32, 0.64), per_camera=True),  # Kelvin
    "dead_pixels": Corruption(dead_pixels, (0.0005, 0.002, 0.005, 0.015, 0.04), per_camera=True),  # share of the pixels
    "defocus": Corruption(defocus, (1.0, 1.5, 2.5, 4.0, 6.0)),  # radius, pixels
    "motion": Corruption(motion, (1.0, 2.0, 3.5, 6.0, 10.0)),  # pixels in a time constant
    "resolution": Corruption(resolution, (1.25, 2.0, 3.0, 4.0, 6.0)),  # old pixels in the side of a new one
    "low_contrast": Corruption(low_contrast, (0.75, 0.55, 0.4, 0.28, 0.18)),  # share of the contrast left
    "agc_pumping": Corruption(agc_pumping, (1.3, 1.7, 2.3, 3.2, 5.0)),  # ratio of spans
    "saturation": Corruption(saturation, (0.8, 0.65, 0.5, 0.35, 0.2)),  # share of the span left
    "polarity": Corruption(polarity, (1.0, 1.0, 1.0, 1.0, 1.0)),  # a switch: the same at all severities
    "jpeg": Corruption(jpeg, (50, 30, 18, 10, 5)),  # quality
    "fog": Corruption(fog, (1.0, 0.85, 0.75, 0.65, 0.55)),  # km of visibility
    "rain": Corruption(rain, (5, 12, 25, 50, 100)),  # mm/h
}

DEFAULT_SEVERITY = 3
TRAINING_SEVERITY = 3  # the worst that augmentation draws


@dataclass(frozen=True)
class CorruptFrames:
    """One corruption of one severity for the frames of one camera: ``frames(image, index)``.

    What comes out for a frame depends on ``seed`` and its index alone, so neither on batches nor on workers.
    """

    name: str
    severity: int = DEFAULT_SEVERITY
    seed: int = 0

    def __call__(self, image: Grey8, index: int) -> Grey8:
        """Corrupt the frame ``index``: ``(H, W)`` or ``(H, W, 3)`` uint8."""
        corruption = CORRUPTIONS[self.name]
        return corruption(image, self.severity, self.seed if corruption.per_camera else seed_for(self.seed, index))

    def __str__(self) -> str:
        """Return ``NAME:SEVERITY``."""
        return f"{self.name}:{self.severity}"


def parse_corruptions(texts: Iterable[str], seed: int = 0) -> tuple[CorruptFrames, ...]:
    """Read what a user asked for.

    Args:
        texts: Each ``NAME`` or ``NAME:SEVERITY``; the name ``all`` means every one. Without a severity it is 3.
        seed: Of all of them.

    Returns:
        Each once, in the order given.

    Raises:
        ValueError: A name or a severity is not known; the text says which are.
    """
    found: dict[CorruptFrames, None] = {}
    for text in texts:
        name, colon, level = text.partition(":")
        if name != "all" and name not in CORRUPTIONS:
            near = difflib.get_close_matches(name, CORRUPTIONS, n=1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown corruption {name!r}; {guess}Known: all, {', '.join(CORRUPTIONS)}")
        if colon and level not in ("1", "2", "3", "4", "5"):
            raise ValueError(f"severity of {name} must be 1, 2, 3, 4 or 5")
        severity = int(level) if colon else DEFAULT_SEVERITY
        found |= {CorruptFrames(each, severity, seed): None for each in (CORRUPTIONS if name == "all" else (name,))}
    return tuple(found)


def corrupt_some(image: Grey8, probability: float, seed: int) -> Grey8:
    """Corrupt an image, or leave it as it is, for training.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8.
        probability: Of one corruption, each as likely as the others, of severity 1 to ``TRAINING_SEVERITY``.
        seed: Of the sample: it decides all.

    Returns:
        uint8 of the same shape, ``image`` itself where nothing is done.
    """
    rng = np.random.default_rng(seed)
    if rng.random() >= probability:
        return image
    corruption = list(CORRUPTIONS.values())[rng.integers(len(CORRUPTIONS))]
    return corruption(image, int(rng.integers(1, TRAINING_SEVERITY + 1)), int(rng.integers(2**62)))
