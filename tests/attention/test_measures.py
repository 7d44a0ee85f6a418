from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unip.attention.measures import nmi, nmi_of_attention


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
