"""Seeds of random numbers, as functions of what they are for."""

from __future__ import annotations

import numpy as np


def seed_for(*parts: int) -> int:
    """Mix integers into one 63-bit seed; other parts, another order or another count give another seed.

    Args:
        *parts: Integers of any sign below 2^63 in size, such as ``(seed, step, rank)``.

    Returns:
        An integer in ``0 .. 2^63 - 1`` that every generator accepts.
    """
    # SeedSequence splits big integers into words and pads with zeros; fixed words and the count keep parts apart.
    words = [len(parts)]
    for part in parts:
        value = int(part) & 0xFFFF_FFFF_FFFF_FFFF
        words += [value & 0xFFFF_FFFF, value >> 32]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))
