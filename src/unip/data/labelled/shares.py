"""Shares of pixels as text."""

from __future__ import annotations


def percent_of_pixels(value: float) -> str:
    """Return a share as percent, with as many decimals (1 to 4) as tell it from 0 and from 100."""
    least = 100 * min(value, 1 - value)
    decimals = next((n for n in (1, 2, 3) if least == 0 or round(least, n) > 0), 4)
    return f"{100 * value:.{decimals}f}"
