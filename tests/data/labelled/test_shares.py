"""Shares of pixels as text."""

from __future__ import annotations

import pytest

from unip.data.labelled.shares import percent_of_pixels


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0"),
        (0.00018, "0.02"),
        (0.99982, "99.98"),
        (0.000004, "0.0004"),
        (0.0312, "3.1"),
        (0.5, "50.0"),
        (1.0, "100.0"),
    ],
)
def test_a_share_of_pixels_is_0_or_100_only_if_it_is(share: float, text: str) -> None:
    assert percent_of_pixels(share) == text
