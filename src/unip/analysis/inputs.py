"""How images are given to a model that is analysed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unip.analysis.config import AnalyzeConfig
from unip.analysis.samples import Sample
from unip.attention.pictures import Picture
from unip.data.sampling.pretraining_crops import read_squares
from unip.errors import UnipError
from unip.vit.backbone import Backbone
from unip.vit.normalisation import IMAGENET_MEAN, IMAGENET_STD, INFMIX_RGB
from unip.vit.shape import patch_size


def image_sets(sample: Sample) -> dict[str, list[str]]:
    """Return the files by the name of their set: ``images``, or ``infrared`` and ``visible`` of pairs."""
    return {"infrared": sample.paths, "visible": sample.partners} if sample.partners else {"images": sample.paths}


def evenly_spaced(total: int, count: int) -> list[int]:
    """Choose ``count`` of ``total`` indices, evenly spaced."""
    return sorted(set(np.linspace(0, total - 1, min(total, count)).round().astype(int).tolist()))


def frames(paths: Sequence[str], chosen: Sequence[int], side: int, *, colour: bool = False) -> list[Picture]:
    """Read some images resized to squares: uint8 (side, side), or (side, side, 3) in colour."""
    pixels = read_squares([paths[i] for i in chosen], side, colour=colour)
    return [image[0] if len(image) == 1 else image.transpose(1, 2, 0) for image in pixels.numpy()]


def in_colour(config: AnalyzeConfig, images: str) -> bool:
    """Say whether a set of images is shown in colour."""
    return images == "visible" and config.pair_colour


def input_side(config: AnalyzeConfig, backbone: Backbone) -> int:
    """Side of the squares that images are resized to, in pixels."""
    side = config.size or backbone.input_size
    patch = patch_size(backbone.model)
    if side % patch:
        raise UnipError(
            f"{side} px is not a multiple of {backbone.source}'s {patch}-px patches",
            f"Choose --size as a multiple of {patch}.",
        )
    return side


def normalization_of(
    config: AnalyzeConfig, backbone: Backbone
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Channel means and deviations, as asked."""
    of = {"model": (backbone.mean, backbone.std), "imagenet": (IMAGENET_MEAN, IMAGENET_STD), "infmix": INFMIX_RGB}
    return of[config.normalization]


def model_input(config: AnalyzeConfig, backbone: Backbone, paths: Sequence[str], images: str) -> torch.Tensor:
    """Read images, resize them to squares and normalise them; returns float (B, 3, S, S) on the model's device."""
    mean, std = normalization_of(config, backbone)
    device = next(backbone.model.parameters()).device
    squares = read_squares(paths, input_side(config, backbone), colour=in_colour(config, images))
    pixels = squares.to(device).float().expand(-1, 3, -1, -1) / 255
    return (pixels - pixels.new_tensor(mean)[:, None, None]) / pixels.new_tensor(std)[:, None, None]
