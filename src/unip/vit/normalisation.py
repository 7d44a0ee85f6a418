"""How a ViT's images are normalised, and letting it take others without changing what it computes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unip.errors import UnipError
from unip.limits import MAX_SIDE

INFMIX_MEAN = 0.3801  # of grey InfMix images in 0..1 (paper, appendix on pre-training)
INFMIX_STD = 0.1871
INFMIX_RGB = (INFMIX_MEAN,) * 3, (INFMIX_STD,) * 3  # mean and deviation of three equal channels
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DAMAGED = "Its description is damaged: get the model again."

Normalisation = tuple[Sequence[float], Sequence[float]]  # mean and deviation of each channel, of values 0..1


@dataclass(frozen=True)
class Preprocessing:
    """What the images went through that a backbone was trained on.

    Attributes:
        mean: Channel means that were subtracted from RGB in 0..1.
        std: Channel deviations that they were divided by.
        input_size: Side in pixels of the squares they were resized to; None where only the architecture tells it.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    input_size: int | None = None

    def updated(self, values: Mapping[str, Any]) -> Preprocessing:
        """Return it with what ``values``, of a file or of timm, tell; a size may be a side or (channels, H, W).

        Raises:
            UnipError: Mean or deviation is not three finite numbers, a deviation is not above 0, or the size is none.
        """
        size = values.get("input_size") or self.input_size
        try:
            side = int(min(size[1:]) if isinstance(size, (list, tuple)) else size) if size else None
            mean, std = _three(values.get("mean") or self.mean), _three(values.get("std") or self.std)
        except (TypeError, ValueError, OverflowError) as error:
            raise UnipError(f"mean, std or input_size of its images is none ({error})", DAMAGED) from None
        if not all(map(math.isfinite, mean + std)) or min(std) <= 0:
            raise UnipError(f"images cannot be normalised by mean {mean} and std {std}", DAMAGED)
        if side is not None and not 1 <= side <= MAX_SIDE:
            raise UnipError(f"images cannot be resized to {side} pixels", DAMAGED)
        return Preprocessing(mean, std, side)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


@torch.no_grad()
def renormalise(model: nn.Module, old: Normalisation, new: Normalisation) -> bool:
    """Rewrite the patch embedding, in place, for images normalised by ``new`` where it was trained with ``old``.

    With ``(p - m) / s`` for both, ``x_old = x_new s_new / s_old + (m_new - m_old) / s_old``: the factor goes into the
    kernel, the offset, summed over the kernel, into the bias. This is exact for images of whole patches; timm pads
    others with zeros, which are then another grey.

    Args:
        model: A timm ViT.
        old: How its images were normalised, each of as many numbers as it has input channels.
        new: How they will be.

    Returns:
        Whether it could: without a bias (CLIP) there is no place for the offset, and the model is left as it is.
    """
    embedding: nn.Conv2d = model.patch_embed.proj  # type: ignore[assignment,union-attr]
    if embedding.bias is None:
        return False
    weight = embedding.weight.double()
    (old_mean, old_std), (new_mean, new_std) = (
        [torch.tensor(values, dtype=torch.float64, device=weight.device) for values in pair] for pair in (old, new)
    )
    embedding.bias.add_(weight.sum((2, 3)) @ ((new_mean - old_mean) / old_std))
    embedding.weight.mul_((new_std / old_std)[:, None, None])
    return True
