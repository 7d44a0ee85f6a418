"""What is recorded of labelled files is taken again only where they mean the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.record import CheckedLabels, LabelRecord, check_labels, read_records
from unip.data.labelled.statistics import measure_pair


def check(source: str, known: LabelRecord | None = None) -> CheckedLabels:
    return check_labels(open_segmentation(source, "train"), "set (train)", measure_pair, known=known)


def yolo(root: Path) -> tuple[str, Path, str]:
    """Write a set whose file of names can change what the masks say, and not the classes."""
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.full((20, 30), 90, np.uint8)).save(root / "images/train" / f"{number}.png")
        (root / "labels/train" / f"{number}.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n")
    (root / "data.yaml").write_text("names: [car, background]")
    return f"yolo-seg:{root}", root / "data.yaml", "names: [background, car]"


def colours(root: Path) -> tuple[str, Path, str]:
    """Likewise, with colours."""
    for folder in ("train/images", "train/masks"):
        (root / folder).mkdir(parents=True)
    mask = np.zeros((20, 30, 3), np.uint8)
    mask[:5] = 255, 0, 0
    for number in range(3):
        Image.fromarray(mask[..., 0]).save(root / "train/images" / f"{number}.png")
        Image.fromarray(mask).save(root / "train/masks" / f"{number}.png")
    names, palette = ["background", "car"], [[0, 0, 0], [255, 0, 0]]
    (root / "classes.json").write_text(json.dumps({"names": names, "palette": palette}))
    return f"colours:{root}", root / "classes.json", json.dumps({"names": names, "palette": palette[::-1]})


@pytest.mark.parametrize("make", [yolo, colours])
def test_masks_that_mean_something_else_are_read_again(make, tmp_path):
    source, file, other = make(tmp_path / "set")
    first = check(source)
    assert not check(source, first.record).changed
    file.write_text(other)
    again, fresh = check(source, first.record), check(source)
    assert fresh.data.classes.names == first.data.classes.names and not again.read_otherwise
    assert set(again.changed) == {str(mask.path) for mask in fresh.data.masks}
    assert [each.pixels for each in again.facts] == [each.pixels for each in fresh.facts]
    assert fresh.facts[0].pixels != first.facts[0].pixels


def test_the_file_of_another_class_is_seen_to_change(tmp_path):
    for folder in ("train/images", "train/masks/car", "train/masks/person"):
        (tmp_path / folder).mkdir(parents=True)
    for name, rows in (("car", 5), ("person", 3)):
        mask = np.zeros((20, 30), np.uint8)
        mask[-rows:] = 255
        Image.fromarray(mask).save(tmp_path / f"train/masks/{name}/0.png")
    Image.fromarray(np.full((20, 30), 90, np.uint8)).save(tmp_path / "train/images/0.png")
    first = check(str(tmp_path))
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(tmp_path / "train/masks/person/0.png")
    again = check(str(tmp_path), first.record)
    assert again.changed and again.facts[0].pixels != first.facts[0].pixels


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = check(colours(tmp_path / "set")[0]).record
    (tmp_path / "labels.json").write_text(json.dumps({"train": record.to_dict()}))
    read = read_records(tmp_path / "labels.json")["train"]
    assert (read.read_as, read.files) == (record.read_as, record.files)
    assert [each and each.pixels for each in read.facts] == [each and each.pixels for each in record.facts]


@pytest.mark.parametrize(
    "text",
    ["[]", '{"version": 2}', '{"train": {"pairs": []}}', '{"train": {"read_as": "all", "pairs": [[[1, 2], [3]]]}}'],
)
def test_what_another_version_recorded_is_not_taken(text, tmp_path):
    (tmp_path / "labels.json").write_text(text)
    assert read_records(tmp_path / "labels.json") == {}
