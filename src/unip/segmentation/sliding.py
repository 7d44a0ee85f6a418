"""Sliding-window inference: overlapping crops, their logits averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unip.data.sampling.frames import rgb
from unip.data.sampling.scaling import window_starts


def window_counts(size: Sequence[int], crop: int, stride: int, device: torch.device) -> Tensor:
    """Return how many windows cover each pixel of an image, float32 of its ``size``."""

    def along(length: int) -> Tensor:
        counts = torch.zeros(length, device=device)  # there: a copy would wait for all that the device has to do
        for start in window_starts(length, crop, stride):
            counts[start : start + crop] += 1
        return counts

    return along(size[0])[:, None] * along(size[1])


@torch.no_grad()
def sliding_logits(
    model: Callable[[Tensor], Tensor], images: Sequence[Tensor], *, crop: int, stride: int, batch: int = 8
) -> list[Tensor]:
    """Run ``model`` over windows of several images and average the logits where windows overlap.

    Args:
        model: Maps ``(N, 3, h, w)`` images to ``(N, C, h, w)`` logits.
        images: uint8 ``(3, H, W)`` images on the model's device; their sizes may differ.
        crop: Side of the square windows in pixels; images smaller than it are seen whole along that axis.
        stride: Pixels from one window to the next.
        batch: Windows of equal size run together, also across images.

    Returns:
        float32 ``(C, H, W)`` logits for each image.
    """
    places = [
        (index, top, left)
        for index, image in enumerate(images)
        for top in window_starts(image.shape[1], crop, stride)
        for left in window_starts(image.shape[2], crop, stride)
    ]
    by_size: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for index, top, left in places:
        height, width = images[index].shape[1:]
        by_size[min(crop, height), min(crop, width)].append((index, top, left))

    # first, so that no copy waits for the model
    counts = {
        size: window_counts(size, crop, stride, images[0].device)
        for size in {image.shape[1:] for image in images}
        if max(size) > crop
    }
    sums: list[Tensor | None] = [None] * len(images)
    for (height, width), spots in by_size.items():
        for first in range(0, len(spots), batch):
            group = spots[first : first + batch]
            windows = [images[i][:, t : t + height, left : left + width] for i, t, left in group]
            for (i, top, left), logits in zip(group, model(torch.stack(windows)).float(), strict=True):
                total = sums[i]
                if images[i].shape[1:] == (height, width):  # the only window
                    # a recorded model answers in the same memory again
                    sums[i] = logits.clone() if logits.is_cuda else logits
                    continue
                if total is None:
                    total = sums[i] = logits.new_zeros((len(logits), *images[i].shape[1:]))
                total[:, top : top + height, left : left + width] += logits
    found = [(total, image.shape[1:]) for total, image in zip(sums, images, strict=True) if total is not None]
    return [total.div_(counts[size]) if size in counts else total for total, size in found]


@torch.no_grad()
def sliding_logits_of_batch(
    model: Callable[[Tensor], Tensor], images: Tensor, *, crop: int, stride: int, batch: int = 8
) -> Tensor:
    """Do what :func:`sliding_logits` does with images of one size, in steps that are the same for each such batch.

    Args:
        model: As there.
        images: uint8 ``(N, 1 or 3, H, W)`` on the model's device.
        crop: As there.
        stride: As there.
        batch: As there.

    Returns:
        float32 ``(N, C, H, W)``.
    """
    height, width = images.shape[-2:]
    tall, wide = min(crop, height), min(crop, width)
    places = [
        (..., slice(top, top + tall), slice(left, left + wide))
        for top in window_starts(height, crop, stride)
        for left in window_starts(width, crop, stride)
    ]
    windows = torch.stack([images[place] for place in places], 1).flatten(0, 1)  # image by image
    total: Tensor | None = None
    for first in range(0, len(windows), batch):
        found = model(rgb(windows[first : first + batch]).contiguous())
        if total is None:
            total = torch.zeros((len(images), found.shape[1], height, width), device=images.device)
        if len(places) == 1:
            total[first : first + batch] = found
            continue
        for number, logits in enumerate(found, first):
            total[number // len(places)][places[number % len(places)]] += logits
    assert total is not None
    return total if len(places) == 1 else total.div_(window_counts((height, width), crop, stride, images.device))
