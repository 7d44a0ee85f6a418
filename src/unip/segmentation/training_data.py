"""What a fine-tuning trains on: augmented crops, cut by loader processes or by the GPU, or features computed once."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator

from unip.data.labelled.classes import Classes
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.rare_crops import RareCrops
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset, SegmentationTrainTransform
from unip.data.sampling.segmentation_crops_gpu import DeviceCrops, crops_fit
from unip.errors import UnipError
from unip.features.linear import CachedFeatures
from unip.segmentation.config import ResolvedConfig
from unip.segmentation.model import Segmenter


def make_dataset(
    config: ResolvedConfig, segmenter: Segmenter, data: SegmentationData, accelerator: Accelerator
) -> SegmentationTrainDataset | DeviceCrops | CachedFeatures:
    """Return the augmented training crops, cut by the GPU where it can, or of features that are computed now.

    Raises:
        UnipError: A pair cannot be read, or ``cache`` asks of a GPU what it cannot do.
    """
    transform = make_transform(config, segmenter.spec.mean)
    if config.cache_features:
        segmenter.to(accelerator.device)
        precision = accelerator.autocast()
        return CachedFeatures(segmenter, data, transform, seed=config.seed, autocast=precision)
    dataset = SegmentationTrainDataset(
        data,
        transform,
        seed=config.seed,
        cache="ram" if config.cache == "gpu" else config.cache,
        corrupt=config.corrupt or 0.0,
        rare_crops=config.rare_crops,
    )
    return on_device(dataset, config, accelerator.device)


def check_cache(config: ResolvedConfig, device: torch.device) -> None:
    """Refuse to keep on a GPU what there is no GPU for, or what is not trained on.

    Raises:
        UnipError: ``cache`` is ``gpu``, and it cannot be.
    """
    if config.cache == "gpu" and device.type != "cuda":
        raise UnipError("cache gpu: there is no GPU to keep frames on", "Use --cache auto.")
    if config.cache == "gpu" and config.cache_features:
        raise UnipError("cache gpu does nothing in a probe whose features are cached", "Leave one of the two out.")


def check_rare_crops(config: ResolvedConfig, pixels: dict[str, int], classes: Classes) -> None:
    """Refuse to draw crops for classes that no label shows.

    Args:
        config: The settings.
        pixels: Labelled pixels by class name.
        classes: Which of them are foreground.

    Raises:
        UnipError: ``rare_crops`` is set, and no foreground class has a pixel.
    """
    if config.rare_crops:
        anywhere = np.array([[pixels[name] > 0 for name in classes.names]])  # as if all frames were one
        RareCrops(anywhere, classes, config.rare_crops, config.seed)


def make_transform(config: ResolvedConfig, mean: tuple[float, float, float]) -> SegmentationTrainTransform:
    """Return the augmentation, whose crops are padded with the colour ``mean`` (0..1) as the model pads."""
    red, green, blue = mean
    return SegmentationTrainTransform(
        crop=config.crop,
        ratio=config.ratio,
        base=config.base,
        cat_max_ratio=config.cat_max_ratio,
        flip=config.flip,
        photometric=config.photometric,
        fill=(round(255 * red), round(255 * green), round(255 * blue)),
    )


def on_device(
    dataset: SegmentationTrainDataset, config: ResolvedConfig, device: torch.device
) -> SegmentationTrainDataset | DeviceCrops:
    """Let the GPU cut the crops, where it can.

    Raises:
        UnipError: It cannot, though ``cache`` is ``gpu``.
    """
    possible = config.cache in ("auto", "gpu") and crops_fit(dataset, device)
    if config.cache == "gpu" and not possible:
        raise UnipError(
            f"cache gpu: crops of these frames cannot be cut on {device}",
            "It takes a GPU with enough free memory, grey frames and no --corrupt; use --cache auto.",
        )
    return DeviceCrops(dataset, device) if possible else dataset
