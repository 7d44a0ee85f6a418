"""Crops of stored features: a decoder on a frozen backbone is trained on them, in a fraction of the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.order import SampleOrder
from unip.data.sampling.scaling import window_starts
from unip.data.sampling.segmentation_crops import COUNTED_PIXELS, SegmentationTrainTransform, nearest
from unip.features.model import FeatureModel
from unip.features.store import FeatureStore, layer_features
from unip.progress import meter
from unip.runtime.seeds import seed_for

BATCH = 16  # windows in one pass of the backbone


class CachedFeatures(Dataset[tuple[Tensor, Tensor]]):
    """Features of whole frames; ``dataset[position]`` is a pure function of ``(seed, position)``.

    A frame is resized as training resizes it at ratio 1, and cut into windows as large as crops, beside each other, the
    last one at the border: windows are what the backbone sees when it predicts. It sees each once, and those of the
    mirrored frame where there are flips. Their features are put together to a map again, from which crops of whole
    patches are drawn. A linear layer looks at one patch at a time, so it does not see where windows met; convolutions
    see it, as a small change in features. An item is the features ``(C, h, w)`` float16, all layers side by side, and
    the mask ``(crop, crop)`` uint8 of a crop.

    Args:
        segmenter: Gives backbone and layers; on the device where they are to be computed.
        data: The pairs.
        sizes: Height and width of each frame in pixels.
        transform: Size, crop, flips and the rule on crops that one class fills. Its ratio and distortion do not count.
        seed: Seed of order, crops and mirroring.
        autocast: The precision to compute in.
        shown: Whether to show the progress.

    Raises:
        UnipError: A pair cannot be read any more.
    """

    def __init__(
        self,
        segmenter: FeatureModel,
        data: SegmentationData,
        sizes: Sequence[tuple[int, int]],
        transform: SegmentationTrainTransform,
        *,
        seed: int,
        autocast: AbstractContextManager[Any],
        shown: bool = True,
    ) -> None:
        self.transform, self.seed, self.patch = transform, seed, segmenter.patch
        self.side = window_side(transform, segmenter.patch)
        self.order = SampleOrder(len(data), seed)
        padded = [map_size(transform, height, width, self.patch) for height, width in sizes]
        # of each frame as it is and, with flips, mirrored
        grids = [(versions(transform), tall // self.patch, wide // self.patch) for tall, wide in padded]
        self.store = FeatureStore(segmenter, [math.prod(grid) for grid in grids], "ram")
        rows = map(self.store.of, range(len(data)))
        self.features = [part.view(len(part), *grid, part.shape[-1]) for part, grid in zip(rows, grids, strict=True)]
        self.masks: list[tuple[Tensor, ...]] = []
        segmenter.eval()
        progressing = meter("computing features", len(data), "frames", enabled=shown)
        with progressing as progress, torch.no_grad(), autocast:
            for index, size in enumerate(padded):
                pair = data.read(index)
                image, mask = resized(transform, pair.image, pair.mask)
                pairs = [(image, mask), (image.flip(-1), mask.flip(-1))][: versions(transform)]
                whole = [transform.padded(*pair, *size) for pair in pairs]
                self.masks.append(tuple(ids for _, ids in whole))
                for version, (canvas, _) in enumerate(whole):
                    fill_map(self.features[index][:, version], segmenter, canvas, self.side)
                progress.advance()

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.order.n

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the crop shown at ``position``."""
        frame = self.order(position)
        rng = np.random.default_rng(seed_for(self.seed, position))
        version = int(rng.random() < self.transform.flip)
        features, mask = self.features[frame][:, version], self.masks[frame][version]
        patches, crop = self.side // self.patch, self.transform.crop
        step = max(1, crop // COUNTED_PIXELS)

        def ids_at(top: int, left: int) -> Tensor:
            return mask[top * self.patch :, left * self.patch :][:crop, :crop]

        spans = [(0, length - patches) for length in features.shape[1:3]]
        top, left = self.transform.place(spans, lambda *at: ids_at(*at)[::step, ::step].numpy(), rng)
        return side_by_side(features[:, top : top + patches, left : left + patches]), ids_at(top, left)


def window_side(transform: SegmentationTrainTransform, patch: int) -> int:
    """Return the side of a window in pixels: the crop's, in whole patches, as the model pads it."""
    return max(2, -(-transform.crop // patch)) * patch


def map_size(transform: SegmentationTrainTransform, height: int, width: int, patch: int) -> tuple[int, int]:
    """Return height and width in pixels of a resized frame, in whole patches and no smaller than a window."""
    least = window_side(transform, patch)
    tall, wide = (max(least, -(-side // patch) * patch) for side in transform.resized(height, width, 1.0))
    return tall, wide


def versions(transform: SegmentationTrainTransform) -> int:
    """Return how many versions of a frame there are: with its mirror image, two."""
    return 2 if transform.flip else 1


def resized(
    transform: SegmentationTrainTransform, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    """Resize a pair as training does at ratio 1; the image ``(1 or 3, h, w)`` and the mask ``(h, w)``, uint8."""
    tall, wide = transform.resized(mask.shape[0], mask.shape[1], 1.0)
    channels = torch.from_numpy(image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
    ids = mask[nearest(mask.shape[0], tall)[:, None], nearest(mask.shape[1], wide)]
    return F.resize(channels, [tall, wide], antialias=True), torch.from_numpy(ids)


def corners(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """Return top and left of each window of a frame."""
    return [(top, left) for top in window_starts(height, side, side) for left in window_starts(width, side, side)]


def side_by_side(features: Tensor) -> Tensor:
    """Turn features ``(layers, h, w, C)`` into a map ``(channels, h, w)`` of all layers."""
    return features.permute(0, 3, 1, 2).flatten(0, 1)


def fill_map(found: Tensor, segmenter: FeatureModel, image: Tensor, side: int) -> None:
    """Fill ``found`` ``(layers, H / patch, W / patch, C)`` with a frame's features, by windows of ``side`` pixels."""
    places, patch = corners(image.shape[1], image.shape[2], side), segmenter.patch
    for at in range(0, len(places), BATCH):
        part = places[at : at + BATCH]
        windows = torch.stack([image[:, top : top + side, left : left + side] for top, left in part])
        maps = layer_features(segmenter, windows).permute(0, 1, 3, 4, 2).half().cpu()
        for (top, left), window in zip(part, maps, strict=True):
            rows, columns = (slice(start // patch, (start + side) // patch) for start in (top, left))
            found[:, rows, columns] = window


def count_windows(transform: SegmentationTrainTransform, sizes: npt.NDArray[np.int64], patch: int) -> int:
    """Return the windows of frames of these sizes ``(N, 2)``, those of mirror images included."""
    each, frames = np.unique(sizes, axis=0, return_counts=True)
    side = window_side(transform, patch)
    counts = [len(corners(*map_size(transform, height, width, patch), side)) for height, width in each.tolist()]
    return versions(transform) * int(np.dot(counts, frames))


def cache_bytes(
    transform: SegmentationTrainTransform, sizes: npt.NDArray[np.int64], *, channels: int, patch: int
) -> int:
    """Return the bytes that features of ``channels`` and masks take, see :class:`CachedFeatures`."""
    pixels = sum(math.prod(map_size(transform, height, width, patch)) for height, width in sizes.tolist())
    return versions(transform) * (pixels + 2 * channels * pixels // patch**2)
