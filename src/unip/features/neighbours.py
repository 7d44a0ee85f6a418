"""Nearest neighbours of patches: what labelled patches vote that others are, with nothing learnt."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.features.config import NeighbourSettings
from unip.features.model import FeatureModel
from unip.features.patches import class_shares, layer_maps
from unip.features.store import FeatureStore
from unip.runtime.seeds import seed_for

QUERIES = 1024  # patches that look for neighbours at once


def vote(queries: Tensor, bank: Tensor, votes: Tensor, k: int, count: int) -> Tensor:
    """Return the share of each class among the ``k`` training patches most similar to each query.

    Args:
        queries: ``(N, C)`` features.
        bank: ``(M, C)`` features of length 1.
        votes: ``(M,)`` int64 classes.
        k: Neighbours; all, if there are fewer.
        count: Number of classes.

    Returns:
        ``(N, count)``, rows sum to 1.
    """
    shares = []
    for some in torch.split(F.normalize(queries, dim=1), QUERIES):
        nearest = (some @ bank.T).topk(min(k, len(bank)), dim=1).indices
        shares.append(F.one_hot(votes[nearest], count).float().mean(1))
    return torch.cat(shares)


def training_patches(
    segmenter: FeatureModel, data: SegmentationData, settings: NeighbourSettings, seed: int
) -> tuple[Tensor, Tensor]:
    """Return features ``(M, C)`` of length 1 and classes ``(M,)`` of labelled training patches, drawn by the seed."""
    shares, counts = class_shares(segmenter, data)
    labelled = np.flatnonzero(shares.sum(1) > 0)
    if not len(labelled):
        raise UnipError(f"none of the {len(data)} training masks has a labelled pixel", "Label some.")
    draw = np.random.default_rng(seed_for(seed, len(labelled))).permutation(labelled)
    chosen = np.sort(draw[: settings.patches])
    starts = np.cumsum([0, *counts])
    parts = np.split(chosen, np.searchsorted(chosen, starts[1:-1]))
    # float32: rounded to half, a patch could have other neighbours
    store = FeatureStore(segmenter, [len(part) for part in parts], "ram", np.float32)
    for frame, maps in layer_maps(segmenter, data, settings.batch_size, "training patches"):
        own = torch.from_numpy(parts[frame.index] - starts[frame.index]).to(maps.device)
        store.of(frame.index)[0] = F.normalize(maps[0].flatten(1).T[own], dim=1)
    votes = torch.from_numpy(shares[chosen].argmax(1))
    return torch.from_numpy(store.rows[0]).to(segmenter.mean.device), votes.to(segmenter.mean.device)
