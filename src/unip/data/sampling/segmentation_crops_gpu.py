"""Training crops cut on the GPU from frames that stay there: the processor only draws the random numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unip.data.sampling.gpu_frames import has_room, resize_weights, resized, stack
from unip.data.sampling.segmentation_crops import PhotometricDistortion, SegmentationTrainDataset
from unip.errors import UnipError

PLAIN = PhotometricDistortion(0.0, 1.0, 1.0, 0.0, False)


class DeviceCrops:
    """The crops of a :class:`SegmentationTrainDataset` of grey frames, made on a device.

    ``crops[position]`` is what is random about a sample, a float64 vector; ``crops.finish(batch)`` makes images and
    masks of a batch of them. They are those of the data set; images may differ by a level or two, since sums
    are rounded otherwise.

    Args:
        dataset: With its pairs in memory, without corruptions.
        device: Where frames, masks and crops are.

    Raises:
        UnipError: A frame is not grey, or its size and its mask's differ.
    """

    def __init__(self, dataset: SegmentationTrainDataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        sizes = [dataset.pair(index).mask.shape for index in range(len(dataset))]
        for index, size in enumerate(sizes):
            if dataset.pair(index).image.shape != size:
                raise UnipError(f"{dataset.data.images[index]} is in colour", "Use --cache ram.")
        self.sizes = torch.tensor(sizes, dtype=torch.float64, device=device)
        self.frames = stack(lambda index: dataset.pair(index).image, sizes, device)
        self.masks = stack(lambda index: dataset.pair(index).mask, sizes, device)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what loader processes that are not forked could not use."""
        return {**self.__dict__, "sizes": None, "frames": None, "masks": None}

    def __getitem__(self, position: int) -> Tensor:
        """Return the numbers of the sample shown at ``position``."""
        index, class_id = self.dataset.choose(position)
        drawn = self.dataset.transform.draw(self.dataset.pair(index).mask, self.dataset.generator(position), class_id)
        distortion = drawn.distortion or PLAIN
        return torch.tensor(
            [
                index,
                drawn.height,
                drawn.width,
                drawn.top,
                drawn.left,
                drawn.flip,
                distortion.brightness,
                distortion.contrast,
                drawn.inverted,
            ],
            dtype=torch.float64,
        )

    def finish(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Cut a batch of crops.

        Args:
            batch: The numbers of each sample, ``(B, 9)``, on the device.

        Returns:
            Images ``(B, 3, crop, crop)`` uint8 and masks ``(B, crop, crop)`` uint8, as the data set gives them.
        """
        (numbers,) = batch
        transform = self.dataset.transform
        index = numbers[:, 0].long()
        size, new, corner, (flip, brightness, contrast, inverted) = (
            self.sizes[index],
            numbers[:, 1:3],
            numbers[:, 3:5],
            numbers[:, 5:].unbind(1),
        )
        place = torch.arange(transform.crop, dtype=torch.float64, device=self.device)
        shown = (new - corner).clamp(max=transform.crop)  # of the crop; the rest is padding
        rows = place.expand(len(numbers), -1)
        columns = torch.where(flip[:, None] > 0, shown[:, 1:] - 1 - place, place)
        factor, none = size / new, torch.zeros_like(size[:, 0])
        centres = [
            (corner[:, axis, None] + places + 0.5) * factor[:, axis, None]
            for axis, places in enumerate((rows, columns))
        ]
        inside = (place < shown[:, :1])[:, :, None] & (place < shown[:, 1:])[:, None, :]

        down, across = (
            resize_weights(centre, factor[:, axis], self.frames.shape[1 + axis], low=none, high=size[:, axis])
            for axis, centre in enumerate(centres)
        )
        grey = resized(self.frames[index], down, across)
        if transform.photometric:
            brighter = (grey + brightness.float()[:, None, None]).clamp(0, 255)
            grey = (brighter * contrast.float()[:, None, None]).clamp(0, 255)
        if transform.inverted:
            grey = torch.where(inverted[:, None, None] > 0, 255 - grey, grey)
        top, left = (
            centre.floor().long().clamp_(min=0).minimum(size[:, axis, None].long() - 1)
            for axis, centre in enumerate(centres)
        )
        labels = self.masks[index[:, None, None], top[:, :, None], left[:, None, :]]
        fill: Any = transform.fill
        images = torch.stack([torch.where(inside, grey, level) for level in fill], dim=1)
        return images.round_().byte(), torch.where(inside, labels, transform.ignore_index)


def crops_fit(dataset: SegmentationTrainDataset, device: torch.device) -> bool:
    """Say whether the crops of a data set can be made on a GPU: frames grey, in memory, small enough, not corrupted."""
    if dataset.corrupt or not dataset.in_memory:
        return False
    pairs = [dataset.pair(index) for index in range(len(dataset))]
    return all(pair.image.ndim == 2 for pair in pairs) and has_room([pair.mask.shape for pair in pairs], 2, device)
