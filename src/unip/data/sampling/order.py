"""Which image is shown at which position of training: a pure function of the seed, so that resuming is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from unip.runtime.seeds import seed_for


class SampleOrder:
    """The order of ``n`` samples over all epochs: each epoch is its own seeded permutation.

    With weights that differ, an epoch still has ``n`` places. Sample i gets ``e = n * weight_i / sum of weights`` of
    them: in each epoch e rounded down or up, and e on average over epochs (systematic sampling: W. G. Madow, "On the
    theory of systematic sampling, II", Annals of Mathematical Statistics 20, 1949).

    Args:
        n: Number of samples, at least 1.
        seed: Seed of the run.
        weights: ``(n,)``, not negative; None: all the same.
    """

    def __init__(self, n: int, seed: int, weights: npt.NDArray[np.floating[Any]] | None = None) -> None:
        if n < 1:
            raise ValueError("an order needs at least one sample")
        self._ends: npt.NDArray[np.float64] | None = None  # place in an epoch up to which each sample reaches
        if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError("weights must be finite, not negative and not all zero")
        if weights is not None and (weights != weights[0]).any():
            ends = np.cumsum(weights, dtype=np.float64)
            self._ends = ends * (n / ends[-1])
        self.n = n
        self.seed = seed
        self._epochs: dict[int, npt.NDArray[np.int64]] = {}

    def __call__(self, position: int) -> int:
        """Return the index of the sample shown at ``position``, counted from the start of training."""
        epoch, place = divmod(position, self.n)
        permutation = self._epochs.get(epoch)
        if permutation is None:
            rng = np.random.default_rng(seed_for(self.seed, epoch))
            permutation = rng.permutation(self.n)
            if self._ends is not None:
                drawn = np.searchsorted(self._ends, np.arange(self.n) + rng.random(), side="right")
                permutation = np.minimum(drawn, np.flatnonzero(np.diff(self._ends, prepend=0.0))[-1])[permutation]
            # One earlier epoch is kept: around its end, workers ask for both.
            self._epochs = {key: old for key, old in self._epochs.items() if key == epoch - 1}
            self._epochs[epoch] = permutation
        return int(permutation[place])
