"""How images are given to a model that is analysed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unip.analysis.config import AnalyzeConfig
from unip.attention.pictures import Picture
from unip.errors import UnipError
from unip.vit.backbone import Backbone
from unip.vit.normalisation import IMAGENET_MEAN, IMAGENET_STD, INFMIX_RGB
from unip.vit.shape import patch_size


def evenly_spaced(total: int, count: int) -> list[int]:
    """Choose ``count`` of ``total`` indices, evenly spaced."""
    return sorted(set(np.linspace(0, total - 1, min(total, count)).round().astype(int).tolist()))


def frames(squares: Sequence[torch.Tensor], chosen: Sequence[int]) -> list[Picture]:
    """Return some images as pictures: uint8 (side, side), or (side, side, 3) in colour."""
    return [
        (image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy() for image in map(squares.__getitem__, chosen)
    ]


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


def model_input(config: AnalyzeConfig, backbone: Backbone, squares: Sequence[torch.Tensor]) -> torch.Tensor:
    """Normalise images, uint8 (1 or 3, S, S); returns float (B, 3, S, S) on the model's device."""
    mean, std = normalization_of(config, backbone)
    device = next(backbone.model.parameters()).device
    pixels = torch.stack(list(squares)).to(device).float().expand(-1, 3, -1, -1) / 255
    return (pixels - pixels.new_tensor(mean)[:, None, None]) / pixels.new_tensor(std)[:, None, None]
