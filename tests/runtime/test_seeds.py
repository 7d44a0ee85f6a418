from __future__ import annotations

import numpy as np

from unip.runtime.seeds import seed_for


def test_seeds_tell_parts_apart() -> None:
    parts = [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (1, 2), (2, 1), (1, 2, 0), (2**32,), (-1,), (2**63 - 1,)]
    seeds = [seed_for(*part) for part in parts]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [seed_for(*part) for part in parts]


def test_seeds_are_the_same_on_every_machine() -> None:
    # Written down once: another value would break the resuming of runs made before.
    assert seed_for(0, 0) == int(np.random.SeedSequence([2, 0, 0, 0, 0]).generate_state(1, np.uint64)[0] >> 1)
    assert seed_for(7, 5) == 6359984160339915907
