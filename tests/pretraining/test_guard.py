"""What decides between an adapted start and the old one, against independent computations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unip.errors import UnipError
from unip.pretraining import guard
from unip.pretraining.guard import Health, Verdict, collapse, effective_rank, judge
from unip.pretraining.label_probe import ProbeComparison, interval, miou_of_draws, open_halves
from unip.vit.backbone import Backbone


def test_the_effective_rank_is_the_entropy_of_singular_values():
    tokens = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([9, 5, 3, 1, 1, 0.5, 0.1, 0])
    values = np.linalg.svd(tokens.numpy().astype(np.float64) - tokens.numpy().astype(np.float64).mean(0))[1]
    shares = values[values > 0] / values.sum()
    assert effective_rank(tokens + 100) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


def test_ranks_that_are_known():
    assert effective_rank(torch.ones(9, 4)) == 1
    directions = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(torch.cat([directions, torch.zeros(10, 3)], dim=1)) == pytest.approx(5)
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan], [0.0, 1.0]])))


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (Health(50.0, (0.1, 0.1)), ""),
        (Health(200.0, (0.9, 0.5)), ""),
        (Health(49.0, (0.1, 0.1)), "collapse: the effective rank of its tokens is 49.0, that of the start 100.0"),
        (Health(100.0, (0.01, 0.1)), "collapse: its attention hardly depends on the query"),
        (Health(math.nan, (0.2, 0.2)), "its features are not finite"),
        (Health(100.0, (0.2, math.nan)), "its features are not finite"),
    ],
)
def test_a_collapse_is_named(after, problem):
    before = Health(100.0, (0.15, 0.25))
    assert collapse(before, after).startswith(problem) and bool(collapse(before, after)) == bool(problem)


def test_a_verdict_is_json_even_where_numbers_are_not_finite():
    verdict = Verdict("start", "collapse", "x", 3, Health(4.0, (0.1,)), Health(math.nan, (math.inf,)))
    found = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert found["after"] == {"rank": None, "nmi": [None]} and found["before"] == {"rank": 4.0, "nmi": [0.1]}


def test_the_miou_of_draws():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 5, (4, 2, 3, 3)).astype(float)
    matrices[:, :, 2] = matrices[:, :, :, 2] = 0  # a class in neither truth nor prediction
    weights = np.array([[1, 1, 1, 1], [0, 3, 1, 0]])
    found = miou_of_draws(matrices, weights)
    for draw, counts in enumerate(weights):
        for layer in range(2):
            total = sum(count * each[layer] for count, each in zip(counts, matrices, strict=True))
            ious = [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(2)]
            assert found[draw, layer] == pytest.approx(np.mean(ious))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_start_whose_own_features_are_not_finite_is_kept_too(value):
    problem = "the start's features are not finite"
    assert collapse(Health(value, (0.1,)), Health(3.0, (0.1,))) == problem
    assert collapse(Health(3.0, (0.1, value)), Health(3.0, (0.1, 0.1))) == problem


def test_draws_without_a_labelled_patch_and_layers_that_are_not_finite_have_no_miou():
    matrices = np.ones((3, 2, 2, 2))
    matrices[0] = 0
    weights = np.array([[1, 1, 1], [3, 0, 0]])
    assert np.isnan(miou_of_draws(matrices, weights)).tolist() == [[False, False], [True, True]]
    for bad in (math.nan, math.inf):
        matrices[2, 1, 0, 1] = bad
        # not even where the frame is not drawn: the probe is broken
        assert np.isnan(miou_of_draws(matrices, np.array([[1, 1, 1], [0, 3, 0]]))).tolist() == [[False, True]] * 2


def test_the_interval_leaves_out_draws_that_say_nothing():
    changes = np.random.default_rng(0).normal(size=300)
    assert interval(np.append(changes, [np.nan] * 50)) == pytest.approx(np.percentile(changes, [2.5, 97.5]))
    assert np.isnan(interval(np.full(5, np.nan))).all()


@pytest.mark.parametrize(
    ("probes", "why"),
    [
        ({"low": math.nan, "high": math.nan}, "no draw of them has a labelled patch, so there is no interval"),
        ({"high": math.nan}, "no draw of them has a labelled patch, so there is no interval"),
        ({"low": -math.inf}, "no draw of them has a labelled patch, so there is no interval"),
        ({"difference": math.nan, "after": (0.5, math.nan)}, "features or scores of the new weights are not finite"),
        ({"difference": math.nan, "before": (math.inf, 0.5)}, "features or scores of the start are not finite"),
        (
            {"difference": math.nan, "before": (math.nan,), "after": (math.nan,)},
            "features or scores of the start and of the new weights are not finite",
        ),
    ],
)
def test_probes_without_a_number_keep_the_start(monkeypatch, probes, why):
    plain = {"before": (0.5, 0.5), "after": (0.6, 0.6), "difference": 0.1, "low": 0.05, "high": 0.2}
    found = ProbeComparison(layers=(1, 2), images=6, drawn=6, **{**plain, **probes})
    monkeypatch.setattr(guard, "measure_health", lambda *_: Health(5.0, (0.1,)))
    monkeypatch.setattr(guard, "compare", lambda *_: found)
    backbone = Backbone(torch.nn.Linear(1, 1), None, (), (), 0, "")
    verdict = judge(backbone, backbone, torch.zeros(2, 1, 8, 8, dtype=torch.uint8), object())
    assert (verdict.saved, verdict.by) == ("start", "labels")
    assert verdict.reason == f"linear probes on 6 labelled frames decide nothing: {why}"
    json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"names": ["ground", "car"]}))
    for video in range(4):
        for frame in range(3):
            for name, value in (("images", 90), ("masks", frame % 2)):
                image = Image.fromarray(np.full((8, 8), value, np.uint8))
                image.save(tmp_path / "data" / name / f"v{video}_{frame}.png")
    return tmp_path / "data"


def test_halves_share_no_video(labelled):
    halves = open_halves(labelled, seed=0)
    of = [{image.name[:2] for image in part.images} for part in (halves.fitted, halves.judged)]
    assert not of[0] & of[1] and len(halves.fitted) == len(halves.judged) == 6
    assert [name.split("_")[0] for name in halves.groups] == [image.name[:2] for image in halves.judged.images]


def test_too_few_labelled_frames_are_refused(labelled):
    for path in sorted((labelled / "images").iterdir())[7:]:
        path.unlink()
        (labelled / "masks" / path.name).unlink()
    with pytest.raises(UnipError, match="has 7 labelled frames, too few to judge a start by"):
        open_halves(labelled, seed=0)
