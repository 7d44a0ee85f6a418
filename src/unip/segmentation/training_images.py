"""What the images of training were like, which a model carries; and saying what it is given instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unip.config import Config
from unip.data.images.nodata import describe_suspected
from unip.data.images.palettes import recognise
from unip.data.sampling.scaling import FAR, Scaling

if TYPE_CHECKING:  # needs torch, and what a model carries is also read without it
    from unip.data.labelled.statistics import PairFacts

log = logging.getLogger(__name__)

Depth = Literal["8 bits", "more than 8 bits", "both"]
Colours = Literal["grey", "colour", "both"]
NO_DOUBTS: Mapping[str, str] = {}


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


class Seen(Protocol):
    """A frame that is compared with those of training."""

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """As a model sees it: ``(H, W)`` if it is grey, else RGB ``(H, W, 3)``."""

    @property
    def is_8_bit(self) -> bool:
        """Whether the samples as they were given have 8 bits."""

    @property
    def nodata(self) -> float | None:
        """What looks like the value of samples without a measurement."""


@dataclass(frozen=True)
class Remedies:
    """How the settings are given that help, in the words of the command line or of Python."""

    nodata: str = "unip predict --nodata"  # the value follows
    palette: str = "--palette {}"
    scale: str = "--scale {}"


class ImageWatch:
    """Says of each way in which images differ from those of training, once, with the first image that does.

    Of borders that look like pixels without a measurement it also says how many images have them.

    Args:
        images: Those of training; None: a model that does not say, of which nothing can be told.
        say: Called with each text.
        remedies: How to give what helps.
        scaling: How they are resized; None: to the model's short side.
    """

    def __init__(
        self,
        images: TrainingImages | None,
        say: Callable[[str], None] = lambda text: log.warning(f"note: {text}"),
        remedies: Remedies = Remedies(),
        scaling: Scaling | None = None,
    ) -> None:
        self.images, self.say, self.remedies, self.scaling = images, say, remedies, scaling
        self.said: set[str] = set()
        self.palette: str | None = None
        self.suspected: list[float] = []

    def look(self, frame: Seen, name: Path | str, doubts: Mapping[str, str] = NO_DOUBTS) -> tuple[str, ...]:
        """Compare an image that could be read.

        Args:
            frame: The image.
            name: Its path, or what else it is called.
            doubts: What else is strange about it: a kind, and what follows the name in a sentence on it.

        Returns:
            In which ways it differs, each as a sentence.
        """
        differences = self._differences(frame, self.images) if self.images is not None else ()
        found = {**dict(differences), **dict(self._sizes(*frame.image.shape[:2])), **doubts}
        if frame.nodata is not None:
            self.suspected.append(frame.nodata)
            found["nodata"] = describe_suspected("has", [frame.nodata], self.remedies.nodata)
        notes = {kind: f"{name} {text}." for kind, text in found.items()}
        for kind, text in notes.items():
            if kind not in self.said:
                self.said.add(kind)
                self.say(text)
        return tuple(notes.values())

    def finish(self, images: int) -> None:
        """Say how many of so many images had what was said with the first one."""
        if len(self.suspected) > 1:
            subject = f"{len(self.suspected)} of {images} images have"
            self.say(f"{describe_suspected(subject, self.suspected, self.remedies.nodata)}.")

    def _differences(self, frame: Seen, trained: TrainingImages) -> Iterator[tuple[str, str]]:
        """Yield each way in which a frame differs, and what follows the frame's name in a sentence on it."""
        is_grey = frame.image.ndim == 2
        if frame.is_8_bit and trained.depth == "more than 8 bits":
            yield (
                "depth",
                "has 8 bits, but the model was trained on frames of more: 8-bit frames keep the contrast that "
                "somebody else gave them. Give the camera's raw frames",
            )
        if not frame.is_8_bit and trained.depth == "8 bits":
            yield (
                "depth",
                "has more than 8 bits, but the model was trained on 8-bit frames: it becomes grey by a rule that "
                "training never used. Convert frames as the camera did for those of training, and look at the overlays",
            )
        if not is_grey and trained.colours == "grey":
            yield "colours", self._coloured(frame)
        if is_grey and trained.colours == "colour":
            yield "colours", "is grey, but the model was trained on images in colour. Give those"

    def _sizes(self, height: int, width: int) -> Iterator[tuple[str, str]]:
        """Yield what is to be said of the size of a frame."""
        scaling, images = self.scaling, self.images
        factor = None if scaling is None else scaling.factor(height, width)
        size = f"is {width}x{height}"
        if images is None:
            if scaling is not None and factor is None and min(height, width) >= FAR * scaling.short_side:
                yield (
                    "size",
                    f"{size}, and is shrunk to a short side of {scaling.short_side}. The model does not say how large "
                    "its frames of training were; if those were smaller, objects are too small now: "
                    f"{self.remedies.scale.format('FACTOR')} resizes by a factor and cuts into windows",
                )
            return
        than = f"the model was trained on frames of {images.size[1]}x{images.size[0]}"
        if scaling is not None and factor is not None:
            if scaling.scale == "auto":
                tall, wide = scaling.size(height, width)
                yield (
                    "scale",
                    f"{size}, and {than}: it is resized by {factor:.3g} as those were, to {wide}x{tall}, and cut into "
                    f"{scaling.windows((tall, wide)):,} windows. {self.remedies.scale.format('fit')} shrinks it to a "
                    f"short side of {scaling.short_side} instead",
                )
            return
        ratio = min(height, width) / min(images.size)
        if not 1 / FAR < ratio < FAR:
            yield (
                "size",
                f"{size}, but {than}, and all are resized to one short side: objects look smaller or larger than it "
                f"learnt. {self.remedies.scale.format('native')} resizes frames as those of training were; or give "
                "frames whose objects have about the same number of pixels",
            )

    def _coloured(self, frame: Seen) -> str:
        if self.palette is None:  # once: it takes its time
            found = recognise(frame.image)
            self.palette = found.name if found else ""
        what = f" (palette {self.palette})" * bool(self.palette)
        return (
            f"is in colour{what}, but the model was trained on grey frames. Give the grey frames, or turn the colours "
            f"of a camera's palette back into grey: {self.remedies.palette.format(self.palette or 'NAME')}"
        )
