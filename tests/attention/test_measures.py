from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unip.attention.measures import (
    attention_distance,
    attention_entropy,
    grid_diagonal,
    nmi,
    nmi_of_attention,
    prefix_share,
)


def nmi_float64(attention: list[list[float]]) -> float:
    """The definition, term by term in Python floats (METHOD: p(q) = 1/L, p(k) = column mean)."""
    length = len(attention)
    received = [math.fsum(row[k] for row in attention) / length for k in range(length)]
    information = math.fsum(
        a / length * math.log(a / received[k]) for row in attention for k, a in enumerate(row) if a > 0
    )
    h_query = math.log(length)
    h_key = -math.fsum(p * math.log(p) for p in received if p > 0)
    return information / math.sqrt(h_query * h_key) if h_key > 0 else 0.0


@settings(max_examples=40, deadline=None)
@given(length=st.integers(2, 20), sharpness=st.floats(0.01, 60), seed=st.integers(0, 10_000))
def test_equals_the_definition_in_float64(length, sharpness, seed):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(1, 1, length, 8, generator=generator) * sharpness
    k = torch.randn(1, 1, length, 8, generator=generator)
    attention = (q.double() @ k.double().mT * 8**-0.5).softmax(-1)
    wanted = nmi_float64(attention[0, 0].tolist())
    assert nmi(q.double(), k.double()).item() == pytest.approx(wanted, abs=1e-7)
    # H(k) is known to about 1e-7 in float32, and NMI has its square root below: where nearly all attention is on
    # one key, that is all float32 can say
    assert nmi(q, k).item() == pytest.approx(wanted, abs=5e-4)
    assert nmi_of_attention(attention.float()).item() == pytest.approx(wanted, abs=5e-4)


def test_known_extremes():
    length = 7
    assert nmi_of_attention(torch.full((length, length), 1 / length)).item() == pytest.approx(0, abs=1e-6)
    assert nmi_of_attention(torch.eye(length)).item() == pytest.approx(1)
    assert nmi_of_attention(torch.eye(length)[torch.randperm(length)]).item() == pytest.approx(1)


def test_all_attention_on_one_key_is_zero_not_nan():
    attention = torch.zeros(5, 5)
    attention[:, 2] = 1
    assert nmi_of_attention(attention).item() == 0
    q = torch.full((1, 1, 5, 4), 100.0)
    k = torch.zeros(1, 1, 5, 4)
    k[..., 2, :] = 100
    assert nmi(q, k).item() == 0


def test_one_token():
    assert nmi(torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4)).tolist() == [[0] * 3] * 2


def test_half_precision_inputs_are_measured_in_float32():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, 16, 8, generator=generator).half() * 20 for _ in range(2))
    found = nmi(q, k)
    assert found.shape == (2, 3)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double(), nmi(q.double(), k.double()), atol=1e-5, rtol=0)


def random_attention(length: int, sharpness: float = 3, maps: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return (torch.randn(maps, length, length, generator=generator) * sharpness).softmax(-1)


def test_entropy_equals_its_definition_in_float64_and_has_its_extremes():
    attention = random_attention(9)
    for found, rows in zip(attention_entropy(attention).tolist(), attention.double().tolist(), strict=True):
        wanted = math.fsum(-a * math.log(a) for row in rows for a in row if a > 0) / 9
        assert found == pytest.approx(wanted, abs=1e-5)
    assert attention_entropy(torch.full((9, 9), 1 / 9)).item() == pytest.approx(math.log(9))
    assert attention_entropy(torch.eye(9)).item() == 0  # log 0 counts 0


def test_distance_equals_its_definition_in_float64():
    rows, columns, prefix = 2, 3, 2
    attention = random_attention(prefix + 6)
    found = attention_distance(attention, (rows, columns), prefix)
    for value, matrix in zip(found.tolist(), attention.double().tolist(), strict=True):
        total = 0.0
        for q in range(6):
            weights = matrix[prefix + q][prefix:]
            reach = [math.dist(divmod(q, columns), divmod(k, columns)) for k in range(6)]
            total += math.fsum(w * d for w, d in zip(weights, reach, strict=True)) / math.fsum(weights)
        assert value == pytest.approx(total / 6, abs=1e-5)


def test_distance_extremes():
    assert attention_distance(torch.eye(12), (3, 4)).item() == 0
    right = torch.eye(4).roll(1, dims=1)  # on one row of 4: 1, 1, 1 and back over 3
    assert attention_distance(right, (1, 4)).item() == pytest.approx(6 / 4)
    places = [divmod(i, 4) for i in range(12)]
    mean = np.mean([math.dist(a, b) for a in places for b in places])
    assert attention_distance(torch.full((12, 12), 1 / 12), (3, 4)).item() == pytest.approx(mean)
    assert grid_diagonal((3, 4)) == 5


def test_share_of_the_prefix_tokens():
    attention = random_attention(3 + 6)
    found = prefix_share(attention, 1, 3, 3)
    torch.testing.assert_close(found.double(), attention.double()[:, 3:, 1:3].sum(-1).mean(-1), atol=1e-6, rtol=0)
    assert prefix_share(torch.eye(7), 0, 1, 1).item() == 0
    assert prefix_share(torch.full((8, 8), 1 / 8), 0, 2, 2).item() == pytest.approx(1 / 4)
    assert math.isnan(prefix_share(torch.eye(6), 0, 0, 0).item())
