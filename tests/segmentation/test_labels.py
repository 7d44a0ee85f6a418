"""Images and masks are opened once before training starts, and not again by a run that goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip import opening
from unip.data.statistics import stats
from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.outputs import output_folder, write_text
from unip.segmentation.verbs import finetune
from unip.training import loop

TRAIN, VAL = 20, 6  # pairs


class Openings(Counter[str]):
    """How often each file below a folder was opened for reading."""

    def of(self, folder: Path) -> list[int]:
        """Return how often each image and mask of a split was opened, without repeats, rising."""
        files = [path for kind in ("images", "masks") for path in (folder / kind).iterdir()]
        return sorted({self[str(path)] for path in files})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "pairs"
    for split, count in (("train", TRAIN), ("val", VAL)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((32, 40), np.uint8)
            mask[4:16, number : number + 12], mask[20:30, 5:15] = 1, 2
            Image.fromarray(100 + 50 * mask).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["background", "hot", "cold"]}))
    return root


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Openings:
    counts, really = Openings(), opening.regular

    def regular(path: opening.AnyPath, flags: int) -> int:
        counts[os.fsdecode(path)] += 1
        return really(path, flags)

    monkeypatch.setattr(opening, "regular", regular)
    return counts


@pytest.fixture
def before_training(opened: Openings, monkeypatch: pytest.MonkeyPatch) -> Openings:
    """What was opened by the time of the first step of the last training."""
    counts, steps = Openings(), loop._Loop._steps

    def start(*args: object) -> None:
        counts.clear()
        counts.update(opened)
        steps(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop._Loop, "_steps", start)
    return counts


@pytest.fixture
def settings(small_run, data):
    shape = {
        "decoder": "light",
        "steps": 2,
        "batch_size": 2,
        "crop": 32,
        "base": (128, 32),
        "checkpoint_every": 1,
        "compile": False,
    }
    return {**small_run, **shape, "data": data, "val": "val"}


@pytest.mark.parametrize(("cache", "rare_crops"), [("ram", 0.5), ("auto", 0.0), ("none", 0.5)])
def test_a_new_run_opens_each_file_once(settings, data, before_training, cache, rare_crops):
    finetune(**settings, cache=cache, rare_crops=rare_crops, conversion="plateau")
    assert before_training.of(data / "train") == before_training.of(data / "val") == [1]


def test_a_dry_run_opens_each_file_once(settings, data, opened):
    finetune(**settings, dry_run=True)
    assert opened.of(data / "train") == opened.of(data / "val") == [1]


def test_the_masks_of_a_label_budget_are_opened_once_to_choose_and_once_to_check(settings, data, before_training):
    finetune(**settings, label_budget=5)
    assert before_training.of(data / "val") == [1]
    assert sorted({before_training[str(path)] for path in (data / "train/images").iterdir()}) == [0, 1]
    assert sorted({before_training[str(path)] for path in (data / "train/masks").iterdir()}) == [1, 2]


@pytest.mark.parametrize(
    ("cache", "label_budget", "times"), [("ram", None, [1]), ("none", None, [0]), ("none", 5, [0])]
)
def test_a_continued_run_opens_what_it_keeps(settings, data, opened, before_training, cache, label_budget, times):
    settings |= {"cache": cache, "label_budget": label_budget}
    finetune(**settings)
    shutil.rmtree(settings["out"] / "checkpoints" / "step-00000002")
    opened.clear()
    finetune(**settings)
    assert before_training.of(data / "train") == times
    assert before_training.of(data / "val") == [0]


def test_a_run_at_its_end_opens_what_it_is_evaluated_on(settings, data, opened):
    settings |= {"label_budget": 5}
    scores = finetune(**settings).scores
    for _ in range(2):
        opened.clear()
        assert finetune(**settings).scores.miou == scores.miou
        assert opened.of(data / "train") == [0] and opened.of(data / "val") == [1]
        shutil.rmtree(settings["out"] / "checkpoints", ignore_errors=True)


def test_files_that_changed_are_named_and_read_again(settings, data, opened, before_training, capsys):
    settings |= {"cache": "none"}
    finetune(**settings)
    shutil.rmtree(settings["out"] / "checkpoints" / "step-00000002")
    changed = [data / "train/images/3.png", data / "train/masks/7.png", *sorted((data / "val/masks").iterdir())]
    for path in changed:
        os.utime(path, (1, 1))
    recorded = (settings["out"] / "labels.json").read_bytes()
    opened.clear()
    capsys.readouterr()
    finetune(**settings)
    said = "".join(capsys.readouterr().out.split())
    for split, files in (("train", changed[:2]), ("val", changed[2:])):
        more = f" and {len(files) - 3} more" * (len(files) > 3)
        names = ", ".join(map(str, files[:3]))
        words = f"note: {len(files)} files of {data} ({split}) changed since this run started, and are read again: "
        assert "".join((words + names + more).split()) in said
    again = {
        path
        for split in ("train", "val")
        for kind in ("images", "masks")
        for path in (data / split / kind).iterdir()
        if before_training[str(path)]
    }
    assert again == {
        data / split / kind / f"{name}.png"
        for split, names in (("train", (3, 7)), ("val", range(VAL)))
        for name in names
        for kind in ("images", "masks")
    }
    assert (settings["out"] / "labels.json").read_bytes() == recorded


def test_a_file_that_broke_is_refused_when_the_run_goes_on(settings, data):
    finetune(**settings)
    shutil.rmtree(settings["out"] / "checkpoints" / "step-00000002")
    Image.fromarray(np.full((32, 40), 77, np.uint8)).save(data / "train/masks/7.png")
    with pytest.raises(UnipError, match=r"7\.png holds the unknown id 77"):
        finetune(**settings)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (
            {"names": ["background", "cold", "hot"]},
            r'classes \["background", "cold", "hot"\], then \["background", "hot", "cold"\]',
        ),
        ({"names": ["background", "hot", "cold"], "ignore_index": 200}, r"ids .*\[200, 255\]\], then .*\[255, 255\]"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_does_not_go_on_with_classes_that_mean_something_else(settings, data, classes, words, finished):
    finetune(**settings)
    shutil.rmtree(settings["out"] / "checkpoints" / ("" if finished else "step-00000002"))
    (data / "classes.json").write_text(json.dumps(classes))
    for dry_run in (True, False):
        with pytest.raises(UnipError, match=rf"pairs \(train\) is not read as when this run started: {words}"):
            finetune(**settings, dry_run=dry_run)
    if not finished:
        finetune(**settings, overwrite=True)


def test_labels_recorded_by_another_version_are_read_again(settings, data, opened, before_training):
    finetune(**settings)
    shutil.rmtree(settings["out"] / "checkpoints" / "step-00000002")
    with output_folder(settings["out"]):
        write_text(settings["out"] / "labels.json", '{"version": 2, "train": {"pairs": [[[0], [1]]]}}')
    opened.clear()
    finetune(**settings)
    assert before_training.of(data / "train") == [1]


def test_a_run_that_starts_over_reads_all(settings, data, opened):
    finetune(**settings)
    opened.clear()
    finetune(**settings, overwrite=True, dry_run=True)
    assert opened.of(data / "train") == [1]


def test_evaluate_and_stats_open_each_file_once(settings, data, opened):
    finetune(**{**settings, "val": None})
    for dry_run in (True, False):
        opened.clear()
        evaluate(model=settings["out"], data=data, split="val", device="cpu", workers=0, dry_run=dry_run)
        assert opened.of(data / "val") == [1] and opened.of(data / "train") == [0]
    opened.clear()
    stats(data=data)
    assert opened.of(data / "train") == opened.of(data / "val") == [1]
