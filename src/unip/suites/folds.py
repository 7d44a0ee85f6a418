"""Results of all folds of a set together: each image is tested once, and pixels are added up before they are scored.

A data set without folds is a set of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unip.segmentation.metrics import Scores, score
from unip.suites.results import DoneCell
from unip.suites.suite import DatasetEntry


@dataclass(frozen=True, eq=False)
class PooledRun:
    """The folds of one init and seed.

    Attributes:
        seed: Of all of them.
        matrices: Confusion matrices ``(images, C, C)`` of the images of all folds.
        groups: The group of each image.
        scores: Of their sum.
    """

    seed: int
    matrices: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    scores: Scores


def pooled_over_folds(cells: Iterable[DoneCell], folds: Mapping[str, DatasetEntry]) -> list[PooledRun]:
    """Add up the folds of an init, seed by seed; seeds that lack a fold, or have other classes in one, are left out.

    Args:
        cells: Of one init, protocol and label budget; those of other data sets are passed over.
        folds: The entries that are folds of one set, by name.
    """
    by_seed: dict[int, dict[str, DoneCell]] = {}
    for cell in cells:
        if cell.axes.dataset in folds:
            by_seed.setdefault(cell.axes.seed, {})[cell.axes.dataset] = cell
    return [
        _pooled(seed, found, folds)
        for seed, found in sorted(by_seed.items())
        if len(found) == len(folds) and len({tuple(cell.names) for cell in found.values()}) == 1
    ]


def _pooled(seed: int, found: Mapping[str, DoneCell], folds: Mapping[str, DatasetEntry]) -> PooledRun:
    matrices = np.concatenate([found[name].frames() for name in folds])
    groups = tuple(group for name, entry in folds.items() for group in entry.groups(found[name].images()))
    return PooledRun(seed, matrices, groups, score(matrices.sum(axis=0), next(iter(found.values())).names))
