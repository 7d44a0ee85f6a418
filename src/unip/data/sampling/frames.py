"""Whole frames as a model sees them: decoded, and resized as :mod:`.scaling` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from unip.data.sampling.scaling import Scaling, short_side_size
from unip.errors import UnipError
from unip.limits import check_pixels
from unip.runtime.shared import Slot, slot_of


def fit_short_side(image: npt.NDArray[np.uint8], short_side: int) -> Tensor:
    """Resize an image to a model's short side, see :func:`resize_image`.

    Raises:
        UnipError: See :func:`.short_side_size`.
    """
    return resize_image(image, short_side_size(image.shape[0], image.shape[1], short_side))


def resize_image(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Resize an image, bilinearly with antialiasing, as in training.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)``.
        size: Height and width, in pixels.

    Returns:
        uint8 ``(1, h, w)`` or ``(3, h, w)``; it may share the memory of ``image``.

    Raises:
        UnipError: It would have more pixels than a frame may have.
    """
    check_pixels(*size, f"an image of {image.shape[1]}x{image.shape[0]}, resized,")
    pixels = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)))
    return pixels if size == image.shape[:2] else TF.resize(pixels, list(size), antialias=True)


@dataclass
class Frame:
    """One decoded image.

    Attributes:
        index: Its place in the list of paths.
        image: uint8 as stored, or corrupted: ``(H, W)`` if it is grey, else RGB ``(H, W, 3)``.
        pixels: The same as uint8 ``(1, h, w)`` or ``(3, h, w)``, resized for the model; it may share the
            memory of ``image``.
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

    def __getstate__(self) -> dict[str, Any]:
        """Leave out pixels that are those of the image: between processes both would travel."""
        if self.pixels.numel() == self.image.size > 0 and self.pixels.data_ptr() == self.image.ctypes.data:
            return vars(self) | {"pixels": None}
        slot = slot_of(self.image)
        there = None if slot is None else slot.as_shared(self.pixels.numpy())
        return vars(self) | ({} if there is None else {"pixels": there})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`__getstate__` gave."""
        vars(self).update(state)
        if not isinstance(state["pixels"], Tensor):
            self.pixels = torch.from_numpy(self.image[None] if state["pixels"] is None else state["pixels"])

    def move(self, slot: Slot) -> None:
        """Put the image and its pixels into memory that processes share, as far as there is room."""
        is_same = self.pixels.data_ptr() == self.image.ctypes.data
        self.image = slot.put(self.image)
        self.pixels = torch.from_numpy(self.image[None] if is_same else slot.put(self.pixels.numpy()))


class Frames(Dataset[Frame]):
    """Decodes images (and masks) and resizes them for a model; a broken file gives a frame with its problem.

    Args:
        images: Image files, or pairs of images and masks.
        short_side: To resize to, in pixels; bilinear with antialiasing, as in training. Or how images are resized.
        conversion: How counts become 8 bits; left out, as pairs say, or by default.
        channel: The channel of image files to read, from 0; None: all. Pairs say it themselves.
        corruption: Corruption of the 8-bit images, at their own size.
        waits: Says of a height and width which pairs are not resized here: their frames have no pixels, and large files
            of them are read in parts. None: all are.
    """

    def __init__(
        self,
        images: Sequence[Path] | SegmentationData,
        short_side: int | Scaling,
        conversion: Conversion | None = None,
        corruption: CorruptFrames | None = None,
        channel: int | None = None,
        waits: Callable[[int, int], bool] | None = None,
    ) -> None:
        self.images, self.conversion, self.corruption = images, conversion, corruption
        self.scaling = Scaling(short_side, None, "fit") if isinstance(short_side, int) else short_side
        self.channel, self.waits = channel, waits

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Frame:
        try:
            if isinstance(self.images, SegmentationData):
                in_parts = self.waits is not None
                pixels8, mask, is_8_bit, nodata = self.images.read(index, self.conversion, in_parts=in_parts)
            else:
                conversion = self.conversion or DEFAULT
                samples, mask = read_one(self.images[index], conversion, self.channel), None
                pixels8, is_8_bit = to_image8(samples, conversion), samples.dtype == np.uint8
                nodata = suspected_nodata(samples, conversion)
            image = pixels8 if self.corruption is None else self.corruption(pixels8, index)
            if self.waits is not None and self.waits(image.shape[0], image.shape[1]):
                return Frame(index, image, torch.zeros(1, 0, 0), mask, is_8_bit=is_8_bit, nodata=nodata)
            return make_frame(index, image, self.scaling, mask=mask, is_8_bit=is_8_bit, nodata=nodata)
        except UnipError as error:
            # as a value: raised in a worker it would arrive with that worker's traceback as its text
            return unreadable_frame(index, UnipError(error.what, error.fix))


def make_frame(
    index: int,
    image: npt.NDArray[np.uint8],
    scaling: Scaling | int,
    *,
    mask: npt.NDArray[np.uint8] | None = None,
    is_8_bit: bool = True,
    nodata: float | None = None,
) -> Frame:
    """Resize an image ``(H, W)`` or ``(H, W, 3)`` for a model, or to a short side; for the rest see :class:`Frame`.

    Raises:
        UnipError: It would have too many pixels.
    """
    if isinstance(scaling, int):
        scaling = Scaling(scaling, None, "fit")
    pixels = resize_image(image, scaling.size(image.shape[0], image.shape[1]))
    return Frame(index, image, pixels, mask, is_8_bit=is_8_bit, nodata=nodata)


def unreadable_frame(index: int, problem: UnipError) -> Frame:
    """Return the frame of a file that cannot be read."""
    return Frame(index, np.zeros((0, 0), np.uint8), torch.zeros(1, 0, 0), problem=problem)


def rgb(pixels: Tensor) -> Tensor:
    """Return the three channels that a model takes, of ``(..., 1 or 3, h, w)``; those of grey share their memory."""
    return pixels.expand(*pixels.shape[:-3], 3, -1, -1)


def waiting_frame(index: int) -> Frame:
    """Return the place of a large frame among others, which is read and segmented when it is its turn."""
    return Frame(index, np.zeros((0, 0), np.uint8), torch.zeros(1, 0, 0))


def is_waiting(frame: Frame) -> bool:
    """Say whether a frame is large, and was not resized: it may also be only the place of one."""
    return frame.problem is None and not frame.pixels.numel()
