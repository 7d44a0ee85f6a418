"""Stochastic depth whose decisions can be handed in, so that they may belong to samples instead of to a generator."""

from __future__ import annotations

import torch
from timm.layers import DropPath


class SampleDropPath(DropPath):  # type: ignore[misc]
    """timm's ``DropPath`` that takes its factors from a buffer once there is one, and draws them itself before.

    The buffer is refilled before each pass; its shape stays, so a compiled model stays compiled. A block that is
    run a second time (activation checkpointing) decides as it did the first time.

    Attributes:
        factors: ``(B,)`` float32, for each sample 0 or 1 / (1 - drop_prob); no part of the state dict.
    """

    factors: torch.Tensor | None

    def __init__(self, drop_prob: float) -> None:
        super().__init__(drop_prob)
        self.register_buffer("factors", None, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale each sample of ``x``, ``(B, ...)``, by its factor; in evaluation return ``x``."""
        if not self.training or self.factors is None:
            drawn: torch.Tensor = super().forward(x)
            return drawn
        return x * self.factors.to(x.dtype).view(-1, *(1,) * (x.ndim - 1))
