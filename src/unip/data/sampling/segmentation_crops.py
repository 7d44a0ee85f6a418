"""Training crops for segmentation: the paper's augmentation, and a data set of augmented crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from unip.data.corruptions import corrupt_some
from unip.data.images.decoding import Pixels8
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.pairs import Pair, SegmentationData
from unip.data.sampling.order import SampleOrder
from unip.data.sampling.rare_crops import RareCrops
from unip.runtime.seeds import seed_for
from unip.runtime.workers import map_processes

REDRAWS = 10  # of a crop that one class fills
COUNTED_PIXELS = 64  # pixels along a side of a crop, at the least, that tell which class fills it
BRIGHTNESS = 32.0  # levels added or taken away
FACTORS = (0.5, 1.5)  # of contrast and saturation
HUE = 0.1  # of a turn either way: 36 of 360 degrees
CORRUPTION_STREAM = 1  # sets the seeds of corruptions apart from those of the other augmentation


@dataclass(frozen=True)
class SegmentationTrainTransform:
    """The paper's augmentation (section on fine-tuning): resize, crop, flip, photometric distortion, padding.

    1. Keep-ratio resize (bilinear, antialiased; masks by the nearest pixel) to the largest size whose long side is at
       most ``base[0] * r`` and whose short side is at most ``base[1] * r``, with r uniform in ``ratio``.
    2. A random crop; if one class fills more than ``cat_max_ratio`` of its labelled pixels it is drawn again, up to
       ten times. Where a class is named, one that holds a random pixel of it; if the resize left none, any crop.
    3. A horizontal flip.
    4. Photometric distortion, each piece with probability 1/2: brightness plus -32..32 levels, contrast times 0.5..1.5
       (before or after the colours), and for colour images saturation times 0.5..1.5 and hue by -36..36 degrees.
    5. Inversion with probability ``inverted``, so that black-hot frames are seen, too; not of the paper.
    6. Padding at the right and the bottom: images with ``fill``, masks with ``ignore_index``.

    Attributes:
        crop: Side of the square that is given out, pixels.
        ratio: Range of the random scale.
        base: Long and short side that the scale multiplies, pixels.
        cat_max_ratio: Largest share of one class in a crop; 1 switches redrawing off.
        flip: Probability of a flip.
        photometric: Whether to distort brightness, contrast and colours.
        inverted: Probability that dark and bright change places.
        ignore_index: Id of mask pixels without a label.
        fill: RGB levels of padding, 0..255; best the mean that the model subtracts, which is also what it pads with.
    """

    crop: int = 512
    ratio: tuple[float, float] = (0.5, 2.0)
    base: tuple[int, int] = (2048, 512)
    cat_max_ratio: float = 0.75
    flip: float = 0.5
    photometric: bool = True
    inverted: float = 0.0
    ignore_index: int = IGNORE
    fill: tuple[int, int, int] = (0, 0, 0)

    def __call__(
        self, image: Tensor, mask: Tensor, rng: np.random.Generator, class_id: int | None = None
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Augment one pair; the same state of ``rng`` gives the same result.

        Args:
            image: ``(1, H, W)`` or ``(3, H, W)`` uint8.
            mask: ``(H, W)`` uint8 class ids.
            rng: Where every random number comes from.
            class_id: Class id that the crop must show; None: none.

        Returns:
            The image ``(3, crop, crop)`` uint8, grey repeated, and the mask ``(crop, crop)`` uint8.
        """
        drawn = self.draw(mask.numpy(), rng, class_id)
        height, width = image.shape[-2:]
        rows = nearest(height, drawn.height)[drawn.top : drawn.top + self.crop]
        columns = nearest(width, drawn.width)[drawn.left : drawn.left + self.crop]
        out = F.resize(image.as_subclass(Tensor), [drawn.height, drawn.width], antialias=True)
        out = out[:, drawn.top : drawn.top + self.crop, drawn.left : drawn.left + self.crop]
        labels = torch.from_numpy(mask.numpy()[rows[:, None], columns[None]])
        if drawn.flip:
            out, labels = out.flip(-1), labels.flip(-1)
        if drawn.distortion is not None:
            out = drawn.distortion(out)
        if drawn.inverted:
            out = 255 - out
        canvas, ids = self.padded(out, labels, self.crop, self.crop)
        return tv_tensors.Image(canvas), tv_tensors.Mask(ids)

    def draw(self, ids: Pixels8, rng: np.random.Generator, class_id: int | None = None) -> Crop:
        """Draw all that is random for a frame with the class ids ``(H, W)``; arguments are those of a call."""
        height, width = self.resized(ids.shape[0], ids.shape[1], rng.uniform(*self.ratio))
        top, left = self._choose_crop(ids, nearest(ids.shape[0], height), nearest(ids.shape[1], width), rng, class_id)
        flip = bool(rng.random() < self.flip)
        distortion = draw_distortion(rng) if self.photometric else None
        inverted = self.inverted > 0 and bool(rng.random() < self.inverted)
        return Crop(height, width, top, left, flip, distortion, inverted)

    def padded(self, image: Tensor, mask: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Pad an image ``(1 or 3, h, w)`` and its mask ``(h, w)``, uint8, at the right and below; grey becomes RGB."""
        canvas = torch.tensor(self.fill, dtype=torch.uint8)[:, None, None].repeat(1, height, width)
        canvas[:, : image.shape[1], : image.shape[2]] = image
        ids = torch.full((height, width), self.ignore_index, dtype=torch.uint8)
        ids[: mask.shape[0], : mask.shape[1]] = mask
        return canvas, ids

    def is_varied(self, ids: Pixels8) -> bool:
        """Say whether ids ``(h, w)`` have labels, and no class fills more than ``cat_max_ratio`` of them."""
        if self.cat_max_ratio >= 1.0:
            return True
        counts = np.bincount(ids.ravel(), minlength=256)
        counts[self.ignore_index] = 0
        return bool(counts.any() and counts.max() <= self.cat_max_ratio * counts.sum())

    def resized(self, height: int, width: int, ratio: float) -> tuple[int, int]:
        """Return the size ``(height, width)`` to which an image is resized with scale ``ratio``."""
        long, short = max(height, width), min(height, width)
        scale = min(self.base[0] * ratio / long, self.base[1] * ratio / short)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def _choose_crop(
        self,
        ids: Pixels8,
        rows: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        rng: np.random.Generator,
        class_id: int | None,
    ) -> tuple[int, int]:
        """Return top and left of the crop in the resized frame."""
        room = max(0, len(rows) - self.crop), max(0, len(columns) - self.crop)
        spans = [(0, space) for space in room]
        spot = None if class_id is None else _any_pixel(ids, rows, columns, rng, class_id)
        if spot is not None:
            spans = [(max(0, at - self.crop + 1), min(at, space)) for at, space in zip(spot, room, strict=True)]
        tall, wide = min(self.crop, len(rows)), min(self.crop, len(columns))

        def shown(top: int, left: int) -> Pixels8:
            # Shares are counted over source pixels, of large crops over some of them: the same up to rounding.
            return ids[_thinned(rows[top], rows[top + tall - 1]), _thinned(columns[left], columns[left + wide - 1])]

        return self.place(spans, shown, rng)

    def place(
        self, spans: Sequence[tuple[int, int]], shown: Callable[[int, int], Pixels8], rng: np.random.Generator
    ) -> tuple[int, int]:
        """Draw top and left of a crop, again while one class fills it, up to ten times.

        Args:
            spans: First and last place of the top, and of the left.
            shown: Gives class ids of the crop at a place, some of them or all.
            rng: Where the numbers come from.
        """
        for _ in range(1 + REDRAWS):
            top, left = (int(rng.integers(low, high + 1)) for low, high in spans)
            if all(low == high for low, high in spans) or self.is_varied(shown(top, left)):
                break
        return top, left


class PhotometricDistortion(NamedTuple):
    """A photometric distortion: brightness, contrast, saturation, hue and, if ``contrast_last``, contrast only now.

    Attributes:
        brightness: Levels that are added.
        contrast: Factor on all levels.
        saturation: Factor, for colour images.
        hue: Turn, -0.5..0.5, for colour images.
        contrast_last: Whether contrast comes behind the colours.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    contrast_last: bool

    def __call__(self, image: Tensor) -> Tensor:
        """Apply it to ``(1 or 3, H, W)`` uint8."""
        colour = image.shape[0] == 3
        contrast_last = self.contrast_last and colour
        image = _levels(image, self.brightness, 1.0 if contrast_last else self.contrast)
        if colour and self.saturation != 1.0:
            image = F.adjust_saturation(image, self.saturation)
        if colour and self.hue != 0.0:
            image = F.adjust_hue(image, self.hue)
        return _levels(image, 0.0, self.contrast) if contrast_last else image


class Crop(NamedTuple):
    """What is random about a training sample.

    Attributes:
        height: Of the resized frame, pixels.
        width: Likewise.
        top: Of the crop in the resized frame.
        left: Likewise.
        flip: Whether it is mirrored.
        distortion: The photometric distortion, if there is one.
        inverted: Whether dark and bright change places.
    """

    height: int
    width: int
    top: int
    left: int
    flip: bool
    distortion: PhotometricDistortion | None
    inverted: bool = False


def draw_distortion(rng: np.random.Generator) -> PhotometricDistortion:
    """Draw a photometric distortion (see :class:`SegmentationTrainTransform`)."""
    contrast_last = bool(rng.random() < 0.5)
    brightness = rng.uniform(-BRIGHTNESS, BRIGHTNESS) if rng.random() < 0.5 else 0.0
    contrast = rng.uniform(*FACTORS) if rng.random() < 0.5 else 1.0
    saturation = rng.uniform(*FACTORS) if rng.random() < 0.5 else 1.0
    hue = rng.uniform(-HUE, HUE) if rng.random() < 0.5 else 0.0
    return PhotometricDistortion(brightness, contrast, saturation, hue, contrast_last)


class SegmentationTrainDataset(Dataset[tuple[Tensor, Tensor]]):
    """Augmented pairs for fine-tuning; ``dataset[position]`` is a pure function of ``(seed, position)``.

    ``position`` counts samples from the start of training, over all epochs; ``len`` is one epoch. An item is the image,
    ``(3, crop, crop)`` uint8 (grey repeated), and the mask, ``(crop, crop)`` uint8 with 255 for ignore.

    Workers that are forked share the decoded pairs; where workers are spawned (Windows, macOS) each gets a copy.

    Args:
        data: The pairs.
        transform: The augmentation.
        seed: Seed of order and augmentation.
        pairs: The decoded pairs, see :func:`decode_pairs`; left out, each is read when it is shown.
        corrupt: Probability that an image is corrupted (:func:`unip.data.corruptions.corrupt_some`) before all else.
        rare: Says which samples are drawn for a class.
    """

    def __init__(
        self,
        data: SegmentationData,
        transform: SegmentationTrainTransform,
        *,
        seed: int = 0,
        pairs: Sequence[Pair] | None = None,
        corrupt: float = 0.0,
        rare: RareCrops | None = None,
    ) -> None:
        self.data = data
        self.transform = transform
        self.seed = seed
        self.corrupt = corrupt
        self.rare = rare
        self.order = SampleOrder(len(data), seed)
        self._pairs = pairs

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.data)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the augmented pair shown at ``position``."""
        index, class_id = self.choose(position)
        image, mask, *_ = self.pair(index)
        if self.corrupt:
            image = corrupt_some(image, self.corrupt, seed_for(self.seed, position, CORRUPTION_STREAM))
        channels = torch.from_numpy(image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
        out, labels = self.transform(channels, torch.from_numpy(mask), self.generator(position), class_id)
        return out.as_subclass(Tensor), labels.as_subclass(Tensor)

    @property
    def in_memory(self) -> bool:
        """Whether decoded pairs are kept."""
        return self._pairs is not None

    def choose(self, position: int) -> tuple[int, int | None]:
        """Return which pair is shown at ``position``, and the class that its crop must show, if any."""
        drawn = None if self.rare is None else self.rare(position)
        return (self.order(position), None) if drawn is None else drawn

    def generator(self, position: int) -> np.random.Generator:
        """Return where the random numbers of a sample come from."""
        return np.random.default_rng(seed_for(self.seed, position))

    def pair(self, index: int) -> Pair:
        """Return a pair by number.

        Raises:
            UnipError: It is damaged, has two sizes, or its mask an unknown id.
        """
        return self._pairs[index] if self._pairs is not None else self.data.read(index)


def decode_pairs(data: SegmentationData) -> list[Pair]:
    """Decode all pairs.

    Raises:
        UnipError: One is damaged, has two sizes, or its mask an unknown id.
    """
    return list(map_processes(data.read, range(len(data)), "reading pairs", unit="pairs"))


def nearest(size: int, new: int) -> npt.NDArray[np.int64]:
    """Return, for each of ``new`` pixels, the nearest of ``size`` pixels: centres aligned, as in bilinear resizing."""
    positions = (np.arange(new) + 0.5) * (size / new)
    return np.minimum(positions.astype(np.int64), size - 1)


def _any_pixel(
    ids: Pixels8,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    rng: np.random.Generator,
    class_id: int,
) -> tuple[int, int] | None:
    """Return row and column, in the resized frame, of a random pixel of a class; None if there is none."""
    kept = np.unique(rows), np.unique(columns)  # source pixels that are left: all of them in an enlarged frame
    found = np.flatnonzero(ids[np.ix_(*kept)] == class_id)
    if not len(found):
        return None
    row, column = divmod(int(found[rng.integers(len(found))]), len(kept[1]))
    return int(np.searchsorted(rows, kept[0][row])), int(np.searchsorted(columns, kept[1][column]))


def _thinned(first: int, last: int) -> slice:
    return slice(first, last + 1, max(1, (last - first) // COUNTED_PIXELS))


def _levels(image: Tensor, add: float, factor: float) -> Tensor:
    """Return ``clip(clip(image + add) * factor)`` for uint8, through a table."""
    if add == 0.0 and factor == 1.0:
        return image
    levels = np.clip(np.clip(np.arange(256) + add, 0, 255) * factor, 0, 255)
    table: npt.NDArray[Any] = np.rint(levels).astype(np.uint8)
    return torch.from_numpy(np.take(table, image.numpy()))
