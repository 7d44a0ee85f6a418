"""Which images a cap leaves: drawn in an order that only the seed and the images' names decide."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from unip.data.manifests.sources import Entry


class Draw:
    """Draws the images of one source, up to its caps; one that turns out unusable is replaced by the next.

    The order is that of a hash of the seed, the source's name and the image's key (its path inside the source), so it
    is the same on every disk, and adding images to a folder changes nothing about the order of the others.

    Args:
        entries: What the source offers; those with a reason are left alone.
        name: Of the source.
        seed: Of the recipe.
        cap: Maximum number of images; None: all.
        cap_per_class: Maximum number of each label.
    """

    def __init__(
        self, entries: Sequence[Entry], name: str, seed: int, *, cap: int | None, cap_per_class: int | None
    ) -> None:
        start = hashlib.sha256(f"{seed}\0{name}\0".encode())

        def place(entry: Entry) -> bytes:
            draw = start.copy()
            draw.update(entry.key)
            return draw.digest()

        capped = cap is not None or cap_per_class is not None
        open_entries = [entry for entry in entries if not entry.reason]
        self._waiting = sorted(open_entries, key=place) if capped else open_entries
        self._cap, self._per_class = cap, cap_per_class
        self._drawn: list[Entry] = []

    def next(self) -> list[Entry]:
        """Draw as many as there is room for, given what became of those drawn before; empty at the end."""
        kept = [entry for entry in self._drawn if not entry.reason]
        labels = Counter(entry.label for entry in kept)
        total = len(kept)
        drawn: list[Entry] = []
        waiting: list[Entry] = []
        for entry in self._waiting:
            if self._cap is not None and total >= self._cap:
                waiting.append(entry)
            elif self._per_class is not None and labels[entry.label] >= self._per_class:
                waiting.append(entry)
            else:
                labels[entry.label] += 1
                total += 1
                drawn.append(entry)
        self._waiting = waiting
        self._drawn += drawn
        return drawn

    def close(self) -> None:
        """Give the reason to those that were not drawn."""
        for entry in self._waiting:
            entry.reason = "cap"
