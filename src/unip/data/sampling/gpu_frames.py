"""Grey frames that stay on a GPU, and resizing of many crops of them at once as products with matrices of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.images.decoding import Pixels8

FREE_MEMORY_SHARE = 0.25  # of the device's free memory that frames may take
Sizes = Sequence[tuple[int, int]] | npt.NDArray[np.int64]  # height and width of each
Kernel = Callable[[Tensor], Tensor]


def stack(read: Callable[[int], Pixels8], sizes: Sizes, device: torch.device) -> Tensor:
    """Put frames ``(H, W)`` uint8 of several sizes into one block ``(N, tallest, widest)``, filled up with zeros."""
    tall, wide = np.max(np.asarray(sizes), axis=0).tolist()
    block = torch.zeros((len(sizes), tall, wide), dtype=torch.uint8, device=device)
    for index, (height, width) in enumerate(sizes):
        block[index, :height, :width] = torch.from_numpy(np.ascontiguousarray(read(index)))
    return block


def has_room(sizes: Sizes, copies: int, device: torch.device) -> bool:
    """Say whether a GPU can keep so many blocks of such frames."""
    if device.type != "cuda":
        return False
    tall, wide = np.max(np.asarray(sizes), axis=0).tolist()
    free, _ = torch.cuda.mem_get_info(device)
    return bool(copies * len(sizes) * tall * wide <= FREE_MEMORY_SHARE * free)


def triangle(x: Tensor) -> Tensor:
    """Bilinear kernel: max(0, 1 - x) at distances x >= 0."""
    return (1 - x).clamp(min=0)


def cubic(x: Tensor) -> Tensor:
    """Bicubic kernel of Pillow and of torch with ``antialias=True`` (Keys, 1981, a = -1/2) at distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def resize_weights(
    centres: Tensor, factor: Tensor, width: int, *, low: Tensor, high: Tensor, kernel: Kernel = triangle
) -> Tensor:
    """Weights of source pixels in antialiased resizing along an axis, as Pillow's and torch's ``antialias=True``.

    A pixel at distance d from a centre weighs kernel(d / s), where s = max(1, factor); weights sum to 1.

    Args:
        centres: Of the new pixels in the source, ``(B, N)`` float64, in source pixels (a pixel's centre is at 0.5).
        factor: Source pixels for each new pixel, ``(B,)``.
        width: Pixels along this axis of the block that holds the source.
        low: First source pixel that takes part, ``(B,)``.
        high: The one behind the last, ``(B,)``.
        kernel: Of the interpolation.

    Returns:
        ``(B, N, width)`` float32.
    """
    pixels = torch.arange(width, dtype=torch.float32, device=centres.device)
    scale = factor.float().clamp(min=1)[:, None, None]
    weights = kernel((pixels + 0.5 - centres.float()[..., None]).abs() / scale)
    weights = weights * ((pixels >= low.float()[:, None, None]) & (pixels < high.float()[:, None, None]))
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total == 0, 1, total)


def resized(frames: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return frames ``(B, H, W)`` uint8 resized by weights ``(B, h, H)`` and ``(B, w, W)``: whole levels, float32."""
    with torch.autocast(frames.device.type, enabled=False):
        return (down @ frames.float() @ across.transpose(1, 2)).round_().clamp_(0, 255)
