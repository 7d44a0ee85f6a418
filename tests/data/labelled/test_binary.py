"""Masks of 0 and 255: every reading is said, none is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unip
from unip.data.labelled.datasets import open_segmentation
from unip.errors import UnipError

NAMES = ["background", "object"]


def make(root: Path, values: list[list[int]], classes: dict, splits: tuple[str, ...] = ("train",)) -> Path:
    """Write a mask for each list of values, which stand in its first pixels."""
    rng = np.random.default_rng(0)
    for split in splits:
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
        for number, stored in enumerate(values):
            mask = np.zeros((64, 64), np.uint8)
            mask[: len(stored) * 8, :30] = np.repeat(stored, 8)[:, None]
            Image.fromarray(mask).save(root / split / f"masks/{number}.png")
            Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(root / split / f"images/{number}.png")
    (root / "classes.json").write_text(json.dumps(classes))
    return root


@pytest.fixture
def doubtful(tmp_path):
    return make(tmp_path / "data", [[255], [0, 255], []], {"names": NAMES, "ignore_index": 255})


def finetune(data, tmp_path, **more):
    small = {"model": "unip_micro", "crop": 64, "base": (160, 64), "batch_size": 2, "steps": 1, "workers": 0}
    return unip.finetune(**{**small, "data": data, "out": tmp_path / "run", **more})


CALLS = {
    "stats": lambda data, tmp_path, **more: unip.data.stats(data=data, **more),
    "split": lambda data, tmp_path, **more: unip.data.split(data=data, out=tmp_path / "split", **more),
    "finetune": finetune,
    "finetune, dry run": lambda data, tmp_path, **more: finetune(data, tmp_path, dry_run=True, **more),
}


@pytest.mark.parametrize("call", CALLS)
def test_both_readings_are_named_and_nothing_is_done(doubtful, tmp_path, call):
    with pytest.raises(
        UnipError, match=r"two values alone: 0 \(background\) and 255, which is the ignore_index"
    ) as caught:
        CALLS[call](doubtful, tmp_path)
    assert "--remap 255=object" in caught.value.fix and "--remap 255=ignore" in caught.value.fix
    assert not (tmp_path / "split").exists() and not (tmp_path / "run/model").exists()


@pytest.mark.parametrize("call", CALLS)
def test_the_advised_command_makes_it_the_object(doubtful, tmp_path, call):
    CALLS[call](doubtful, tmp_path, remap=("255=object",))


def test_evaluate_stops_too(doubtful, tmp_path):
    finetune(doubtful, tmp_path, remap=("255=object",))
    for dry_run in (True, False):
        with pytest.raises(UnipError, match="two values alone"):
            unip.evaluate(model=tmp_path / "run", data=doubtful, split="train", dry_run=dry_run, workers=0)
    assert not list((tmp_path / "run").rglob("metrics.json"))
    found = unip.evaluate(model=tmp_path / "run", data=doubtful, split="train", remap=("255=object",), workers=0)
    assert found.scores.matrix.sum() == 3 * 64 * 64 and not np.isnan(found.scores.miou)


def test_without_foreground_there_is_no_mean(doubtful, tmp_path, caplog):
    finetune(doubtful, tmp_path, remap=("255=object",))
    found = unip.evaluate(model=tmp_path / "run", data=doubtful, split="train", remap=("255=ignore",), workers=0)
    assert np.isnan([found.scores.miou, found.scores.foreground_miou, found.scores.mean_accuracy]).all()
    assert "no pixel is labelled as anything but background" in caplog.text
    written = json.loads(next((tmp_path / "run").rglob("metrics.json")).read_text())
    assert written["miou"] is None and written["classes"][0]["iou"] is not None


def test_other_values_mean_that_255_is_no_label(tmp_path):
    data = make(tmp_path, [[255], [0, 1, 255]], {"names": NAMES, "ignore_index": 255})
    unip.data.stats(data=data)
    counts = np.bincount(open_segmentation(data, "train").read_mask(0).ravel(), minlength=256)
    assert counts[255] == 240


def test_another_split_that_shows_the_object_settles_it(tmp_path):
    data = make(tmp_path, [[0, 1]], {"names": NAMES, "ignore_index": 255}, ("train",))
    make(tmp_path, [[0, 255]], {"names": NAMES, "ignore_index": 255}, ("test",))
    unip.data.stats(data=data)
    unip.data.split(data=data, out=tmp_path / "split", shares=(1.0, 0.0, 0.0))


def test_two_names_without_an_ignore_index_are_a_binary_mask(tmp_path, caplog):
    caplog.set_level("INFO", "unip")
    data = make(tmp_path, [[], [0, 255]], {"names": NAMES})
    opened = open_segmentation(data, "train")
    assert (opened.read_mask(1) == 1).sum() == 240 and not (opened.read_mask(1) == 255).any()
    assert "255 is 'object'" in caplog.text
    make(tmp_path, [[0, 255], [0, 1, 255]], {"names": NAMES})
    with pytest.raises(UnipError, match="unknown id 1"):
        open_segmentation(data, "train").read_mask(1)


@pytest.mark.parametrize("values", [[[0, 1]], [[0, 1, 255]]])
def test_two_names_with_class_ids_stay_as_they_are(tmp_path, values):
    mask = open_segmentation(make(tmp_path, values, {"names": NAMES}), "train").read_mask(0)
    assert (mask == 1).sum() == 240


def test_a_class_without_a_pixel_stops_training_unless_it_is_named(tmp_path):
    data = make(tmp_path / "data", [[0, 1]], {"names": [*NAMES, "rare one"], "ignore_index": 255})
    with pytest.raises(UnipError, match="no labelled pixel of rare one") as caught:
        finetune(data, tmp_path)
    assert "--empty-classes 'rare one'" in caught.value.fix
    finetune(data, tmp_path, empty_classes=["rare one"])
    with pytest.raises(UnipError, match="no class 'x'"):
        finetune(data, tmp_path, out=tmp_path / "other", empty_classes="x")


def test_few_labels_on_purpose_may_lack_a_class(tmp_path):
    data = make(tmp_path / "data", [[0, 1], [0, 2]], {"names": [*NAMES, "other"], "ignore_index": 255})
    finetune(data, tmp_path, label_budget=1, batch_size=1)


@pytest.mark.parametrize("new, names", [("1", ("background", "object")), ("object", ("background", "object"))])
def test_remap_to_an_id_is_that_class(doubtful, new, names):
    data = open_segmentation(doubtful, "train", remap=[f"255={new}"])
    assert data.classes.names == names and (data.read_mask(0) == 1).sum() == 240
    with pytest.raises(UnipError, match="no class of id 7"):
        open_segmentation(doubtful, "train", remap=["255=7"])
