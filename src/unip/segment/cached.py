"""Features of a frozen backbone, computed once: a linear probe is then trained on them in a fraction of the time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from unip.data.order import SampleOrder, seed_for
from unip.data.pairs import SegmentationData
from unip.data.transforms import REDRAWS, SegmentationTrainTransform, nearest
from unip.progress import meter
from unip.segment.model import SegmentationLoss, Segmenter
from unip.segment.sliding import window_starts

BATCH = 16  # windows in one pass of the backbone


class CachedFeatures(Dataset[tuple[Tensor, Tensor]]):
    """Features of windows of all frames; ``dataset[position]`` is a pure function of ``(seed, position)``.

    A frame is resized as training resizes it at ratio 1, and cut into windows of the crop's side, beside each other,
    the last one at the border. The backbone sees each window once, and its mirror image once where there are flips:
    windows as it will see them when it predicts. An item is a random window of the frame whose turn it is, mirrored or
    not: features ``(C, h, w)`` float16, all layers side by side, and the mask ``(crop, crop)`` uint8.

    Args:
        segmenter: Gives backbone and layers; on the device where they are to be computed.
        data: The pairs.
        transform: Size, crop, flips and the rule on crops that one class fills. Its ratio and distortion do not count.
        sizes: Height and width of each frame, ``(N, 2)``.
        seed: Seed of order, windows and mirroring.
        autocast: The precision to compute in.

    Raises:
        UnipError: A pair cannot be read any more.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        data: SegmentationData,
        transform: SegmentationTrainTransform,
        sizes: npt.NDArray[np.int64],
        *,
        seed: int,
        autocast: AbstractContextManager[Any],
    ) -> None:
        self.transform, self.seed = transform, seed
        self.order = SampleOrder(len(data), seed)
        counts = [len(windows(transform, *size)) for size in sizes.tolist()]
        self.first = np.cumsum([0, *counts])
        total, crop = int(self.first[-1]), transform.crop
        self.masks = torch.empty(total, crop, crop, dtype=torch.uint8)
        self.mixed = np.zeros(total, dtype=bool)  # windows that no class fills
        features: Tensor | None = None
        segmenter.eval()
        with meter("computing features", len(data), "frames") as progress, torch.no_grad(), autocast:
            for index in range(len(data)):
                images, masks = cut(transform, *data.read(index))
                begin, end = self.first[index : index + 2].tolist()
                self.masks[begin:end] = masks
                self.mixed[begin:end] = [transform.is_mixed(mask.numpy()) for mask in masks]
                for flip in range(flips(transform)):
                    for at in range(0, len(images), BATCH):
                        part = images[at : at + BATCH].to(segmenter.mean.device)
                        found = side_by_side(segmenter, part.flip(-1) if flip else part).half().cpu()
                        if features is None:
                            features = found.new_empty(total, flips(transform), *found.shape[1:])
                        features[begin + at : begin + at + len(part), flip] = found
                progress.advance()
        assert features is not None
        self.features = features

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.order.n

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the window shown at ``position``."""
        frame = self.order(position)
        rng = np.random.default_rng(seed_for(self.seed, position))
        for _ in range(1 + REDRAWS):
            window = int(rng.integers(self.first[frame], self.first[frame + 1]))
            if self.mixed[window]:
                break
        flip = int(rng.random() < self.transform.flip)
        mask = self.masks[window]
        return self.features[window, flip], mask.flip(-1) if flip else mask


class CachedLoss(SegmentationLoss):
    """The loss of a linear probe whose batches are :class:`CachedFeatures` instead of images; only the head is run."""

    def logits(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits ``(B, C, H, W)`` of features ``(B, channels, h, w)``."""
        return self.segmenter.to_pixels(self.segmenter.head([images.float()]), masks), None


def side_by_side(segmenter: Segmenter, images: Tensor) -> Tensor:
    """Return the features ``(B, channels, h, w)`` that a probe sees of uint8 images, all layers in one."""
    return torch.cat(segmenter.features(segmenter.normalise(images)), dim=1)


def windows(transform: SegmentationTrainTransform, height: int, width: int) -> list[tuple[int, int]]:
    """Return top and left of each window in a frame of this size, once it is resized."""
    tall, wide = transform.resized(height, width, 1.0)
    crop = transform.crop
    return [(top, left) for top in window_starts(tall, crop, crop) for left in window_starts(wide, crop, crop)]


def flips(transform: SegmentationTrainTransform) -> int:
    """Return how many versions of a window there are: with its mirror image, two."""
    return 2 if transform.flip else 1


def cut(
    transform: SegmentationTrainTransform, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    """Resize a pair at ratio 1 and cut it into windows, padded as training crops are.

    Returns:
        Images ``(N, 3, crop, crop)`` and masks ``(N, crop, crop)``, both uint8.
    """
    tall, wide = transform.resized(mask.shape[0], mask.shape[1], 1.0)
    channels = torch.from_numpy(image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
    resized = F.resize(channels, [tall, wide], antialias=True)
    ids = torch.from_numpy(mask[nearest(mask.shape[0], tall)[:, None], nearest(mask.shape[1], wide)])
    crop = transform.crop
    pairs = [
        transform.padded(resized[:, top : top + crop, left : left + crop], ids[top : top + crop, left : left + crop])
        for top, left in windows(transform, *mask.shape)
    ]
    images, masks = zip(*pairs, strict=True)
    return torch.stack(images), torch.stack(masks)


def count_windows(transform: SegmentationTrainTransform, sizes: npt.NDArray[np.int64]) -> int:
    """Return the windows of frames of these sizes ``(N, 2)``, mirror images included."""
    each, frames = np.unique(sizes, axis=0, return_counts=True)
    counts = [len(windows(transform, *size)) for size in each.tolist()]
    return flips(transform) * int(np.dot(counts, frames))


def cache_bytes(
    transform: SegmentationTrainTransform, sizes: npt.NDArray[np.int64], *, channels: int, patch: int
) -> int:
    """Return the bytes that features of ``channels`` and masks take, see :class:`CachedFeatures`."""
    count, side = count_windows(transform, sizes), max(2, -(-transform.crop // patch))
    return count * 2 * channels * side * side + count // flips(transform) * transform.crop**2
