"""Learning-rate schedules as plain functions of the step, each returning a factor between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Callable

from unip.errors import UnipError

Schedule = Callable[[int], float]


def check_warmup(warmup: int, steps: int) -> None:
    """Refuse a warm-up that is as long as all of training, or longer: the learning rate would never be the one given.

    Raises:
        UnipError: It is.
    """
    if warmup >= steps:
        raise UnipError(
            f"a warm-up of {warmup} steps must be shorter than the training of {steps}",
            "Lower --warmup, or let --warmup auto choose it.",
        )


def warmup_cosine(steps: int, warmup: int) -> Schedule:
    """Linear warm-up over ``warmup`` steps, then a half cosine down to 0 at ``steps`` (paper's pre-training)."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def warmup_poly(steps: int, warmup: int, power: float = 1.0) -> Schedule:
    """Linear warm-up over ``warmup`` steps, times ``(1 - step / steps) ** power`` (paper's fine-tuning)."""

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return float(rise * (1 - step / steps) ** power)

    return factor
