"""Crops for pre-training cut on the GPU from images that stay there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unip.data.sampling.gpu_frames import cubic, has_room, resize_weights, resized, stack
from unip.data.sampling.pretraining_crops import PretrainDataset

AT_ONCE = 256  # crops; their source images in floats take a few hundred MB


class DevicePretrainCrops:
    """The crops of a :class:`PretrainDataset`, made on a device.

    ``crops[position]`` is what is random about a sample, a float64 vector; ``crops.finish(batch)`` makes crops of a
    batch of them: those of the data set, but for single levels, since sums are rounded otherwise.

    Args:
        dataset: With its images in memory.
        device: Where images and crops are.
        with_positions: Also return the position of each sample.
    """

    def __init__(self, dataset: PretrainDataset, device: torch.device, *, with_positions: bool = False) -> None:
        self.dataset, self.with_positions = dataset, with_positions
        self.frames = stack(dataset.image, dataset.shapes, device)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what loader processes that are not forked could not use."""
        return {**self.__dict__, "frames": None}

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        """Return the numbers of the sample shown at ``position``, and if asked for that position."""
        index, box, flip = self.dataset.draw(position)
        return torch.tensor([index, *box, flip], dtype=torch.float64), *([position] if self.with_positions else [])

    def finish(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Cut a batch of crops.

        Args:
            batch: The numbers of each sample, ``(B, 6)``, on the device, and the positions if they are told.

        Returns:
            Crops ``(B, 1, size, size)`` uint8, whether each is to be flipped, and the positions.
        """
        numbers, *positions = batch
        crops = torch.cat([self._cut(part) for part in torch.split(numbers, AT_ONCE)])
        return crops, numbers[:, 5] > 0, *positions

    def _cut(self, numbers: Tensor) -> Tensor:
        size = self.dataset.size
        place = torch.arange(size, dtype=torch.float64, device=numbers.device) + 0.5
        weights = []
        for axis in (0, 1):
            low, length = numbers[:, 1 + axis], numbers[:, 3 + axis]
            centres = low[:, None] + place * (length / size)[:, None]
            width = self.frames.shape[1 + axis]
            weights.append(resize_weights(centres, length / size, width, low=low, high=low + length, kernel=cubic))
        return resized(self.frames[numbers[:, 0].long()], *weights).byte()[:, None]


def images_fit(dataset: PretrainDataset, device: torch.device) -> bool:
    """Say whether a GPU can keep the images of a data set."""
    return dataset.in_memory and has_room(dataset.shapes, 1, device)
