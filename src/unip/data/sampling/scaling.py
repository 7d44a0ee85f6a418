"""To which size a frame is resized for a model, and where windows lie in it; needs no torch.

Objects have the size in pixels that they had in training only if a frame is resized as those of training were. For
frames about as large as those, that is the model's short side. A mosaic shrunk to it would lose every object: it is
resized by the same factor instead, and cut into windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unip.errors import UnipError
from unip.limits import check_pixels

#: Times as large or small as frames of training, from where objects hardly look like those learnt: recipes resize the
#: frames of training at random by 0.5 to 2 at most.
FAR = 2.0

ScaleName = Literal["auto", "fit", "native"]


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size that an image has when its short side is scaled to ``short_side`` pixels, ratio kept.

    Sides are rounded, halves up, in whole numbers, as exported graphs do it.

    Raises:
        UnipError: A very long image would become one of more pixels than a frame may have.
    """
    shorter = min(height, width)
    tall, wide = (max(1, (2 * side * short_side + shorter) // (2 * shorter)) for side in (height, width))
    check_pixels(tall, wide, f"an image of {width}x{height}, resized to a short side of {short_side},")
    return tall, wide


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Return where windows of ``crop`` pixels start along an axis of ``length`` pixels.

    The last window is moved back so that it ends at the border; an axis shorter than the crop has one window.
    """
    if length <= crop:
        return [0]
    count = -(-(length - crop) // stride) + 1
    return [min(index * stride, length - crop) for index in range(count)]


@dataclass(frozen=True)
class Scaling:
    """How frames are resized for a model.

    Attributes:
        short_side: To which frames of training were resized, in pixels.
        trained: Short side of the median frame of training, in pixels; None: the model does not say.
        scale: ``fit``: every frame is resized to ``short_side``. ``native``: every frame is resized by
            ``short_side / trained``, so that objects have the size that they had in training. ``auto``: frames of
            :data:`FAR` times the short side of those of training and more as ``native``, others as ``fit``. A number:
            every frame is resized by it.
        crop: Side of the windows, in pixels of the resized frame.
        stride: From one window to the next.
    """

    short_side: int
    trained: int | None
    scale: ScaleName | float = "auto"
    crop: int = 512
    stride: int = 341

    def check(self, name: str) -> None:
        """Refuse a scale that the model cannot tell.

        Raises:
            UnipError: It is ``native``, and the size of the frames of training is not known.
        """
        if self.scale == "native" and self.trained is None:
            raise UnipError(
                f"scale native: {name} does not say how large its frames of training were",
                f"Give a number: {self.short_side} divided by the short side of those frames, in pixels. Or fine-tune "
                "again, which keeps it.",
            )

    def factor(self, height: int, width: int) -> float | None:
        """Return by what a frame is resized if it is not fitted to the short side; None: it is fitted."""
        if not isinstance(self.scale, str):
            return float(self.scale)
        if self.scale == "fit" or self.trained is None:
            return None
        if self.scale == "auto" and min(height, width) < FAR * self.trained:
            return None
        return self.short_side / self.trained

    def by(self, height: int, width: int) -> float:
        """Return by what a frame is resized."""
        factor = self.factor(height, width)
        return self.short_side / min(height, width) if factor is None else factor

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size to which a frame is resized.

        Raises:
            UnipError: See :func:`short_side_size`.
        """
        factor = self.factor(height, width)
        if factor is None:
            return short_side_size(height, width, self.short_side)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def windows(self, size: tuple[int, int]) -> int:
        """Return how many windows there are in a resized frame of this size."""
        rows, columns = (len(window_starts(side, self.crop, self.stride)) for side in size)
        return rows * columns

    def describe(self) -> str:
        """Say how frames are resized, in a few words."""
        fit = f"resized to short side {self.short_side}"
        if not isinstance(self.scale, str):
            return f"resized by {self.scale:g}"
        if self.scale == "fit" or self.trained is None:
            return fit
        native = f"by {self.short_side / self.trained:.3g} as those of training were"
        if self.scale == "native":
            return f"resized {native}"
        return f"{fit}; those of a short side of {FAR * self.trained:.0f} and more {native}, and cut into windows"
