"""Random numbers that belong to a sample: functions of the seed and of the sample's position in training."""

from __future__ import annotations

import torch

from unip.training.feed import PositionDataset


class WithPositions:
    """A data set of crops that returns each with its position in training.

    Args:
        dataset: Gives a crop and whether to mirror it.
    """

    def __init__(self, dataset: PositionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, position: int) -> tuple[torch.Tensor, bool, int]:
        """Return crop, whether to mirror it, and position."""
        return *self.dataset[position], position


def seeded_noise(seed: int, positions: torch.Tensor, count: int) -> torch.Tensor:
    """Draw ``count`` numbers for each sample that depend on nothing but the seed and the sample's position.

    A hash of counters instead of a generator: a generator's numbers would depend on which samples share a batch, and so
    on the number of devices.

    Args:
        seed: Up to 63 bits.
        positions: (B,) int64, of the samples in training.
        count: Numbers a sample.

    Returns:
        (B, count) int64, uniform in 0 .. 2^32 - 1.
    """
    low, high = seed & 0xFFFFFFFF, seed >> 32
    key = _hash32(_hash32((positions & 0xFFFFFFFF) ^ low) ^ (positions >> 32) ^ high)
    counter = _hash32(torch.arange(count, device=positions.device) + 0x1B873593)
    return _hash32(key[:, None] ^ counter)


def _hash32(x: torch.Tensor) -> torch.Tensor:
    """Scramble 32-bit numbers (T. Mueller's integer hash); products stay below 2^63, so that none overflows."""
    for _ in range(2):
        x = (((x >> 16) ^ x) * 0x45D9F3B) & 0xFFFFFFFF
    return (x >> 16) ^ x
