from __future__ import annotations

import math

import pytest

from unip.errors import UnipError
from unip.training.schedule import check_warmup, warmup_cosine, warmup_poly


def test_cosine_rises_then_falls_to_zero():
    factor = warmup_cosine(100, 10)
    assert [factor(i) for i in range(10)] == pytest.approx([(i + 1) / 10 for i in range(10)])
    for step in range(10, 101):
        assert factor(step) == pytest.approx(0.5 * (1 + math.cos(math.pi * (step - 10) / 90)))
    assert factor(100) == pytest.approx(0)


def test_no_warmup():
    assert warmup_cosine(10, 0)(0) == 1
    assert warmup_poly(10, 0)(0) == 1


def test_poly_falls_linearly_under_the_warmup():
    factor = warmup_poly(100, 20)
    assert factor(0) == pytest.approx(1 / 20)
    assert factor(9) == pytest.approx(10 / 20 * 0.91)
    assert factor(50) == pytest.approx(0.5)
    assert warmup_poly(100, 0, power=2)(50) == pytest.approx(0.25)


@pytest.mark.parametrize(("warmup", "steps"), [(10, 10), (11, 10), (1, 1)])
def test_a_warmup_without_end_is_refused(warmup, steps):
    with pytest.raises(
        UnipError, match=f"a warm-up of {warmup} steps must be shorter than the training of {steps}"
    ) as caught:
        check_warmup(warmup, steps)
    assert "--warmup auto" in caught.value.fix
    for fits in (0, steps - 1):
        check_warmup(fits, steps)
