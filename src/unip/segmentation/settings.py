"""Settings that parts of segmentation share, apart from the code that needs torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unip.limits import MAX_BATCH, MAX_SCALE

# The settings that evaluation and prediction share.
Window = Annotated[
    Literal["slide", "whole"],
    Field(description="Overlapping windows of the training crop's size, or the whole image at once."),
]

Scale = Annotated[
    Literal["auto", "fit", "native"] | Annotated[float, Field(gt=0, le=MAX_SCALE, allow_inf_nan=False)],
    Field(
        description="How frames are resized: fit: to the model's short side; native: as those of training were; auto: "
        "fit, and native from twice the short side of those on; or a factor."
    ),
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
