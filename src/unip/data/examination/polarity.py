"""White-hot or black-hot, as far as it can be known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unip.data.examination.records import FrameMeasures, Numbers, PolarityGuess
from unip.data.findings import count_negatives, two_polarities

CLEAR_TILT = 0.5  # standard deviations between top and bottom
MANY = 0.8  # of the frames

LOOK = (
    "Look at something that is surely hot (people, engines): if it is dark, give `--polarity black-hot` to "
    "`unip finetune`."
)


def guess_polarity(frames: Sequence[FrameMeasures], numbers: Numbers) -> PolarityGuess:
    """Tell the polarity of frames from what their numbers are, from their palette, or from mixed signs; else say so."""
    if numbers.kind == "temperatures":
        return PolarityGuess("white-hot", True, "Temperatures: larger is hotter.")
    if numbers.kind == "counts":
        why = "Counts: nearly all sensors count more where it is hotter. " + LOOK
        return PolarityGuess("white-hot", False, why)
    negatives = _negatives(frames)
    if negatives:
        why = f"{negatives} frames look like the negative of another one: both polarities. Separate them. {LOOK}"
        return PolarityGuess("mixed", False, why)
    coloured = sum(bool(one.palette) for one in frames)
    if coloured > len(frames) / 2:
        why = "By the palettes' convention the bright end is hot, unless the camera had inverted them. " + LOOK
        return PolarityGuess("white-hot", False, why)
    return PolarityGuess(
        None, False, f"It cannot be told from pixels, and the files do not say it. {_sky(frames)}{LOOK}"
    )


def _negatives(frames: Sequence[FrameMeasures]) -> int:
    return count_negatives(np.array([int(one.phash, 16) for one in frames if one.features.contrast], dtype=np.uint64))


def _sky(frames: Sequence[FrameMeasures]) -> str:
    tilts = np.array([one.tilt for one in frames])
    split = two_polarities(tilts)
    if split:
        dark, bright = split
        return f"In {dark} frames the top is dark, in {bright} bright: if it is sky, both polarities are there. "
    for word, share in (("dark", (tilts < -CLEAR_TILT).mean()), ("bright", (tilts > CLEAR_TILT).mean())):
        if share >= MANY:
            polarity = "white-hot" if word == "dark" else "black-hot"
            return f"The top is {word} in {share:.0%} of the frames: if it is sky, which is cold, they are {polarity}. "
    return ""
