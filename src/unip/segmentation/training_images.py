"""What the images of training were like, which a model carries; and saying what it is given instead."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field

from unip.config import Config
from unip.data.images.nodata import describe_suspected
from unip.data.images.palettes import recognise

if TYPE_CHECKING:  # those need torch, and what a model carries is also read without it
    from unip.data.labelled.statistics import PairFacts
    from unip.data.sampling.frames import Frame

log = logging.getLogger(__name__)

Depth = Literal["8 bits", "more than 8 bits", "both"]
Colours = Literal["grey", "colour", "both"]
FAR = 2.0  # times as large or small as in training, from where objects hardly look like those learnt


class TrainingImages(Config):
    """What the images of training were like."""

    channel: int | None = Field(None, ge=0, description="The channel of the files that was read, from 0; none: all.")
    depth: Depth = Field(description="Bits of a sample.")
    colours: Colours = Field(description="Whether images were grey or in colour.")
    size: tuple[int, int] = Field(description="Median height and width, in pixels.")

    @classmethod
    def of(cls, facts: Sequence[PairFacts], channel: int | None) -> Self:
        """Put together what is known of the frames."""
        eight, grey = {each.is_8_bit for each in facts}, {each.is_grey for each in facts}
        height, width = np.median([each.size for each in facts], axis=0)
        return cls(
            channel=channel,
            depth="both" if len(eight) > 1 else "8 bits" if True in eight else "more than 8 bits",
            colours="both" if len(grey) > 1 else "grey" if True in grey else "colour",
            size=(int(height), int(width)),
        )


class ImageWatch:
    """Says of each way in which images differ from those of training, once, with the first image that does.

    Of borders that look like pixels without a measurement it also says how many images have them.

    Args:
        images: Those of training; None: a model that does not say, of which nothing can be told.
    """

    def __init__(self, images: TrainingImages | None) -> None:
        self.images = images
        self.said: set[str] = set()
        self.suspected: list[float] = []

    def look(self, frame: Frame, path: Path) -> None:
        """Compare an image that could be read."""
        if frame.nodata is not None:
            self.suspected.append(frame.nodata)
            if "nodata" not in self.said:
                self._say("nodata", describe_suspected(f"{path} has", [frame.nodata], "unip predict --nodata"))
        if self.images is None:
            return
        height, width = frame.image.shape[:2]
        ratio = min(height, width) / min(self.images.size)
        is_grey = frame.image.ndim == 2
        if frame.is_8_bit and self.images.depth == "more than 8 bits":
            self._say(
                "depth",
                f"{path} has 8 bits, but the model was trained on frames of more: 8-bit frames keep the contrast that "
                "somebody else gave them. Give the camera's raw frames",
            )
        if not frame.is_8_bit and self.images.depth == "8 bits":
            self._say(
                "depth",
                f"{path} has more than 8 bits, but the model was trained on 8-bit frames: it becomes grey by a rule "
                "that training never used. Convert frames as the camera did for those of training, and look at the "
                "overlays",
            )
        if not is_grey and self.images.colours == "grey" and "colours" not in self.said:
            palette = recognise(frame.image)
            what, name = (f" (palette {palette.name})", palette.name) if palette else ("", "NAME")
            self._say(
                "colours",
                f"{path} is in colour{what}, but the model was trained on grey frames. Give the grey frames, or turn "
                f"the colours of a camera's palette back into grey: --palette {name}",
            )
        if is_grey and self.images.colours == "colour":
            self._say("colours", f"{path} is grey, but the model was trained on images in colour. Give those")
        if not 1 / FAR < ratio < FAR:
            trained = f"{self.images.size[1]}x{self.images.size[0]}"
            self._say(
                "size",
                f"{path} is {width}x{height}, but the model was trained on frames of {trained}, and all are resized to "
                "one short side: objects look smaller or larger than it learnt. Cut or resize frames so that objects "
                "have about the same number of pixels",
            )

    def finish(self, images: int) -> None:
        """Say how many of so many images had what was said with the first one."""
        if len(self.suspected) > 1:
            subject = f"{len(self.suspected)} of {images} images have"
            log.warning(f"note: {describe_suspected(subject, self.suspected, 'unip predict --nodata')}.")

    def _say(self, kind: str, text: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            log.warning(f"note: {text}.")
