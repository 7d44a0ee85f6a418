"""Folds of one set, added up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from unip.segmentation.metrics import score
from unip.suites.folds import pooled_over_folds
from unip.suites.records import FRAMES, CellRecord, ScoresRecord
from unip.suites.results import DoneCell
from unip.suites.suite import Axes, DatasetEntry, Suite
from unip.suites.tables import fold_tables

NAMES = ("road", "car")
FOLDS = {f"set-{n}": DatasetEntry(data="d", fold_of="set", group_by=r"^(\d+)_") for n in (1, 2)}


def done(folder: Path, init: str, dataset: str, seed: int, matrices: np.ndarray, images: list[str]) -> DoneCell:
    folder = folder / f"{init}-{dataset}-{seed}"
    folder.mkdir()
    np.savez(folder / FRAMES, matrices=matrices, images=np.array(images))
    axes = Axes(init, dataset, "all", 1.0, seed)
    record = CellRecord(
        **ScoresRecord.of(score(matrices.sum(0), NAMES)).model_dump(),
        key="k",
        axes=axes,
        kind="finetune",
        split="test",
        images=len(images),
        seconds=1.0,
        device="cpu",
        versions={},
        labelled_images=1,
        train_seconds=1.0,
        spec={},
        backbone_only=False,
        chosen={},
    )
    return DoneCell(axes, folder, record, {}, None)


def cells(folder: Path, init: str, seed: int, better: int = 0) -> list[DoneCell]:
    rng = np.random.default_rng(seed)
    found = []
    for n, dataset in enumerate(FOLDS):
        matrices = rng.integers(1, 30, (3, 2, 2)) + better * np.eye(2, dtype=np.int64)
        found.append(done(folder, init, dataset, seed, matrices, [f"{n}{i}_x.png" for i in range(3)]))
    return found


def test_pixels_are_added_up_before_they_are_scored(tmp_path: Path) -> None:
    both = cells(tmp_path, "a", 0)
    (run,) = pooled_over_folds(both, FOLDS)
    total = sum(cell.frames().sum(0).astype(np.float64) for cell in both)
    iou = [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(2)]
    assert math.isclose(run.scores.miou, float(np.mean(iou)), rel_tol=1e-12)
    assert not math.isclose(run.scores.miou, float(np.mean([cell.record.miou for cell in both])), rel_tol=1e-6)
    assert run.groups == ("00", "01", "02", "10", "11", "12")


def test_a_seed_without_all_folds_is_left_out(tmp_path: Path) -> None:
    assert [run.seed for run in pooled_over_folds([*cells(tmp_path, "a", 0), cells(tmp_path, "a", 1)[0]], FOLDS)] == [0]


def test_the_table_compares_with_the_baseline(tmp_path: Path) -> None:
    suite = Suite(inits={"a": {"model": "m"}, "b": {"model": "m"}}, datasets=FOLDS, protocols={"all": {}}, baseline="a")
    every = [cell for seed in (0, 1) for init in "ab" for cell in cells(tmp_path, init, seed, 40 * (init == "b"))]
    (table,) = fold_tables(suite, "all", "100 %", every)
    assert table.title == "All folds: all, set, 100 %" and [row[:2] for row in table.rows] == [("a", "2"), ("b", "2")]
    runs = {init: pooled_over_folds([c for c in every if c.axes.init == init], FOLDS) for init in "ab"}
    gain = np.mean([b.scores.miou - a.scores.miou for a, b in zip(runs["a"], runs["b"], strict=True)])
    assert table.rows[1][3] == f"{100 * gain:+.1f}" and " to " in table.rows[1][5]
    assert "6 images" in table.note and "(6)" in table.note


@pytest.mark.parametrize("fold_of", [None, "other"])
def test_sets_without_folds_have_no_such_table(tmp_path: Path, fold_of: str | None) -> None:
    entries = {name: entry.model_copy(update={"fold_of": fold_of}) for name, entry in FOLDS.items()}
    suite = Suite(inits={"a": {"model": "m"}}, datasets=entries, protocols={"all": {}})
    found = fold_tables(suite, "all", "100 %", cells(tmp_path, "a", 0)[:1])
    assert found == []


def test_runs_of_other_images_have_no_interval_over_images(tmp_path: Path) -> None:
    suite = Suite(inits={"a": {"model": "m"}, "b": {"model": "m"}}, datasets=FOLDS, protocols={"all": {}}, baseline="a")
    every = [*cells(tmp_path, "a", 0), cells(tmp_path, "b", 0)[0]]
    fewer = np.ones((2, 2, 2), np.int64)
    every.append(done(tmp_path, "b", "set-2", 1, fewer, ["10_x.png", "11_x.png"]))
    every[-1] = DoneCell(Axes("b", "set-2", "all", 1.0, 0), every[-1].folder, every[-1].record, {}, None)
    (table,) = fold_tables(suite, "all", "100 %", every)
    assert table.rows[1][3] != "-" and table.rows[1][5] == "-"
