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
    shares = class_shares(segmenter, data)
    starts = np.cumsum([0, *map(len, shares)])
    whole = np.concatenate(shares)
    labelled = np.flatnonzero(whole.sum(1) > 0)
    if not len(labelled):
        raise UnipError(f"none of the {len(data)} training masks has a labelled pixel", "Label some.")
    draw = np.random.default_rng(seed_for(seed, len(labelled))).permutation(labelled)
    chosen = np.sort(draw[: settings.patches])
    features: list[Tensor | None] = [None] * len(data)
    for frame, maps in layer_maps(segmenter, data, settings.batch_size, "training patches"):
        first, last = starts[frame.index : frame.index + 2]
        own = torch.from_numpy(chosen[(chosen >= first) & (chosen < last)] - first).to(maps.device)
        features[frame.index] = F.normalize(maps[0].flatten(1).T[own], dim=1)
    bank = torch.cat([found for found in features if found is not None])
    return bank, torch.from_numpy(whole[chosen].argmax(1)).to(bank.device)
