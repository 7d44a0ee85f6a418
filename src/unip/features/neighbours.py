"""Nearest neighbours of patches: what labelled patches vote that others are, with nothing learnt."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from unip.config import Config
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.features.model import FeatureModel
from unip.features.patches import class_shares, layer_maps
from unip.runtime.seeds import seed_for

QUERIES = 1024  # patches that look for neighbours at once


class NeighbourSettings(Config):
    """How patches vote."""

    layer: Literal["last"] | int = Field("last", description="Layer of the features, 1-based.")
    k: int = Field(20, ge=1, description="Neighbours that vote.")
    patches: int = Field(100_000, ge=1, description="Training patches at most, drawn with the seed.")
    short_side: int = Field(448, ge=16, description="Images are resized to it, rounded to whole patches; pixels.")
    batch_size: int = Field(4, ge=1, description="Images per forward pass.")


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
