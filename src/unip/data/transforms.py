"""Training transforms for segmentation and the numbers that normalise images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from unip.data.classes import IGNORE
from unip.data.corruptions import corrupt_some
from unip.data.images import Pixels8
from unip.data.memory import Cache, use_ram
from unip.data.order import SampleOrder, seed_for
from unip.data.pairs import SegmentationData
from unip.data.parallel import threaded

INFMIX_MEAN = 0.3801  # of grey InfMix images in 0..1 (paper, appendix on pre-training)
INFMIX_STD = 0.1871
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

REDRAWS = 10  # of a crop that one class fills
BRIGHTNESS = 32.0  # levels added or taken away
FACTORS = (0.5, 1.5)  # of contrast and saturation
HUE = 0.1  # of a turn either way: 36 of 360 degrees
CORRUPTED = 1  # sets the seeds of corruptions apart from those of the other augmentation


@dataclass(frozen=True)
class SegmentationTrainTransform:
    """The paper's augmentation (section on fine-tuning): resize, crop, flip, photometric distortion, padding.

    1. Keep-ratio resize (bilinear, antialiased; masks by the nearest pixel) to the largest size whose long side is at
       most ``base[0] * r`` and whose short side is at most ``base[1] * r``, with r uniform in ``ratio``.
    2. A random crop; if one class fills more than ``cat_max_ratio`` of its labelled pixels it is drawn again, up to
       ten times.
    3. A horizontal flip.
    4. Photometric distortion, each piece with probability 1/2: brightness plus -32..32 levels, contrast times 0.5..1.5
       (before or after the colours), and for colour images saturation times 0.5..1.5 and hue by -36..36 degrees.
    5. Padding at the right and the bottom: images with ``fill``, masks with ``ignore_index``.

    Attributes:
        crop: Side of the square that is given out, pixels.
        ratio: Range of the random scale.
        base: Long and short side that the scale multiplies, pixels.
        cat_max_ratio: Largest share of one class in a crop; 1 switches redrawing off.
        flip: Probability of a flip.
        photometric: Whether to distort brightness, contrast and colours.
        ignore_index: Id of mask pixels without a label.
        fill: RGB levels of padding, 0..255; best the mean that the model subtracts, which is also what it pads with.
    """

    crop: int = 512
    ratio: tuple[float, float] = (0.5, 2.0)
    base: tuple[int, int] = (2048, 512)
    cat_max_ratio: float = 0.75
    flip: float = 0.5
    photometric: bool = True
    ignore_index: int = IGNORE
    fill: tuple[int, int, int] = (0, 0, 0)

    def __call__(
        self, image: Tensor, mask: Tensor, rng: np.random.Generator
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Augment one pair; the same state of ``rng`` gives the same result.

        Args:
            image: ``(1, H, W)`` or ``(3, H, W)`` uint8.
            mask: ``(H, W)`` uint8 class ids.
            rng: Where every random number comes from.

        Returns:
            The image ``(3, crop, crop)`` uint8, grey repeated, and the mask ``(crop, crop)`` uint8.
        """
        height, width = image.shape[-2:]
        size = self.resized(height, width, rng.uniform(*self.ratio))
        ids = mask.numpy()
        rows, columns = nearest(height, size[0]), nearest(width, size[1])
        top, left = self._choose_crop(ids, rows, columns, rng)
        tall, wide = min(self.crop, size[0]), min(self.crop, size[1])

        out = F.resize(image.as_subclass(Tensor), list(size), antialias=True)
        out = out[:, top : top + tall, left : left + wide]
        labels = torch.from_numpy(ids[rows[top : top + tall, None], columns[None, left : left + wide]])
        if rng.random() < self.flip:
            out, labels = out.flip(-1), labels.flip(-1)
        if self.photometric:
            out = distort(out, rng)
        canvas, ids_canvas = self.padded(out, labels)
        return tv_tensors.Image(canvas), tv_tensors.Mask(ids_canvas)

    def padded(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pad an image ``(1 or 3, h, w)`` and its mask ``(h, w)``, uint8, to the crop's size; the image gets RGB."""
        height, width = mask.shape
        canvas = torch.tensor(self.fill, dtype=torch.uint8)[:, None, None].repeat(1, self.crop, self.crop)
        canvas[:, :height, :width] = image
        ids = torch.full((self.crop, self.crop), self.ignore_index, dtype=torch.uint8)
        ids[:height, :width] = mask
        return canvas, ids

    def is_mixed(self, ids: Pixels8) -> bool:
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
    ) -> tuple[int, int]:
        """Return top and left of the crop in the resized frame."""
        room = max(0, len(rows) - self.crop), max(0, len(columns) - self.crop)
        tall, wide = min(self.crop, len(rows)), min(self.crop, len(columns))
        for _ in range(1 + REDRAWS):
            top, left = (int(rng.integers(0, space + 1)) for space in room)
            if room == (0, 0):
                break
            # Shares are counted over source pixels: the same up to rounding, and far fewer in an enlarged frame.
            part = ids[rows[top] : rows[top + tall - 1] + 1, columns[left] : columns[left + wide - 1] + 1]
            if self.is_mixed(part):
                break
        return top, left


def distort(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Apply photometric distortion (see :class:`SegmentationTrainTransform`) to ``(1 or 3, H, W)`` uint8."""
    late = rng.random() < 0.5
    brightness = rng.uniform(-BRIGHTNESS, BRIGHTNESS) if rng.random() < 0.5 else 0.0
    contrast = rng.uniform(*FACTORS) if rng.random() < 0.5 else 1.0
    saturation = rng.uniform(*FACTORS) if rng.random() < 0.5 else 1.0
    hue = rng.uniform(-HUE, HUE) if rng.random() < 0.5 else 0.0
    colour = image.shape[0] == 3
    late = late and colour
    image = _levels(image, brightness, 1.0 if late else contrast)
    if colour and saturation != 1.0:
        image = F.adjust_saturation(image, saturation)
    if colour and hue != 0.0:
        image = F.adjust_hue(image, hue)
    return _levels(image, 0.0, contrast) if late else image


class SegmentationTrainDataset(Dataset[tuple[Tensor, Tensor]]):
    """Augmented pairs for fine-tuning; ``dataset[position]`` is a pure function of ``(seed, position)``.

    ``position`` counts samples from the start of training, over all epochs; ``len`` is one epoch. An item is the image,
    ``(3, crop, crop)`` uint8 (grey repeated), and the mask, ``(crop, crop)`` uint8 with 255 for ignore.

    Decoded pairs are kept in memory when they fit. Workers that are forked share them; where workers are
    spawned (Windows, macOS) each gets a copy.

    Args:
        data: The pairs.
        transform: The augmentation.
        seed: Seed of order and augmentation.
        cache: Keep decoded pairs: ``"ram"``, ``"none"``, or ``"auto"`` (when a quarter of the free memory holds them).
        corrupt: Probability that an image is corrupted (:func:`unip.data.corruptions.corrupt_some`) before all else.

    Raises:
        UnipError: A pair is damaged, has two sizes, or its mask an unknown id.
    """

    def __init__(
        self,
        data: SegmentationData,
        transform: SegmentationTrainTransform,
        *,
        seed: int = 0,
        cache: Cache = "auto",
        corrupt: float = 0.0,
    ) -> None:
        self.data = data
        self.transform = transform
        self.seed = seed
        self.corrupt = corrupt
        self.order = SampleOrder(len(data), seed)
        self._pairs: list[tuple[Pixels8, Pixels8]] | None = None
        first = self._read(0)
        if use_ram(cache, sum(part.nbytes for part in first) * len(data)):
            self._pairs = list(threaded(self._read, range(len(data)), "reading pairs", unit="pairs"))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.data)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the augmented pair shown at ``position``."""
        index = self.order(position)
        image, mask = self._pairs[index] if self._pairs is not None else self._read(index)
        if self.corrupt:
            image = corrupt_some(image, self.corrupt, seed_for(self.seed, position, CORRUPTED))
        channels = torch.from_numpy(image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
        rng = np.random.default_rng(seed_for(self.seed, position))
        out, labels = self.transform(channels, torch.from_numpy(mask), rng)
        return out.as_subclass(Tensor), labels.as_subclass(Tensor)

    def _read(self, index: int) -> tuple[Pixels8, Pixels8]:
        return self.data.read(index)


def nearest(size: int, new: int) -> npt.NDArray[np.int64]:
    """Return, for each of ``new`` pixels, the nearest of ``size`` pixels: centres aligned, as in bilinear resizing."""
    positions = (np.arange(new) + 0.5) * (size / new)
    return np.minimum(positions.astype(np.int64), size - 1)


def _levels(image: Tensor, add: float, factor: float) -> Tensor:
    """Return ``clip(clip(image + add) * factor)`` for uint8, through a table."""
    if add == 0.0 and factor == 1.0:
        return image
    levels = np.clip(np.clip(np.arange(256) + add, 0, 255) * factor, 0, 255)
    table: npt.NDArray[Any] = np.rint(levels).astype(np.uint8)
    return torch.from_numpy(np.take(table, image.numpy()))
