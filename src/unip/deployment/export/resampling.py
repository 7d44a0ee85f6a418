"""Resizing in a graph whose sizes are known only when it runs: matrices made from whole numbers.

Engines differ in their resizing with antialiasing, or have none. Products of matrices are the same everywhere, and
their entries, made from whole numbers, do not depend on how an engine rounds coordinates.

Sizes are ints, or symbols of them (``torch.SymInt``) while a graph is made. Products are of two dimensions:
OpenVINO does not take all others.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

INT16 = 2**15


def image_weights(old: int, new: int, padded: int) -> Tensor:
    """Return the weights ``(padded, old)``, float32, with which torch resizes uint8 images with antialiasing.

    Pixel centres keep their place. A new pixel is the mean of the old ones under a triangle, two old pixels wide or,
    where the image becomes smaller, two new ones. Of the weights, torch keeps as many bits as fit into 16 (ATen's
    ``UpSampleKernelAVXAntialias.h``, after Pillow's ``Resample.c``); so do these.

    Args:
        old: Pixels along the axis.
        new: Wanted pixels.
        padded: Rows of the matrix, at least ``new``; those that follow are 0.
    """
    parts = (2 * larger(old, new) - _distance(old, new, padded)).clamp(min=0)
    sums = parts.sum(dim=1, keepdim=True)
    inside = (torch.arange(padded) < new)[:, None]
    sums = torch.where(inside, sums, 1)
    parts = torch.where(inside, parts, 0)
    powers = 2 ** torch.arange(1, 23)  # of the bits that may be kept
    fits = torch.floor((parts / sums).max() * powers + 0.5) < INT16
    scale = torch.where(fits, powers, 1).max()
    return _rounded_shares(parts, sums, scale) / scale


def _rounded_shares(parts: Tensor, sums: Tensor, scale: Tensor) -> Tensor:
    """Return ``parts / sums * scale`` rounded to whole numbers, halves up, in integers that fit into 32 bits."""
    high = scale.clamp(max=INT16)
    low = scale // high
    most, rest = parts * high // sums, parts * high % sums
    return most * low + (2 * rest * low + sums) // (2 * sums)


def resize_levels(image: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Resize an image of 256 levels as ``torchvision.transforms.v2.functional.resize(uint8, antialias=True)`` does.

    Args:
        image: ``(C, H, W)`` float32 of whole numbers 0..255.
        size: Wanted height and width.
        padded: Height and width of what is returned, at least as large; what follows below and to the right is 0.

    Returns:
        ``(C, *padded)`` float32 of whole numbers 0..255; columns are rounded before rows are resized, as there.
    """
    height, width = image.shape[-2:]
    columns = _rounded(along_rows(image, image_weights(width, size[1], padded[1])))
    return _rounded(along_columns(columns, image_weights(height, size[0], padded[0])))


def bicubic_weights(old: int, new: int) -> Tensor:
    """Return the weights ``(new, old)``, float32, of torch's bicubic resizing with antialiasing along an axis.

    The kernel is that of Keys (1981) with a = -0.5, stretched where the axis becomes shorter.
    """
    distance = _distance(old, new, new).float() / (2 * larger(old, new))
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(dim=1, keepdim=True)


def pooling_weights(old: int, new: int) -> Tensor:
    """Return the weights ``(new, old)``, float32, of adaptive average pooling along an axis."""
    index = torch.arange(new)[:, None]
    start, stop = index * old // new, ((index + 1) * old + new - 1) // new
    place = torch.arange(old)[None]
    inside = ((place >= start) & (place < stop)).float()
    return inside / inside.sum(dim=1, keepdim=True)


def product(one: Tensor, other: Tensor) -> Tensor:
    """Multiply two matrices in float32, also where the model computes in fewer bits."""
    if not torch.is_autocast_enabled("cpu"):
        return one @ other
    with torch.autocast("cpu", enabled=False):
        return one @ other


def along_rows(maps: Tensor, weights: Tensor) -> Tensor:
    """Resize the rows of maps ``(C, H, W)`` by weights ``(w, W)``; return ``(C, H, w)``."""
    channels, height, width = maps.shape
    return product(maps.reshape(channels * height, width), weights.T).reshape(channels, height, weights.shape[0])


def along_columns(maps: Tensor, weights: Tensor) -> Tensor:
    """Resize the columns of maps ``(C, H, W)`` by weights ``(h, H)``; return ``(C, h, W)``."""
    channels, height, width = maps.shape
    flat = product(weights, maps.transpose(0, 1).reshape(height, channels * width))
    return flat.reshape(weights.shape[0], channels, width).transpose(0, 1)


def resized_length(length: int, shorter: int, short_side: int) -> int:
    """Return how long a side becomes when the shorter side becomes ``short_side``: rounded, halves up, at least 1."""
    return larger(1, (2 * length * short_side + shorter) // (2 * shorter))


def _distance(old: int, new: int, rows: int) -> Tensor:
    """Return how far the first new pixels are from old ones, in old pixels times ``2 * new``: int64 ``(rows, old)``."""
    here = (2 * torch.arange(rows)[:, None] + 1) * old
    there = (2 * torch.arange(old)[None] + 1) * new
    return (here - there).abs()


def larger(one: int, other: int) -> int:
    """Return the larger of two sizes, without asking which it is."""
    return cast(int, torch.sym_max(one, other))


def smaller(one: int, other: int) -> int:
    """Return the smaller of two sizes, without asking which it is."""
    return cast(int, torch.sym_min(one, other))


def _rounded(levels: Tensor) -> Tensor:
    return torch.floor(levels + 0.5).clamp(0, 255)
