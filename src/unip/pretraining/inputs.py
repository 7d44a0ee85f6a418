"""What teacher and student see: grey crops, flipped and normalised on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unip.vit.normalisation import INFMIX_MEAN, INFMIX_STD


def normalise_crops(images: torch.Tensor, flips: torch.Tensor | None = None) -> torch.Tensor:
    """Turn uint8 grey crops into what the models take.

    Args:
        images: (B, 1, S, S) uint8.
        flips: (B,) bool, which of them to mirror; None mirrors none.

    Returns:
        (B, 1, S, S), InfMix-normalised: one channel stands for three equal ones (:func:`unip.vit.forward.embed`).
    """
    if flips is not None:
        images = torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)
    return normalise(images.float() / 255)


def normalise(grey: torch.Tensor) -> torch.Tensor:
    """InfMix-normalise grey images of values 0..1."""
    return (grey - INFMIX_MEAN) / INFMIX_STD


def normalise_grey(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 grey images (B, 1, H, W) into InfMix-normalised float ones (B, 3, H, W)."""
    return normalise_crops(images).expand(-1, 3, -1, -1)


def resize_to(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Resize square float images (B, C, S, S) to ``side``, bicubic with antialiasing; as they are when they fit."""
    if pixels.shape[-1] == side:
        return pixels
    return F.interpolate(pixels, (side, side), mode="bicubic", antialias=True, align_corners=False)
