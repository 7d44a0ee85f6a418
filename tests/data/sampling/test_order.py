from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from unip.data.sampling.order import SampleOrder


def test_each_epoch_is_a_permutation_of_its_own() -> None:
    order = SampleOrder(50, seed=3)
    epochs = [[order(epoch * 50 + i) for i in range(50)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert all(a != b for a, b in itertools.combinations(epochs, 2))


def test_the_order_depends_on_seed_and_position_alone() -> None:
    order = SampleOrder(20, seed=1)
    straight = [order(i) for i in range(100)]
    shuffled = np.random.default_rng(0).permutation(100)
    other = SampleOrder(20, seed=1)
    assert [other(int(i)) for i in shuffled] == [straight[i] for i in shuffled]
    copied = pickle.loads(pickle.dumps(order))
    assert [copied(i) for i in range(100)] == straight
    assert [SampleOrder(20, seed=2)(i) for i in range(20)] != straight[:20]


def test_at_most_two_epochs_are_kept() -> None:
    order = SampleOrder(10, seed=0)
    for position in range(100):
        order(position)
    assert len(order._epochs) == 2


def test_an_order_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SampleOrder(0, seed=0)


def test_weights_say_how_often_a_sample_is_shown() -> None:
    weights = np.array([1.0, 3.0, 0.0, 0.5, 0.5, 0.0], dtype=np.float32)
    order = SampleOrder(6, seed=4, weights=weights)
    expected = 6 * weights / weights.sum()
    epochs = np.array([np.bincount([order(6 * e + i) for i in range(6)], minlength=6) for e in range(300)])
    assert (epochs.sum(1) == 6).all()
    assert (epochs >= np.floor(expected)).all() and (epochs <= np.ceil(expected)).all()
    np.testing.assert_allclose(epochs.mean(0), expected, atol=0.08)
    again = SampleOrder(6, seed=4, weights=10 * weights)
    assert [again(i) for i in range(60)] == [order(i) for i in range(60)]


def test_equal_weights_change_nothing() -> None:
    plain, weighted = SampleOrder(7, seed=1), SampleOrder(7, seed=1, weights=np.full(7, 0.3, dtype=np.float32))
    assert [plain(i) for i in range(21)] == [weighted(i) for i in range(21)]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan]])
def test_weights_that_make_no_sense(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        SampleOrder(2, seed=0, weights=np.array(weights))
