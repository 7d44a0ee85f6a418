"""Patches of labelled frames: their features, layer by layer, and the classes below them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.images.decoding import Pixels8
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.frames import Frame, Frames, rgb
from unip.data.sampling.scaling import short_side_size
from unip.errors import UnipError
from unip.features.model import FeatureModel
from unip.features.store import layer_features
from unip.progress import meter
from unip.runtime.workers import map_threads

Floats = npt.NDArray[np.float32]


class FeaturesOutOfRange(UnipError):
    """Features of an image are not finite, or far from those of other images."""


def class_shares(segmenter: FeatureModel, data: SegmentationData) -> tuple[Floats, list[int]]:
    """Count the classes below each patch.

    Cross-entropy against these shares is that of every labelled pixel against the scores of the patch it lies in.

    Returns:
        For the patches of all images ``(patches, classes)`` float32: the area of each class in patches. Rows sum to 1,
        and to less where pixels have no label or the patch sticks out of the image. And the patches of each image.
    """

    def read(index: int) -> Floats:
        mask = data.read_mask(index)
        size = short_side_size(mask.shape[0], mask.shape[1], segmenter.spec.short_side)
        grid = tuple(side // segmenter.patch for side in segmenter.padded_size(torch.empty(size, device="meta")))
        return patch_shares(mask, size, (grid[0], grid[1]), segmenter.patch, len(data.classes.names))

    shares = list(map_threads(read, range(len(data)), "reading labels", unit="masks"))
    return np.concatenate(shares), [len(of_image) for of_image in shares]


def patch_shares(mask: Pixels8, size: tuple[int, int], grid: tuple[int, int], patch: int, classes: int) -> Floats:
    """Return the area of each class below each patch of a mask ``(H, W)`` whose image is resized to ``size``."""
    rows, columns = (
        ((np.arange(stored) + 0.5) * (new / stored) / patch).astype(np.int64)
        for stored, new in zip(mask.shape, size, strict=True)
    )
    cells = rows[:, None] * grid[1] + columns
    labelled = mask != IGNORE
    counts = np.bincount(cells[labelled] * classes + mask[labelled], minlength=grid[0] * grid[1] * classes)
    pixel = size[0] * size[1] / mask.size / patch**2  # its area in patches
    return (counts.reshape(-1, classes) * pixel).astype(np.float32)


def layer_maps(
    segmenter: FeatureModel, data: SegmentationData, batch: int, what: str
) -> Iterator[tuple[Frame, Tensor]]:
    """Yield each frame of ``data`` with its features ``(layers, C, h, w)``, float32 on the model's device.

    Frames of a batch that have one size run together.

    Raises:
        UnipError: An image is damaged.
        FeaturesOutOfRange: The model's features are not finite.
    """
    frames = Frames(data, segmenter.spec.short_side)
    with meter(what, len(frames), "images") as progress:
        for first in range(0, len(frames), batch):
            indices = range(first, min(first + batch, len(frames)))
            group = list(map_threads(frames.__getitem__, indices, what, quiet=True))
            while group:
                if group[0].problem is not None:
                    raise group[0].problem
                size = group[0].pixels.shape[-2:]
                same = [frame for frame in group if frame.pixels.shape[-2:] == size]
                group = [frame for frame in group if frame.pixels.shape[-2:] != size]
                maps = layer_features(segmenter, torch.stack([rgb(frame.pixels) for frame in same]))
                if not maps.isfinite().all():
                    raise FeaturesOutOfRange(
                        f"the model gives values that are not finite for {data.images[same[0].index]}",
                        "Check its weights, and that its normalisation is the one it was trained with.",
                    )
                yield from zip(same, maps, strict=True)
                progress.advance(len(same))
