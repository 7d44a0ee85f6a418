"""Stochastic depth as a function of (seed, step, sample): the same on any number of ranks and passes."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from unip.runtime.seeds import seed_for
from unip.training.feed import Positions
from unip.vit.drop_path import SampleDropPath

_STREAM = -1  # in a rank's place: dropout's seeds are (seed, step, rank)


class DropPathDecisions:
    """Draws which samples of a step skip which branch, and hands each pass its share.

    Args:
        model: Whose :class:`SampleDropPath` modules in training mode get their factors from here.
        positions: Which samples of a batch a pass of this rank sees.
        seed: Of the run.
        device: Where the model is.
    """

    def __init__(self, model: nn.Module, positions: Positions, *, seed: int, device: torch.device) -> None:
        sites = [m for m in model.modules() if isinstance(m, SampleDropPath) and m.training]
        self.positions, self.seed, self.device = positions, seed, device
        self.keep = np.array([[1 - site.drop_prob] for site in sites], dtype=np.float32)
        self.buffers = []
        for site in sites:
            site.factors = torch.ones(positions.share, device=device)
            self.buffers.append(site.factors)
        self.factors = torch.empty(0)

    def draw(self, step: int) -> None:
        """Draw one step's factors, for the whole batch over all ranks."""
        if self.buffers:
            rng = np.random.default_rng(seed_for(self.seed, step, _STREAM))
            drawn = rng.random((len(self.keep), self.positions.batch), dtype=np.float32)
            self.factors = torch.from_numpy((drawn < self.keep) / self.keep)

    def load(self, number: int) -> None:
        """Put the factors of pass ``number`` into the modules, without waiting for the device."""
        if not self.buffers:
            return
        share = self.factors[:, self.positions.within_batch(number)].contiguous()
        if self.device.type == "cuda":
            share = share.pin_memory()
        torch._foreach_copy_(self.buffers, list(share.to(self.device, non_blocking=True).unbind(0)))
