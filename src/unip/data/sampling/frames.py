"""Whole frames as a model sees them: decoded, resized to its short side, and where its windows lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from unip.data.corruptions import CorruptFrames
from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT
from unip.data.images.decoding import to_image8
from unip.data.images.nodata import suspected_nodata
from unip.data.labelled.pairs import SegmentationData, read_one
from unip.errors import UnipError
from unip.limits import check_pixels


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


def fit_short_side(image: npt.NDArray[np.uint8], short_side: int) -> Tensor:
    """Resize an image to a model's short side, bilinearly with antialiasing, as in training.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)``.
        short_side: In pixels.

    Returns:
        uint8 ``(1, h, w)`` or ``(3, h, w)``; it may share the memory of ``image``.

    Raises:
        UnipError: See :func:`short_side_size`.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)))
    size = short_side_size(image.shape[0], image.shape[1], short_side)
    return pixels if size == image.shape[:2] else TF.resize(pixels, list(size), antialias=True)


@dataclass
class Frame:
    """One decoded image.

    Attributes:
        index: Its place in the list of paths.
        image: uint8 as stored, or corrupted: ``(H, W)`` if it is grey, else RGB ``(H, W, 3)``.
        pixels: The same as uint8 ``(1, h, w)`` or ``(3, h, w)``, resized to the model's short side; it
            may share the memory of ``image``.
        mask: Class ids ``(H, W)`` where there is truth, 255 without a label.
        problem: Why it could not be read; the arrays are empty then.
        is_8_bit: Whether the samples of its file have 8 bits.
        nodata: What looks like the value of samples without a measurement, but is not declared to be.
    """

    index: int
    image: npt.NDArray[np.uint8]
    pixels: Tensor
    mask: npt.NDArray[np.uint8] | None = None
    problem: UnipError | None = None
    is_8_bit: bool = True
    nodata: float | None = None


class Frames(Dataset[Frame]):
    """Decodes images (and masks) and resizes them for a model; a broken file gives a frame with its problem.

    Args:
        images: Image files, or pairs of images and masks.
        short_side: To resize to, in pixels; bilinear with antialiasing, as in training.
        conversion: How counts become 8 bits; left out, as pairs say, or by default.
        channel: The channel of image files to read, from 0; None: all. Pairs say it themselves.
        corruption: Corruption of the 8-bit images, at their own size.
    """

    def __init__(
        self,
        images: Sequence[Path] | SegmentationData,
        short_side: int,
        conversion: Conversion | None = None,
        corruption: CorruptFrames | None = None,
        channel: int | None = None,
    ) -> None:
        self.images, self.short_side, self.conversion, self.corruption = images, short_side, conversion, corruption
        self.channel = channel

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Frame:
        try:
            if isinstance(self.images, SegmentationData):
                pixels8, mask, is_8_bit, nodata = self.images.read(index, self.conversion)
            else:
                conversion = self.conversion or DEFAULT
                samples, mask = read_one(self.images[index], conversion, self.channel), None
                pixels8, is_8_bit = to_image8(samples, conversion), samples.dtype == np.uint8
                nodata = suspected_nodata(samples, conversion)
            image = pixels8 if self.corruption is None else self.corruption(pixels8, index)
            return make_frame(index, image, self.short_side, mask=mask, is_8_bit=is_8_bit, nodata=nodata)
        except UnipError as error:
            # as a value: raised in a worker it would arrive with that worker's traceback as its text
            return unreadable_frame(index, UnipError(error.what, error.fix))


def make_frame(
    index: int,
    image: npt.NDArray[np.uint8],
    short_side: int,
    *,
    mask: npt.NDArray[np.uint8] | None = None,
    is_8_bit: bool = True,
    nodata: float | None = None,
) -> Frame:
    """Resize an image ``(H, W)`` or ``(H, W, 3)`` to a model's short side; for the rest see :class:`Frame`.

    Raises:
        UnipError: It would have too many pixels.
    """
    return Frame(index, image, fit_short_side(image, short_side), mask, is_8_bit=is_8_bit, nodata=nodata)


def unreadable_frame(index: int, problem: UnipError) -> Frame:
    """Return the frame of a file that cannot be read."""
    return Frame(index, np.zeros((0, 0), np.uint8), torch.zeros(1, 0, 0), problem=problem)


def rgb(pixels: Tensor) -> Tensor:
    """Return the three channels that a model takes, of ``(..., 1 or 3, h, w)``; those of grey share their memory."""
    return pixels.expand(*pixels.shape[:-3], 3, -1, -1)


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Return where windows of ``crop`` pixels start along an axis of ``length`` pixels.

    The last window is moved back so that it ends at the border; an axis shorter than the crop has one window.
    """
    if length <= crop:
        return [0]
    count = -(-(length - crop) // stride) + 1
    return [min(index * stride, length - crop) for index in range(count)]
