"""Training crops cut on the GPU from frames that stay there: the processor only draws the random numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unip.data.transforms import Light, SegmentationTrainDataset
from unip.errors import UnipError

SHARE = 0.25  # of the device's free memory that frames and masks may take
PLAIN = Light(0.0, 1.0, 1.0, 0.0, False)


class DeviceCrops:
    """The crops of a :class:`SegmentationTrainDataset` of grey frames, made on a device.

    ``crops[position]`` is what is random about a sample, a float64 vector; ``crops.finish(batch)`` makes images and
    masks of a batch of them. They are those of the data set; images may differ by a level, since sums are rounded
    otherwise.

    Args:
        dataset: With its pairs in memory, without corruptions.
        device: Where frames, masks and crops are.

    Raises:
        UnipError: A frame is not grey, or its size and its mask's differ.
    """

    def __init__(self, dataset: SegmentationTrainDataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        sizes = [dataset.pair(index)[1].shape for index in range(len(dataset))]
        tall, wide = (max(size[axis] for size in sizes) for axis in (0, 1))
        self.sizes = torch.tensor(sizes, dtype=torch.float64, device=device)
        self.frames = torch.zeros((len(sizes), tall, wide), dtype=torch.uint8, device=device)
        self.masks = torch.zeros((len(sizes), tall, wide), dtype=torch.uint8, device=device)
        for index, (height, width) in enumerate(sizes):
            frame, mask = dataset.pair(index)
            if frame.shape != mask.shape:
                raise UnipError(f"{dataset.data.images[index]} is in colour", "Use --cache ram.")
            self.frames[index, :height, :width] = torch.from_numpy(frame)
            self.masks[index, :height, :width] = torch.from_numpy(mask)

    def __getitem__(self, position: int) -> Tensor:
        """Return the numbers of the sample shown at ``position``."""
        index, label = self.dataset.choose(position)
        drawn = self.dataset.transform.draw(self.dataset.pair(index)[1], self.dataset.generator(position), label)
        light = drawn.light or PLAIN
        return torch.tensor(
            [index, drawn.height, drawn.width, drawn.top, drawn.left, drawn.flip, light.brightness, light.contrast],
            dtype=torch.float64,
        )

    def finish(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Cut a batch of crops.

        Args:
            batch: The numbers of each sample, ``(B, 8)``, on the device.

        Returns:
            Images ``(B, 3, crop, crop)`` uint8 and masks ``(B, crop, crop)`` uint8, as the data set gives them.
        """
        (numbers,) = batch
        transform = self.dataset.transform
        index = numbers[:, 0].long()
        size, resized, corner, (flip, brightness, contrast) = (
            self.sizes[index],
            numbers[:, 1:3],
            numbers[:, 3:5],
            numbers[:, 5:].unbind(1),
        )
        place = torch.arange(transform.crop, dtype=torch.float64, device=self.device)
        shown = (resized - corner).clamp(max=transform.crop)  # of the crop; the rest is padding
        rows = place.expand(len(numbers), -1)
        columns = torch.where(flip[:, None] > 0, shown[:, 1:] - 1 - place, place)
        factor = size / resized
        centres = [
            (corner[:, axis, None] + places + 0.5) * factor[:, axis, None]
            for axis, places in enumerate((rows, columns))
        ]
        inside = (place < shown[:, :1])[:, :, None] & (place < shown[:, 1:])[:, None, :]

        down, across = (
            triangle_weights(centre, size[:, axis], factor[:, axis], self.frames.shape[1 + axis])
            for axis, centre in enumerate(centres)
        )
        with torch.autocast(self.device.type, enabled=False):
            grey = (down @ self.frames[index].float() @ across.transpose(1, 2)).round_().clamp_(0, 255)
        if transform.photometric:
            grey = ((grey + brightness.float()[:, None, None]).clamp(0, 255) * contrast.float()[:, None, None]).clamp(
                0, 255
            )
        top, left = (
            centre.floor().long().clamp_(min=0).minimum(size[:, axis, None].long() - 1)
            for axis, centre in enumerate(centres)
        )
        labels = self.masks[index[:, None, None], top[:, :, None], left[:, None, :]]
        fill: Any = transform.fill
        images = torch.stack([torch.where(inside, grey, level) for level in fill], dim=1)
        return images.round_().byte(), torch.where(inside, labels, transform.ignore_index)


def triangle_weights(centres: Tensor, size: Tensor, factor: Tensor, width: int) -> Tensor:
    """Weights of source pixels in bilinear resizing with antialiasing, as Pillow's and torch's ``antialias=True``.

    A pixel at distance d from the centre weighs max(0, 1 - d / s), where s = max(1, factor); weights sum to 1.

    Args:
        centres: Of the new pixels in the source, ``(B, N)`` float64, in source pixels (a pixel's centre is at 0.5).
        size: Source pixels, ``(B,)``.
        factor: Source pixels for each new pixel, ``(B,)``.
        width: Pixels along this axis of the block that holds the source.

    Returns:
        ``(B, N, width)`` float32.
    """
    pixels = torch.arange(width, dtype=torch.float32, device=centres.device) + 0.5
    distance = (pixels - centres.float()[..., None]).abs() / factor.float().clamp(min=1)[:, None, None]
    weights = (1 - distance).clamp_(min=0) * (pixels < size.float()[:, None, None])
    return weights / weights.sum(-1, keepdim=True).clamp_(min=1e-6)


def fits(dataset: SegmentationTrainDataset, device: torch.device) -> bool:
    """Say whether the crops of a data set can be made on a GPU: frames grey, in memory, small enough, not corrupted."""
    if device.type != "cuda" or dataset.corrupt or not dataset.in_memory:
        return False
    pairs = [dataset.pair(index) for index in range(len(dataset))]
    grey = all(frame.ndim == 2 for frame, _ in pairs)
    tall, wide = (max(mask.shape[axis] for _, mask in pairs) for axis in (0, 1))
    free, _ = torch.cuda.mem_get_info(device)
    return grey and 2 * len(pairs) * tall * wide <= SHARE * free
