"""What a fine-tuning trains on: augmented crops, cut by loader processes or by the GPU, or features computed once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator

from unip.data.labelled.record import CheckedLabels
from unip.data.sampling.rare_crops import RareCrops
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset, SegmentationTrainTransform, decode_pairs
from unip.data.sampling.segmentation_crops_gpu import DeviceCrops, crops_fit
from unip.errors import UnipError
from unip.features.linear import CachedFeatures
from unip.runtime.memory import use_ram
from unip.runtime.seeds import seed_for
from unip.segmentation.config import ResolvedConfig
from unip.segmentation.labels import pair_cache
from unip.segmentation.model import Segmenter
from unip.segmentation.pseudo import PseudoLabels

PSEUDO_STREAM = 5  # sets these crops apart from those of labelled frames
PSEUDO_CORRUPT = 0.3  # share of the crops with pseudo-labels that are corrupted, severities 1 to 3


def make_dataset(
    config: ResolvedConfig,
    segmenter: Segmenter,
    labels: CheckedLabels,
    accelerator: Accelerator,
    pseudo: PseudoLabels | None = None,
) -> SegmentationTrainDataset | DeviceCrops | CachedFeatures | MixedCrops:
    """Return the augmented training crops, cut by the GPU where it can, or of features that are computed now.

    Decoded pairs are kept where ``cache`` says so; those that were kept when they were checked are not read again.

    Raises:
        UnipError: A pair cannot be read any more, or ``cache`` asks of a GPU what it cannot do.
    """
    transform = make_transform(config, segmenter.spec.mean)
    if config.cache_features:
        segmenter.to(accelerator.device)
        sizes = [facts.size for facts in labels.facts]
        return CachedFeatures(
            segmenter, labels.data, sizes, transform, seed=config.seed, autocast=accelerator.autocast()
        )
    pairs = labels.pairs
    if pairs is None and use_ram(pair_cache(config), sum(facts.bytes for facts in labels.facts)):
        pairs = decode_pairs(labels.data)
    dataset = SegmentationTrainDataset(
        labels.data,
        transform,
        seed=config.seed,
        pairs=pairs,
        corrupt=config.corrupt or 0.0,
        rare=make_rare_crops(config, labels),
    )
    if pseudo is not None:
        return MixedCrops(dataset, pseudo_crops(config, pseudo, transform), config.pseudo_share)
    return on_device(dataset, config, accelerator.device)


class MixedCrops:
    """Crops of labelled frames, and, evenly between them, a share of crops of frames with pseudo-labels.

    Args:
        labelled: Crops of labelled frames.
        pseudo: Crops of the others.
        share: Of the positions, from 0 to 1.
    """

    def __init__(self, labelled: SegmentationTrainDataset, pseudo: SegmentationTrainDataset, share: float) -> None:
        self.labelled, self.pseudo, self.share = labelled, pseudo, share

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sample at ``position``, a pure function of (seed, position): each part counts its own."""
        before = int(position * self.share)  # samples of pseudo so far
        if int((position + 1) * self.share) > before:
            return self.pseudo[before]
        return self.labelled[position - before]


def pseudo_crops(
    config: ResolvedConfig, pseudo: PseudoLabels, transform: SegmentationTrainTransform
) -> SegmentationTrainDataset:
    """Return crops of frames with pseudo-labels, distorted: what a model says of a frame is to hold of all of these.

    That is consistency under strong augmentation (FixMatch: Sohn et al., NeurIPS 2020, arXiv 2001.07685).
    """
    return SegmentationTrainDataset(
        pseudo.data,
        replace(transform, photometric=True),
        seed=seed_for(config.seed, PSEUDO_STREAM),
        corrupt=max(PSEUDO_CORRUPT, config.corrupt or 0.0),
    )


def check_cache(config: ResolvedConfig, device: torch.device) -> None:
    """Refuse to keep on a GPU what there is no GPU for, or what is not trained on.

    Raises:
        UnipError: ``cache`` is ``gpu``, and it cannot be.
    """
    if config.cache == "gpu" and device.type != "cuda":
        raise UnipError("cache gpu: there is no GPU to keep frames on", "Use --cache auto.")
    if config.cache == "gpu" and config.pseudo is not None:
        raise UnipError("cache gpu cannot be used with pseudo: loader processes cut these crops", "Use --cache auto.")
    if config.cache == "gpu" and config.cache_features:
        raise UnipError("cache gpu does nothing where features are cached", "Leave one of the two out.")


def make_rare_crops(config: ResolvedConfig, labels: CheckedLabels) -> RareCrops | None:
    """Return what draws crops for classes, if ``rare_crops`` is set.

    Raises:
        UnipError: No foreground class has a pixel.
    """
    if not config.rare_crops:
        return None
    shown = np.array([facts.pixels[:-1] for facts in labels.facts]) > 0
    return RareCrops(shown, labels.data.classes, config.rare_crops, config.seed)


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
        inverted=config.inverted or 0.0,
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
