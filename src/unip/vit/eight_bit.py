"""Weights stored in 8 bits, with one float scale a row: a quarter of the bytes of float32; loaders restore floats."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unip.errors import UnipError

SCALE = ".scale"  # what the name of the scales adds to that of the weights
LEAST = 1024  # smaller tensors stay floats: norms, biases, the class token


def to_eight_bits(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round weights to 8 bits: ``value = integer * scale``, the scale of a row being its largest magnitude / 127.

    Args:
        state: Tensors by name. Floating ones of two dimensions and more are rounded, each with a scale for every entry
            of its first dimension of more than one entry; the others are kept, as float32.

    Returns:
        Tensors by name: int8 ones of the same shape, and beside each ``NAME.scale``, float32, that broadcasts with it.
    """
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point() or value.ndim < 2 or value.numel() < LEAST:
            stored[name] = value.float() if value.is_floating_point() else value
            continue
        rows = next((d for d, length in enumerate(value.shape) if length > 1), 0)
        others = [d for d in range(value.ndim) if d != rows]
        scale = (value.float().abs().amax(others, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        stored[name] = (value.float() / scale).round().to(torch.int8)
        stored[name + SCALE] = scale
    return stored


def restore(state: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """Return floats where there are 8 bits with scales; other tensors as they are.

    Args:
        state: Tensors by name.
        place: Where they are from, for messages.

    Raises:
        UnipError: Scales do not fit their tensor, or are not finite.
    """
    floats: dict[str, Tensor] = {}
    for name, value in state.items():
        of = name.removesuffix(SCALE)
        if name.endswith(SCALE) and state.get(of, value).dtype == torch.int8:
            continue
        scale = state.get(name + SCALE)
        if value.dtype != torch.int8 or scale is None:
            floats[name] = value
            continue
        fits = scale.ndim == value.ndim and all(s in (1, v) for s, v in zip(scale.shape, value.shape, strict=True))
        if not (fits and scale.is_floating_point() and torch.isfinite(scale).all()):
            raise UnipError(f"{place}: {name}{SCALE} does not fit {name}", "The file is damaged: copy it again.")
        floats[name] = value.float() * scale
    return floats
