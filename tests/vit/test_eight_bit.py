"""Weights in 8 bits with a scale a row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unip.errors import UnipError
from unip.vit.eight_bit import SCALE, restore, to_eight_bits


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    rows = torch.logspace(-3, 3, 64)[:, None]  # rows of very unlike magnitude
    return {
        "weight": torch.randn(64, 32) * rows,
        "kernel": torch.randn(16, 8, 4, 4).half(),
        "positions": torch.randn(1, 50, 32),
        "zero": torch.zeros(64, 32),
        "bias": torch.randn(4096),
        "small": torch.randn(3, 3),
        "count": torch.tensor(13),
    }


def test_each_row_is_within_half_a_step() -> None:
    given = state()
    stored = to_eight_bits(given)
    back = restore(stored, "here")
    assert list(back) == list(given)
    for name in ("weight", "kernel", "positions"):
        assert stored[name].dtype == torch.int8
        value = given[name].double()
        rows = value if name != "positions" else value[0]
        found = (back[name].double() if name != "positions" else back[name].double()[0]).flatten(1)
        step = rows.flatten(1).abs().amax(1, keepdim=True) / 127
        assert ((found - rows.flatten(1)).abs() <= step / 2 * 1.001).all()
    for name in ("bias", "small", "count"):
        assert torch.equal(back[name], given[name])
    assert torch.equal(back["zero"], given["zero"])


def test_files_that_hold_no_8_bit_weights_stay_as_they_are() -> None:
    plain = {"mask": torch.ones(4, 4, dtype=torch.int8), "logit.scale": torch.ones(1)}
    assert all(torch.equal(value, plain[name]) for name, value in restore(plain, "here").items())


@pytest.mark.parametrize(
    "scale",
    [torch.ones(63, 1), torch.ones(64), torch.full((64, 1), float("nan")), torch.ones(64, 1, dtype=torch.int32)],
)
def test_damaged_scales_are_refused(scale: Tensor) -> None:
    stored = to_eight_bits({"weight": torch.randn(64, 32)})
    with pytest.raises(UnipError, match=r"weight\.scale does not fit weight"):
        restore({**stored, "weight" + SCALE: scale}, "here")
