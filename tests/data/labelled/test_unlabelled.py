"""Frames that nobody labelled are told from frames that show nothing, in every layout, and both are counted aloud."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.datasets import open_segmentation
from unip.errors import UnipError

SIZE = (10, 20)
LABELLED, EMPTY = ("a", "b"), "c"
UNLABELLED = ("p", "q", "r", "s")
CORNERS = [[4.0, 2.0], [12.0, 2.0], [12.0, 8.0]]


def frames(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*LABELLED, EMPTY, *UNLABELLED):
        Image.fromarray(np.full(SIZE, 90, np.uint8)).save(folder / f"{name}.png")


def yolo(root: Path) -> str:
    frames(root / "train/images")
    (root / "data.yaml").write_text("names: [person]")
    (root / "train/labels").mkdir()
    (root / "train/labels/c.txt").write_text("\n")
    for name in LABELLED:
        (root / f"train/labels/{name}.txt").write_text("0 0.2 0.2 0.6 0.2 0.6 0.8")
    return f"yolo-seg:{root}"


def labelme(root: Path) -> str:
    frames(root / "train")
    for name in (*LABELLED, EMPTY):
        shapes = [{"label": "person", "points": CORNERS}] if name in LABELLED else []
        record = {"shapes": shapes, "imagePath": f"{name}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        (root / f"train/{name}.json").write_text(json.dumps(record))
    (root / "train/masks").mkdir()  # what somebody drew of them is no frame
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(root / "train/masks/a_drawn.png")
    return f"labelme:{root}"


def plain(root: Path) -> str:
    frames(root / "train/images")
    (root / "classes.json").write_text('{"names": ["background", "person"]}')
    (root / "train/masks").mkdir()
    for name in (*LABELLED, EMPTY):
        mask = np.zeros(SIZE, np.uint8)
        mask[2:5, 2:5] = name in LABELLED
        Image.fromarray(mask).save(root / f"train/masks/{name}.png")
    return str(root)


def coco(root: Path, names: tuple[str, ...] = (*LABELLED, EMPTY, *UNLABELLED)) -> str:
    frames(root / "images/train")
    size = {"height": SIZE[0], "width": SIZE[1]}
    outline = [[value for corner in CORNERS for value in corner]]
    record = {
        "images": [{"id": i, "file_name": f"{name}.png", **size} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "segmentation": outline} for i in range(len(LABELLED))
        ],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/instances_train.json").write_text(json.dumps(record))
    return f"coco:{root}"


@pytest.mark.parametrize("layout", [yolo, labelme, plain])
def test_frames_without_a_label_file_are_left_out(tmp_path, layout, caplog) -> None:
    source = layout(tmp_path)
    with caplog.at_level("INFO"):
        data = open_segmentation(source, "train")
        open_segmentation(source, "train")
    assert [path.stem for path in data.images] == [*LABELLED, EMPTY]
    assert [data.read_mask(i).any() for i in range(3)] == [True, True, False]
    (said,) = [text for text in caplog.messages if "left out" in text]
    assert "4 of 7 images have no " in said
    assert all(f"{name}.png" in said for name in "pqr") and "s.png" not in said


@pytest.mark.parametrize("layout", [yolo, labelme, plain])
def test_nothing_is_said_where_every_frame_is_labelled(tmp_path, layout, caplog) -> None:
    source = layout(tmp_path)
    for path in tmp_path.rglob("[p-s].png"):
        path.unlink()
    with caplog.at_level("INFO"):
        assert len(open_segmentation(source, "train")) == 3
    assert not caplog.messages


def test_coco_images_without_annotations_are_background_and_that_is_said(tmp_path, caplog) -> None:
    data = open_segmentation(coco(tmp_path), "train")
    assert len(data) == 7 and [data.read_mask(i).any() for i in range(7)] == [True] * 2 + [False] * 5
    (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert (
        "5 of 7 images have no annotation and count as background everywhere: c.png, p.png, q.png and 2 more"
        in said.message
    )
    caplog.clear()
    assert len(open_segmentation(coco(tmp_path, LABELLED), "train")) == 2 and not caplog.messages


def test_a_yolo_file_that_vanishes_is_no_background(tmp_path) -> None:
    data = open_segmentation(yolo(tmp_path), "train")
    data.masks[0].path.unlink()
    with pytest.raises(UnipError, match=r"a\.txt"):
        data.read_mask(0)


def test_labelme_files_beside_a_folder_of_images(tmp_path, caplog) -> None:
    frames(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    record = {"shapes": [{"label": "person", "points": CORNERS}], "imagePath": "..\\images\\a.png"}
    (tmp_path / "labels/a.json").write_text(json.dumps(record))
    with caplog.at_level("INFO"):
        assert len(open_segmentation(f"labelme:{tmp_path}", "labels")) == 1
    assert "6 of 7 images have no .json file" in caplog.text
