import numpy as np
import pytest

from unip.data.manifests import hamming
from unip.data.manifests.hamming import join, near_groups


def brute_force(hashes, radius):
    """Connected components by the whole distance matrix and a search from each hash."""
    labels = np.full(len(hashes), -1)
    for start in range(len(hashes)):
        front = [start] if labels[start] < 0 else []
        while front:
            item = front.pop()
            labels[item] = start
            near = np.bitwise_count(hashes ^ hashes[item]) <= radius
            front += np.flatnonzero(near & (labels < 0)).tolist()
    return labels


def clustered(count, seed):
    """Hashes around a few centres, so that there are neighbours at every distance and chains."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 40, dtype=np.uint64)[rng.integers(0, 40, count)]
    for _ in range(9):
        hashes ^= np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64)
    return hashes


@pytest.mark.parametrize("radius", [0, 1, 4, 7, 12, 20])
def test_groups_are_those_of_brute_force(radius):
    hashes = clustered(700, radius)
    found = near_groups(hashes, radius)
    assert np.array_equal(found, brute_force(hashes, radius))
    assert 1 < len(np.unique(found)) or radius == 20


@pytest.mark.parametrize("shared", [1, 2, 3])
def test_every_number_of_shared_blocks_finds_all(shared, monkeypatch):
    monkeypatch.setattr(hamming, "_shared_blocks", lambda count, radius: shared)
    monkeypatch.setattr(hamming, "PAIRS_AT_ONCE", 100)  # many portions
    hashes = clustered(600, 3)
    assert np.array_equal(near_groups(hashes, 6), brute_force(hashes, 6))


def test_a_pair_at_the_radius_is_found_and_one_beyond_is_not():
    rng = np.random.default_rng(0)
    for _ in range(50):
        one = rng.integers(0, 2**64, dtype=np.uint64)
        flips = rng.permutation(64)[:5].astype(np.uint64)
        four, five = (np.bitwise_xor.reduce(np.uint64(1) << flips[:n]) ^ one for n in (4, 5))
        assert near_groups(np.array([one, four]), 4).tolist() == [0, 0]
        assert near_groups(np.array([one, five]), 4).tolist() == [0, 1]


def test_many_equal_hashes_cost_nothing():
    hashes = np.zeros(300_000, dtype=np.uint64)  # 45 thousand million pairs
    hashes[-1] = 2**64 - 1
    labels = near_groups(hashes, 4)
    assert not labels[:-1].any() and labels[-1] == len(hashes) - 1


def test_few_or_none():
    assert near_groups(np.array([], dtype=np.uint64), 4).shape == (0,)
    assert near_groups(np.array([7], dtype=np.uint64), 4).tolist() == [0]
    with pytest.raises(ValueError, match="radius"):
        near_groups(np.array([7], dtype=np.uint64), 64)


def test_groups_are_joined_along_chains():
    labels = np.arange(8)
    joined = join(labels, np.array([6, 5, 4, 1]), np.array([5, 4, 3, 0]))
    assert joined.tolist() == [0, 0, 2, 3, 3, 3, 3, 7]
    assert labels.tolist() == list(range(8))
