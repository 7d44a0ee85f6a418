"""How long a training will take, measured over its first steps."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

SKIPPED = 1  # steps, in which things are allocated and compiled
MOST_STEPS = 10
MOST_SECONDS = 20.0

TellPace = Callable[[float, int], None]


class Pace:
    """Measures the seconds a step takes and tells them once.

    Args:
        tell: Called with the seconds a step takes and the steps that are left.
        device: Which is waited for before the clock is read.
    """

    def __init__(self, tell: TellPace | None, device: torch.device) -> None:
        self.tell, self.device = tell, device
        self.count, self.begun = 0, 0.0

    def after_step(self, left: int) -> None:
        """Count a step; ``left`` are those to come."""
        if self.tell is None:
            return
        self.count += 1
        if self.count == SKIPPED:
            self.begun = self._now()
        measured = self.count - SKIPPED
        if measured < 1 or not left:
            return
        if measured >= MOST_STEPS or time.monotonic() - self.begun >= MOST_SECONDS:
            self.tell((self._now() - self.begun) / measured, left)
            self.tell = None

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()


def duration(seconds: float) -> str:
    """Write a time as a person would: ``40 s``, ``7 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
