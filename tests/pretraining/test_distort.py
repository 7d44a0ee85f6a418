"""Distortions of the student's view that infrared cameras make."""

from __future__ import annotations

import pytest
import torch

from unip.pretraining import distort
from unip.pretraining.distort import distorted, infrared_defects
from unip.pretraining.objective import Distillation


def crops(count: int, size: int = 24) -> torch.Tensor:
    return 0.25 + 0.5 * torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_camera_distortions_belong_to_seed_and_position_alone():
    grey = crops(60)
    together = distorted(grey, torch.arange(60), seed=3, probability=0.7, camera=True)
    alone = distorted(grey[7:9], torch.arange(7, 9), seed=3, probability=0.7, camera=True)
    torch.testing.assert_close(together[7:9], alone, rtol=0, atol=0)
    assert not torch.equal(together, distorted(grey, torch.arange(60), seed=4, probability=0.7, camera=True))
    assert together.min() >= 0 and together.max() <= 1
    untouched = (together == grey).flatten(1).all(1)
    plain = distorted(grey, torch.arange(60), seed=3, probability=0.7)
    assert torch.equal(untouched, (plain == grey).flatten(1).all(1)) and 5 < untouched.sum() < 40


def test_without_the_camera_crops_are_what_they_were():
    """Numbers of the distortions before there was a choice, so that runs that were begun go on."""
    grey = torch.linspace(0, 1, 2 * 16, dtype=torch.float32).view(2, 1, 4, 4)
    found = distorted(grey, torch.tensor([5, 6]), seed=1, probability=1.0)
    expected = torch.tensor([[0.1331269, 0.1433398, 0.0, 0.0285655], [0.5807081, 0.6416461, 0.8113869, 0.7850155]])
    torch.testing.assert_close(found[:, 0, 0], expected, rtol=1e-6, atol=1e-6)


@pytest.fixture
def all_at_once(monkeypatch):
    for name in ("STRIPED_SHARE", "SPOILT_SHARE"):
        monkeypatch.setattr(distort, name, 1.0)
    monkeypatch.setattr(distort, "INVERTED_SHARE", 0.0)


def test_stripes_are_offsets_of_columns_and_weaker_ones_of_rows(all_at_once, monkeypatch):
    monkeypatch.setattr(distort, "SPOILT_SHARE", 0.0)
    size = 200
    grey = torch.full((1, 1, size, size), 0.5)
    noise = torch.rand(1, 5 + 2 * size, generator=torch.Generator().manual_seed(1))
    noise[0, :5] = torch.tensor([0.0, 0.5, 0.0, 0.0, 1.0])  # striped, half of the largest strength
    change = infrared_defects(grey, torch.full_like(grey, 0.5), noise)[0, 0] - 0.5
    columns, rows = change.mean(0), change.mean(1)
    torch.testing.assert_close(change, columns[None] + rows[:, None] - change.mean(), rtol=0, atol=1e-6)
    assert columns.std() == pytest.approx(0.5 * distort.STRIPES, rel=0.1)
    assert rows.std() == pytest.approx(0.5 * distort.STRIPES / 3, rel=0.1)


def test_dead_pixels_are_black_or_white_and_so_many(all_at_once, monkeypatch):
    monkeypatch.setattr(distort, "STRIPED_SHARE", 0.0)
    grey = torch.full((1, 1, 400, 400), 0.5)
    noise = torch.full((1, 805), 0.5)
    pixels = torch.rand(grey.shape, generator=torch.Generator().manual_seed(2))
    found = infrared_defects(grey, pixels, noise)
    black, white = ((found == value).float().mean().item() for value in (0, 1))
    assert black == pytest.approx(distort.DEAD / 4, rel=0.25) and white == pytest.approx(distort.DEAD / 4, rel=0.25)
    assert ((found == 0.5) | (found == 0) | (found == 1)).all()


def test_polarity_is_turned_for_so_many(monkeypatch):
    for name in ("STRIPED_SHARE", "SPOILT_SHARE"):
        monkeypatch.setattr(distort, name, 0.0)
    grey = crops(400, 8)
    noise = torch.rand(400, 5 + 16, generator=torch.Generator().manual_seed(3))
    found = infrared_defects(grey, torch.full_like(grey, 0.5), noise)
    turned = (found == 1 - grey).flatten(1).all(1)
    assert turned.float().mean() == pytest.approx(distort.INVERTED_SHARE, abs=0.06)
    torch.testing.assert_close(found[~turned], grey[~turned], rtol=0, atol=0)


def test_an_objective_distorts_as_it_is_told():
    images = (255 * crops(40)).to(torch.uint8)
    objective = Distillation()
    objective.distort, objective.seed = 1.0, 5
    plain = objective.views(images, None, torch.arange(40))[1]
    objective.camera = True
    clean, seen = objective.views(images, None, torch.arange(40))
    assert not torch.equal(plain, seen) and torch.equal(clean, objective.views(images)[0])
