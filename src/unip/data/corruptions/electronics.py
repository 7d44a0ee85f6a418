"""What happens between the detector and the file: range, gain control, polarity and compression.

Gain control maps a span of counts to 256 levels (F. Branchitta, M. Diani, G. Corsini and A. Porta, "Dynamic-range
compression and contrast enhancement in infrared imaging systems", Optical Engineering 47(7), 2008, on the linear and
the equalising kinds). A frame that another span was chosen for is the frame we have under a straight curve, rounded
to whole levels again.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from unip.data.corruptions.corruption import Grey8, apply_curve, level_below
from unip.data.images.formats import open_image

LEVELS = np.arange(256, dtype=np.float64)


def low_contrast(image: Grey8, contrast: float, rng: np.random.Generator) -> Grey8:
    """A span chosen too wide around the same mean, as of a fixed range: fewer levels, less contrast.

    Source: linear gain control as in Branchitta et al. (2008).

    Args:
        image: ``(H, W)``.
        contrast: What is left of it, 0 to 1.
        rng: Not used.
    """
    mean = float(image.mean())
    return apply_curve(mean + contrast * (LEVELS - mean), image)


def agc_pumping(image: Grey8, widening: float, rng: np.random.Generator) -> Grey8:
    """Gain control that makes room for something hot or cold: the scene shrinks to one part of the range.

    Source: linear gain control between the least and the greatest count, as in Branchitta et al. (2008). Where in the
    range the scene comes to lie is drawn: at the bottom beside something very hot, at the top beside something very
    cold.

    Args:
        image: ``(H, W)``.
        widening: The new span over the old one, above 1.
        rng: Of the frame.
    """
    free = 1.0 - 1.0 / widening
    return apply_curve(255.0 * free * rng.uniform() + LEVELS / widening, image)


def saturation(image: Grey8, span: float, rng: np.random.Generator) -> Grey8:
    """A span chosen too narrow around the median: what is hotter turns white, what is colder black.

    Source: the linear response that ends at saturation, of EMVA Standard 1288 (European Machine Vision Association,
    release 4.0, 2021).

    Args:
        image: ``(H, W)``.
        span: What is left of it, 0 to 1.
        rng: Not used.
    """
    median = level_below(image, 0.5)
    return apply_curve(median + (LEVELS - median) / span, image)


def polarity(image: Grey8, amount: float, rng: np.random.Generator) -> Grey8:
    """Black-hot instead of white-hot, a switch of nearly every thermal camera.

    Args:
        image: ``(H, W)``.
        amount: Not used: frames are flipped or they are not.
        rng: Not used.
    """
    return apply_curve(255.0 - LEVELS, image)


def jpeg(image: Grey8, quality: float, rng: np.random.Generator) -> Grey8:
    """Lossy compression (ITU-T T.81, 1992) as on recorders and radio links.

    Args:
        image: ``(H, W)``.
        quality: Of libjpeg, 1 to 100.
        rng: Not used.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=round(quality))
    return np.array(open_image(buffer))
