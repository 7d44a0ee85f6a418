"""Settings that parts of segmentation share, apart from the code that needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from unip.data.images.config import PaletteChoice, Polarity
from unip.data.sampling.scaling import ScaleName
from unip.limits import MAX_BATCH, MAX_SCALE

#: Sides of a frame, in crops, up to which `auto` segments it whole: objects look as in training, and windows that
#: overlap compute up to 1.8 times as many patches. What it does to the mIoU is in docs/evaluate.md.
WHOLE_UP_TO = 1.5

#: Points of mIoU that an exported file may lose against its model, unless a user says otherwise.
TOLERANCE = 0.5

# The settings that evaluation and prediction share.
WindowName = Literal["auto", "slide", "whole"]

Window = Annotated[
    WindowName,
    Field(
        description="Overlapping windows of the training crop's size, or the whole image at once; auto: whole where no "
        "side, resized, is longer than 1.5 crops."
    ),
]

AugmentName = Literal["none", "flip"]

Augment = Annotated[
    AugmentName, Field(description="Test-time augmentation: flip also segments mirrored images; logits are averaged.")
]

AugmentScales = Annotated[
    tuple[Annotated[float, Field(gt=0, le=4)], ...],
    Field(
        min_length=1,
        max_length=8,
        description="Test-time augmentation: factors of the short side, such as 0.75 1 1.25; logits are averaged.",
    ),
]

Scale = Annotated[
    ScaleName | Annotated[float, Field(gt=0, le=MAX_SCALE, allow_inf_nan=False)],
    Field(
        description="How frames are resized: fit: to the model's short side; native: as those of training were; auto: "
        "fit, and native from twice the short side of those on; or a factor."
    ),
]

PaletteGiven = Annotated[
    PaletteChoice | None,
    Field(description="Turn colours of a palette back into grey (invert, or its name); none: as in training."),
]

PolarityGiven = Annotated[
    Polarity | None,
    Field(description="How the frames are stored; black-hot ones are inverted; none: as in training."),
]

WindowBatch = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_BATCH)],
    Field(description="Windows that run together; auto: 8, on a GPU 24, or whole images that are as large."),
]

Workers = Annotated[
    Annotated[int, Field(ge=0)] | Literal["auto"],
    Field(description="Processes that decode images; auto: up to 8, none on two cores."),
]

HELD_OUT = "held-out"  # the name, as of a split, of frames that a fine-tuning held out to be evaluated on

Group = Annotated[
    str | None,
    Field(
        description="Pattern (regex) in an image's path: its first capture group, or all of it, names the video or "
        "flight. None: file names are asked."
    ),
]

LossName = Literal["ce", "ce+dice"]

Weighting = Literal["none", "balanced", "root"]

Decoder = Literal["upernet", "light", "conv", "linear"]

PyramidName = Literal["llfpn", "fpn"]


def meant_scale(scale: Scale, window: WindowName) -> Scale:
    """Return how frames are resized if ``scale`` and ``window`` are these.

    Frames that are to be seen whole are fitted, whatever their size, unless another scale is asked for.
    """
    return "fit" if scale == "auto" and window == "whole" else scale


def sees_whole(size: Sequence[int], crop: int, window: WindowName) -> bool:
    """Say whether an image is segmented whole.

    Args:
        size: Its height and width as the model sees it, in pixels.
        crop: Of training, in pixels.
        window: The setting; ``auto`` is by :data:`WHOLE_UP_TO`.
    """
    return window == "whole" or (window == "auto" and max(size) <= WHOLE_UP_TO * crop)
