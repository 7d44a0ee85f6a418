"""Stochastic depth belongs to (seed, step, sample)."""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import nn

from unip.training.config import TrainingConfig
from unip.training.drop_path import DropPathDecisions
from unip.training.feed import Positions
from unip.vit.drop_path import SampleDropPath


def decisions(*, rank=0, ranks=1, accumulate=1, seed=0, rates=(0.1, 0.5)):
    model = nn.Sequential(*map(SampleDropPath, rates)).train()
    config = TrainingConfig.make(out="unused", steps=2, batch_size=240, accumulate=accumulate)
    positions = Positions(config, start=0, rank=rank, ranks=ranks)
    return model, DropPathDecisions(model, positions, seed=seed, device=torch.device("cpu"))


def factors(step=0, number=0, **changes):
    model, drawn = decisions(**changes)
    drawn.draw(step)
    drawn.load(number)
    return torch.stack([site.factors.clone() for site in model])


def test_the_same_samples_are_dropped_on_any_number_of_ranks_and_passes():
    whole = factors()
    assert torch.equal(whole, torch.cat([factors(rank=rank, ranks=3) for rank in range(3)], dim=1))
    assert torch.equal(whole, torch.cat([factors(accumulate=2, number=n) for n in range(2)], dim=1))
    mixed = [factors(rank=r, ranks=2, accumulate=2, number=n) for n in range(2) for r in range(2)]
    assert torch.equal(whole, torch.cat(mixed, dim=1))


def test_other_steps_seeds_and_branches_are_drawn_anew():
    whole = factors(rates=(0.5, 0.5))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, factors(step=1, rates=(0.5, 0.5)))
    assert not torch.equal(whole, factors(seed=1, rates=(0.5, 0.5)))


def test_rates_and_scale_are_timms():
    kept = [row for row in factors()]
    for row, rate in zip(kept, (0.1, 0.5), strict=True):
        assert set(row.tolist()) == {0.0, torch.tensor(1 / (1 - rate)).item()}
        assert abs((row == 0).float().mean() - rate) < 0.1


def test_a_module_without_factors_is_timms():
    ours, theirs = SampleDropPath(0.5), DropPath(0.5)
    x = torch.randn(16, 3, 4)
    for mode in (True, False):
        found = []
        for module in (ours, theirs):
            torch.manual_seed(0)
            found.append(module.train(mode)(x))
        assert torch.equal(*found)
    ours.factors = torch.arange(16.0)
    assert torch.equal(ours.eval()(x), x)
    assert torch.equal(ours.train()(x), x * torch.arange(16.0)[:, None, None])
    assert ours(x.bfloat16()).dtype == torch.bfloat16
    assert not ours.state_dict()


def test_frozen_modules_and_models_without_it_draw_nothing():
    model, _ = decisions()
    still = nn.Sequential(model.eval())
    config = TrainingConfig.make(out="unused", steps=2, batch_size=4)
    drawn = DropPathDecisions(still, Positions(config, start=0, rank=0, ranks=1), seed=0, device=torch.device("cpu"))
    drawn.draw(0)
    drawn.load(0)
    assert not drawn.buffers
