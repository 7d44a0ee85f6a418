"""Labelled pairs that are read more than once, from memory after the first time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from unip.data.images.config import Conversion
from unip.data.images.decoding import Pixels, Pixels8
from unip.data.labelled.pairs import SegmentationData
from unip.runtime.memory import use_ram


@dataclass(frozen=True)
class KeptPairs(SegmentationData):
    """Pairs whose images and masks stay in memory once they are read, where there is room for all of them.

    Attributes:
        kept: The samples of images by conversion and image file, the masks by None and image file.
    """

    kept: dict[tuple[Conversion | None, Path], Any] = field(default_factory=dict, compare=False, repr=False)

    def take(self, indices: Iterable[int]) -> Self:
        """Return the pairs with these indices, in their order; what was read of others is forgotten by them."""
        taken = super().take(indices)
        images = set(taken.images)
        return dataclasses.replace(taken, kept={key: found for key, found in self.kept.items() if key[1] in images})

    def read_mask(self, index: int) -> Pixels8:
        """Return a mask as :meth:`SegmentationData.read_mask` does."""
        return self._once(None, index, lambda: SegmentationData.read_mask(self, index))

    def read_samples(self, index: int, conversion: Conversion) -> Pixels:
        """Return samples as :meth:`SegmentationData.read_samples` does."""
        return self._once(conversion, index, lambda: SegmentationData.read_samples(self, index, conversion))

    def _once(self, conversion: Conversion | None, index: int, read: Callable[[], Pixels]) -> Pixels:
        key = conversion, self.images[index]
        found = self.kept.get(key)
        if found is None:
            found = read()
            if use_ram("auto", found.nbytes * len(self)):
                self.kept[key] = found
        return found
