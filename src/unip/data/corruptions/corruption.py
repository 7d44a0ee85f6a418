"""What a corruption is, and what Kelvin are worth in a frame that is 8-bit grey already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.runtime.seeds import seed_for

Grey8 = npt.NDArray[np.uint8]
Image32 = npt.NDArray[np.float32]
CorruptFunction = Callable[[Grey8, float, np.random.Generator], Grey8]

# An 8-bit frame does not say how many Kelvin its gain control has spread over its levels. Ten is an assumption: a
# scene without sun. In twice as many Kelvin, half as many levels of noise would be seen.
SPAN_KELVIN = 10.0
LEVELS_PER_KELVIN = 255.0 / SPAN_KELVIN


@dataclass(frozen=True)
class Corruption:
    """A corruption of frames, in five severities.

    Calling it is a pure function of image, severity and seed. Random numbers are the same for every severity: the same
    noise grows, more pixels die.

    Attributes:
        function: What is done to ``(H, W)`` uint8 grey, with a parameter and a source of random numbers.
        by_severity: The parameter for severities 1 to 5.
        per_camera: Belongs to the camera: all its frames are corrupted the same way, with one seed.
    """

    function: CorruptFunction
    by_severity: tuple[float, float, float, float, float]
    per_camera: bool = False

    def __call__(self, image: Grey8, severity: int, seed: int = 0) -> Grey8:
        """Corrupt one image.

        Args:
            image: ``(H, W)`` or ``(H, W, 3)`` uint8, never written to. Three channels that differ are each corrupted
                alone, with the same random numbers.
            severity: 1 to 5; 0 gives ``image`` itself.
            seed: Of the frame, or of the camera where it is ``per_camera``.

        Returns:
            uint8 of the same shape.
        """
        if not 0 <= severity <= len(self.by_severity):
            raise ValueError(f"severity is {severity}, not 0 to {len(self.by_severity)}")
        if severity == 0:
            return image

        def corrupt(grey: Grey8) -> Grey8:
            return self.function(grey, self.by_severity[severity - 1], np.random.default_rng(seed_for(seed)))

        if image.ndim == 2:
            return corrupt(image)
        if (image == image[..., :1]).all():
            return np.repeat(corrupt(np.ascontiguousarray(image[..., 0]))[..., None], 3, axis=2)
        return np.stack([corrupt(np.ascontiguousarray(image[..., channel])) for channel in range(3)], axis=-1)


def clip_to_uint8(levels: npt.NDArray[Any]) -> Grey8:
    """Round to uint8, values beyond 0..255 cut off."""
    return np.asarray(np.rint(np.clip(levels, 0.0, 255.0)), dtype=np.uint8)


def apply_curve(curve: npt.NDArray[Any], image: Grey8) -> Grey8:
    """Replace level i by ``curve[i]``; ``curve`` is ``(256,)``, rounded and cut off as by :func:`clip_to_uint8`."""
    return np.take(clip_to_uint8(curve), image)


def level_below(image: Grey8, share: float) -> int:
    """Return the least level that at least ``share`` of the pixels do not exceed."""
    return int(np.searchsorted(np.cumsum(np.bincount(image.ravel(), minlength=256)), share * image.size))


def smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> Image32:
    """Draw a field of about unit spread that varies over a quarter of the frame, ``shape`` being ``(H, W)``."""
    knots = Image.fromarray(rng.standard_normal((4, 5), dtype=np.float32))
    return np.asarray(knots.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float32)
