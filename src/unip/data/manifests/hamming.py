"""Near-duplicate search over 64-bit hashes: exact, in memory, by sorting parts of the hashes.

Two hashes within ``radius`` bits, cut into ``radius + k`` blocks, have at least ``k`` blocks in common (pigeonhole). So
every choice of ``k`` blocks is made a key once, the hashes are sorted by it, and only hashes with equal keys are
compared (Norouzi, Punjani and Fleet, "Fast exact search in Hamming space with multi-index hashing", 2014, use k = 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Labels = npt.NDArray[np.int64]

BITS = 64
PAIRS_AT_ONCE = 1 << 22  # compared at once: about 150 MB
SORT_COST = 3.0  # time of sorting one hash once, in units of comparing one pair (measured)


def near_groups(hashes: Hashes, radius: int) -> Labels:
    """Group hashes that chains of near neighbours connect (connected components, single linkage).

    Args:
        hashes: ``(N,)`` uint64.
        radius: Bits in which neighbours may differ, 0 to 63.

    Returns:
        ``(N,)`` int64: the smallest index of each hash's group.

    Raises:
        ValueError: The radius is out of range.
    """
    if not 0 <= radius < BITS:
        raise ValueError(f"a radius of {radius} bits does not fit hashes of {BITS} bits")
    # Equal hashes are one: constant frames all hash alike, and would make as many pairs as their number squared.
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    labels = np.arange(len(unique))
    if radius:
        for left, right in _candidates(unique, radius):
            apart = labels[left] != labels[right]
            left, right = left[apart], right[apart]
            near = np.bitwise_count(unique[left] ^ unique[right]) <= radius
            labels = join(labels, left[near], right[near])
    smallest = np.full(len(unique), len(hashes), dtype=np.int64)
    np.minimum.at(smallest, labels, first)
    found: Labels = smallest[labels][inverse]
    return found


def join(labels: Labels, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> Labels:
    """Merge the groups of pairs of items.

    Args:
        labels: ``(N,)`` int64: for each item the smallest index of its group.
        left: ``(P,)`` indices of items.
        right: ``(P,)`` indices of items, each to be in one group with its partner in ``left``.

    Returns:
        ``(N,)`` labels of the merged groups; the input is not changed.
    """
    parents = labels
    one, two = labels[left], labels[right]
    while True:
        apart = one != two
        if not apart.any():
            return parents
        one, two = one[apart], two[apart]
        parents = parents.copy() if parents is labels else parents
        np.minimum.at(parents, np.maximum(one, two), np.minimum(one, two))
        while True:  # every item points at its root
            above = parents[parents]
            if np.array_equal(above, parents):
                break
            parents = above
        one, two = parents[one], parents[two]


def _candidates(unique: Hashes, radius: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield pairs of indices among which are all pairs within the radius; some come more than once."""
    same = _shared_blocks(len(unique), radius)
    # Neighbouring bits of a perceptual hash go together; dealing them out keeps every block's values spread.
    blocks = [range(start, BITS, radius + same) for start in range(radius + same)]
    for chosen in itertools.combinations(blocks, same):
        bits = sum(1 << bit for block in chosen for bit in block)
        keys = unique & np.uint64(bits)
        order = np.argsort(keys)
        keys = keys[order]
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        ends = np.concatenate((starts[1:], [len(keys)]))
        # Item i of the sorted list is to be compared with those behind it that have the same key.
        later = np.repeat(ends, ends - starts) - np.arange(len(keys)) - 1
        for low, high in _portions(later):
            counts = later[low:high]
            left = np.repeat(np.arange(low, high), counts)
            offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
            yield order[left], order[left + 1 + offsets]


def _portions(later: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut the sorted list so that each portion makes about ``PAIRS_AT_ONCE`` pairs."""
    total = np.cumsum(later)
    low = 0
    while low < len(later):
        done = int(total[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(total, done + PAIRS_AT_ONCE, side="right")))
        if total[high - 1] > done:
            yield low, high
        low = high


def _shared_blocks(count: int, radius: int) -> int:
    """Choose how many blocks a key has, by the expected time for random hashes."""

    def time(same: int) -> float:
        pairs: float = count**2 / 2 / 2.0 ** (BITS * same / (radius + same))
        return math.comb(radius + same, same) * (count * SORT_COST + pairs)

    choices: Sequence[int] = range(1, min(BITS - radius, 6) + 1)
    return min(choices, key=time)
