"""Memory for frames that are read, segmented and written by different processes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from unip.data.labelled.outlines import sizes_of_some
from unip.data.sampling.scaling import Scaling
from unip.runtime.queues import uses_processes
from unip.runtime.shared import ALIGNMENT, Arena, make_arena


def arena_for(paths: Sequence[Path], scaling: Scaling) -> Arena | None:
    """Return memory that frames of files can share, by the headers of some; None: they would not be of use.

    To be made before the processes that share it.

    Args:
        paths: The files.
        scaling: How frames are resized.
    """
    if not uses_processes(len(paths)):
        return None
    largest = max((_bytes_of(size, scaling.size(*size)) for size in sizes_of_some(paths)), default=0)
    return make_arena(largest) if largest else None


def _bytes_of(size: tuple[int, int], resized: tuple[int, int]) -> int:
    """Return the bytes of an image in colour, as it is stored and resized, and of its ids."""
    return 3 * prod(size) + 3 * prod(resized) + prod(size) + 3 * ALIGNMENT
