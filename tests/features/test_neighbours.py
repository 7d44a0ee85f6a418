"""Votes of neighbours against plain float64 code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unip.data.labelled.datasets import open_segmentation
from unip.features import neighbours
from unip.features.config import NeighbourSettings
from unip.features.neighbours import training_patches, vote
from unip.features.patches import class_shares
from unip.segmentation.metrics import score
from unip.segmentation.probing import frozen_segmenter, segment_by_neighbours
from unip.vit.backbone import load_backbone


def by_hand(queries: np.ndarray, bank: np.ndarray, votes: np.ndarray, k: int, count: int) -> np.ndarray:
    shares = np.zeros((len(queries), count))
    for row, query in enumerate(queries):
        similar = [query @ other / np.linalg.norm(query) / np.linalg.norm(other) for other in bank]
        for index in np.argsort(similar)[::-1][:k]:
            shares[row, votes[index]] += 1 / min(k, len(bank))
    return shares


@pytest.mark.parametrize("k", [1, 5, 100])
def test_votes(k, monkeypatch):
    monkeypatch.setattr(neighbours, "QUERIES", 7)
    rng = np.random.default_rng(0)
    queries, bank, votes = rng.normal(size=(20, 6)), rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    unit = torch.nn.functional.normalize(torch.from_numpy(bank).float(), dim=1)
    found = vote(torch.from_numpy(queries).float(), unit, torch.from_numpy(votes), k, 4)
    assert found.numpy() == pytest.approx(by_hand(queries, bank, votes, k, 4), abs=1e-6)


@pytest.fixture
def segmenter(weights, scenes):
    return frozen_segmenter(load_backbone(str(weights / "a")), (3,), open_segmentation(scenes, "train"), 32)


def test_the_class_that_covers_most_of_a_patch_votes_and_the_cap_is_seeded(segmenter, scenes):
    train = open_segmentation(scenes, "train")
    with torch.inference_mode():
        bank, votes = training_patches(segmenter, train, NeighbourSettings(), 0)
        some, few = training_patches(segmenter, train, NeighbourSettings(patches=10), 0)
        again, _ = training_patches(segmenter, train, NeighbourSettings(patches=10), 0)
        other, _ = training_patches(segmenter, train, NeighbourSettings(patches=10), 1)
    shares = class_shares(segmenter, train)[0]
    labelled = shares[shares.sum(1) > 0]
    assert votes.tolist() == labelled.argmax(1).tolist()
    assert len(bank) == len(labelled)
    assert bank.norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert len(some) == len(few) == 10
    assert torch.equal(some, again)
    assert not torch.equal(some, other)


def test_images_that_were_trained_on_find_themselves(segmenter, scenes):
    train = open_segmentation(scenes, "train")
    alone = segment_by_neighbours(segmenter, train, train, NeighbourSettings(k=1), 0)
    many = segment_by_neighbours(segmenter, train, train, NeighbourSettings(k=50), 0)
    assert alone.shape == (6, len(train.classes.names), len(train.classes.names))
    for index in range(6):
        mask = train.read_mask(index)
        assert alone[index].sum() == (mask != 255).sum()
    assert score(alone.sum(0), train.classes.names).miou > score(many.sum(0), train.classes.names).miou
