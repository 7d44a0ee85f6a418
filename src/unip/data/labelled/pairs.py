"""Pairs of images and masks, read one at a time, whatever layout they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from unip.data.images.blocks import read_large
from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT
from unip.data.images.decoding import Pixels, Pixels8, read_samples, to_image8
from unip.data.images.formats import open_image
from unip.data.images.nodata import suspected_nodata, suspected_nodata_of_counts
from unip.data.images.orientation import load_as_stored
from unip.data.labelled.classes import Classes
from unip.data.labelled.masks import Ids, MaskSource, plain_ids, translate
from unip.errors import UnipError
from unip.opening import open_regular
from unip.runtime.workers import map_threads


class DecodedImage(NamedTuple):
    """An image as a model sees it, and what it was made from.

    Attributes:
        image: ``(H, W)`` uint8 if it is grey, else ``(H, W, 3)`` uint8 RGB.
        samples: Of its file, see :meth:`SegmentationData.read_samples`; of one that was read in parts, the image.
        is_8_bit: Whether the samples of its file have 8 bits.
        nodata: What looks like the value of samples without a measurement, but is not declared to be.
    """

    image: Pixels8
    samples: Pixels
    is_8_bit: bool
    nodata: float | None


class Pair(NamedTuple):
    """A decoded pair.

    Attributes:
        image: As a model sees it, ``(H, W)`` uint8 if it is grey, else ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` uint8 class ids, and 255 where there is no label.
        is_8_bit: Whether the samples of the image's file have 8 bits.
        nodata: What looks like the value of samples without a measurement, but is not declared to be.
    """

    image: Pixels8
    mask: Pixels8
    is_8_bit: bool
    nodata: float | None = None


@dataclass
class Unpaired:
    """Files of a labelled folder that belong to no pair: images without a mask, and masks without an image."""

    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class SegmentationData:
    """Pairs of images and masks, and what the ids mean.

    Attributes:
        images: The image files; they are also the names of the pairs.
        masks: Where each image's mask comes from.
        classes: Names and colours of the classes.
        ids: What the ids that the masks hold mean; left out, class ids as they are.
        channel: The channel of the image files that is the image, from 0; None: all of them.
        conversion: How counts become 8 bits, where the data says so.
        assumed_ignore: The id in the files that means no label by ``classes.json`` alone; None where no id does, or a
            change of labels (remap) says it.
        released: Whether the classes are those of a released data set, not all of which a part of it need show.
        is_infrared: Whether the source was given as infrared: colours are then those of a palette.
    """

    images: tuple[Path, ...]
    masks: tuple[MaskSource, ...]
    classes: Classes
    ids: Ids = ()
    channel: int | None = None
    conversion: Conversion | None = None
    assumed_ignore: int | None = None
    released: bool = False
    is_infrared: bool = False

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", plain_ids(self.classes))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.images)

    def take(self, indices: Iterable[int]) -> Self:
        """Return the pairs with these indices, in their order."""
        chosen = list(indices)
        if chosen == list(range(len(self))):
            return self
        return dataclasses.replace(
            self, images=tuple(self.images[i] for i in chosen), masks=tuple(self.masks[i] for i in chosen)
        )

    def read_image(self, index: int, conversion: Conversion | None = None) -> Pixels8:
        """Return an image as a model sees it, ``(H, W)`` uint8 if it is grey, else ``(H, W, 3)`` uint8 RGB.

        Args:
            index: Which.
            conversion: How counts become 8 bits; left out, as the data says, or by default.

        Raises:
            UnipError: The file is damaged, or has not the channel.
        """
        conversion = conversion or self.conversion or DEFAULT
        return to_image8(self.read_samples(index, conversion), conversion)

    def read_samples(self, index: int, conversion: Conversion) -> Pixels:
        """Return the samples to convert, see :func:`unip.data.images.decoding.decode_samples`.

        Raises:
            UnipError: The file is damaged, or has not the channel.
        """
        if self.channel is None:
            return read_samples(self.images[index], conversion)
        return read_channel(self.images[index], self.channel)

    def read_mask(self, index: int) -> Pixels8:
        """Return a mask, ``(H, W)`` uint8 class ids, and 255 where there is no label.

        Raises:
            UnipError: The file is damaged or holds an id without a meaning.
        """
        source = self.masks[index]
        return translate(source.read(), self.ids, self.classes, source.path)

    def read(self, index: int, conversion: Conversion | None = None, *, in_parts: bool = False) -> Pair:
        """Return an image and its mask; see :meth:`read_image` and :meth:`read_mask`.

        Args:
            index: Which.
            conversion: How counts become 8 bits; left out, as the data says, or by default.
            in_parts: Read a large image in parts, so that its samples are never held whole; the result is the same.

        Raises:
            UnipError: One of them is damaged, they have two sizes, or the mask an unknown id.
        """
        decoded = self.decode(index, conversion or self.conversion or DEFAULT, in_parts=in_parts)
        mask = self.read_mask(index)
        check_pair(decoded.image, mask, self.images[index], self.masks[index].path)
        return Pair(decoded.image, mask, decoded.is_8_bit, decoded.nodata)

    def decode(self, index: int, conversion: Conversion, *, in_parts: bool = False) -> DecodedImage:
        """Return an image without its mask, and what it was made from.

        Args:
            index: Which.
            conversion: How counts become 8 bits.
            in_parts: Read a large image in parts, so that its samples are never held whole.

        Raises:
            UnipError: The file is damaged, or has not the channel.
        """
        large = read_large(self.images[index], conversion) if in_parts and self.channel is None else None
        if large is not None:
            sampled = large.sampled
            nodata = None if sampled is None else suspected_nodata_of_counts(sampled, conversion)
            return DecodedImage(large.image, large.image, sampled is None, nodata)
        samples = self.read_samples(index, conversion)
        nodata = suspected_nodata(samples, conversion)
        return DecodedImage(to_image8(samples, conversion), samples, samples.dtype == np.uint8, nodata)


def read_channel(path: Path, channel: int, alone: Conversion | None = None) -> Pixels:
    """Read one channel of an 8-bit image file, such as the fourth of MFNet's PNG; ``(H, W)`` uint8.

    Args:
        path: The file.
        channel: From 0.
        alone: Take a file with one channel for it, its samples as this conversion needs them; None: refuse it.

    Raises:
        UnipError: The file is missing, damaged or has fewer channels.
    """
    try:
        with open_regular(path) as file, open_image(file) as image:
            pixels = np.asarray(load_as_stored(image))
    except OSError as error:
        raise UnipError(f"cannot read image {path} ({error.strerror or error})", "Copy it again.") from error
    except UnipError as error:
        raise UnipError(f"image {path}: {error.what}", error.fix) from None
    except Exception as error:  # on broken bytes the decoders raise nearly anything
        raise UnipError(f"image {path} is truncated or damaged ({error})", "Copy it again or remove it.") from error
    if pixels.ndim == 2 and alone is not None:
        return read_samples(path, alone)
    if pixels.ndim != 3 or pixels.shape[2] <= channel or pixels.dtype != np.uint8:
        count = pixels.shape[2] if pixels.ndim == 3 else 1
        raise UnipError(
            f"image {path} has {count} channel{'s' if count > 1 else ''} of {pixels.dtype}, but channel "
            f"{channel + 1} is to be read",
            "It is not the released file: give the folder of the released one, or lay out separate thermal images "
            "as a segmentation folder.",
        )
    return np.ascontiguousarray(pixels[..., channel])


def read_one(path: Path, conversion: Conversion, channel: int | None) -> Pixels:
    """Read the samples of an image file, of one channel if it is given; a file that has only one is taken for it.

    Raises:
        UnipError: The file is damaged, or has several channels, but not this one.
    """
    return read_samples(path, conversion) if channel is None else read_channel(path, channel, conversion)


def check_pair(image: npt.NDArray[Any], mask: Pixels8, image_path: Path, mask_path: Path) -> None:
    """Raise a UnipError unless the image ``(H, W, ...)`` and the mask ``(H, W)`` have the same size."""
    if image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        turned = (height, width) == (mask_width, mask_height)
        raise UnipError(
            f"mask {mask_path} is {mask_width}x{mask_height} but its image {image_path} is {width}x{height}",
            "Images are read as stored, without their EXIF rotation: save this one rotated."
            if turned
            else "Save the mask at the size of its image.",
        )


def classes_shown(read_mask: Callable[[int], Pixels8], masks: int, classes: int) -> npt.NDArray[np.bool_]:
    """Return which classes each mask shows, ``(masks, classes)``; ``read_mask`` gives one by its number."""

    def shown(index: int) -> npt.NDArray[np.bool_]:
        return np.bincount(read_mask(index).ravel(), minlength=256)[:classes] > 0

    return np.stack(list(map_threads(shown, range(masks), "reading masks", unit="masks")))
