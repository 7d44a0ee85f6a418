"""A folder that is no segmentation folder is told from its files: the message names the kind that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.readers import READERS
from unip.data.labelled.readers.guesses import guess_kind
from unip.errors import UnipError

POLYGON = "0 0.1 0.1 0.9 0.1 0.9 0.9\n"
IMAGE = {"id": 1, "file_name": "a.png", "height": 8, "width": 8}
COCO = json.dumps({"images": [IMAGE], "annotations": [], "categories": [{"id": 1, "name": "car"}]})
SHAPE = {"label": "car", "points": [[1, 1], [6, 1], [6, 6]]}
LABELME = json.dumps({"shapes": [SHAPE], "imagePath": "a.png", "imageHeight": 8, "imageWidth": 8})
VALUE = {"points": [[10, 10], [90, 10], [90, 90]], "polygonlabels": ["car"]}
RESULT = {"type": "polygonlabels", "value": VALUE, "original_width": 8, "original_height": 8}
STUDIO = json.dumps([{"id": 1, "data": {"image": "/data/a.png"}, "annotations": [{"id": 1, "result": [RESULT]}]}])
CVAT = (
    "<annotations><meta><labels><label><name>car</name></label></labels></meta>"
    '<image name="a.png" width="8" height="8"><polygon label="car" points="1,1;6,1;6,6" /></image></annotations>'
)
VOC = "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>"

#: files, and the kind and place that read them
KINDS: dict[str, tuple[dict[str, str], str]] = {
    "COCO": ({"annotations/instances_train.json": COCO, "images/train/a.png": ""}, "coco:{root}"),
    "COCO under another name": ({"export.json": COCO, "images/a.png": ""}, "coco:{root}/export.json"),
    "LabelMe": ({"train/a.json": LABELME, "train/a.png": ""}, "labelme:{root}"),
    "flat LabelMe": ({"a.json": LABELME, "a.png": ""}, 'labelme:{root} and --split ""'),
    "Label Studio": ({"export.json": STUDIO, "images/a.png": ""}, "label-studio:{root}/export.json"),
    "YOLO": ({"data.yaml": "names: [car]", "train/images/a.png": "", "train/labels/a.txt": POLYGON}, "yolo-seg:{root}"),
    "YOLO below": (
        {"x/data.yaml": "names: [car]", "x/images/train/a.png": "", "x/labels/train/a.txt": POLYGON},
        "yolo-seg:{root}/x",
    ),
    "CVAT": ({"annotations.xml": CVAT, "images/a.png": ""}, "cvat:{root}"),
    "CVAT below": ({"job/annotations.xml": CVAT, "job/images/a.png": ""}, "cvat:{root}/job"),
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.suffix == ".png":
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)


@pytest.mark.parametrize("layout", KINDS)
def test_the_kind_that_is_named_reads_it(tmp_path: Path, layout: str) -> None:
    files, kind = KINDS[layout]
    write(tmp_path, files)
    with pytest.raises(UnipError) as caught:
        open_segmentation(tmp_path, "train")
    named = kind.format(root=tmp_path)
    assert f"give {named}." in caught.value.fix
    source, _, flat = named.partition(" and ")
    split = None if flat or not any("train" in name for name in files) else "train"
    assert len(open_segmentation(source, split)) == 1


@pytest.mark.parametrize("layout", ["COCO under another name", "Label Studio", "flat LabelMe", "CVAT"])
def test_a_file_in_place_of_a_folder(tmp_path: Path, layout: str) -> None:
    files, kind = KINDS[layout]
    write(tmp_path, files)
    with pytest.raises(UnipError, match="is a file, not a segmentation folder") as caught:
        open_segmentation(tmp_path / next(iter(files)), "train")
    assert kind.format(root=tmp_path).split()[0] in caught.value.fix


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": "", "a.xml": VOC}, "a.xml holds the boxes of Pascal VOC. Semantic segmentation needs masks"),
        ({"images/a.png": "", "labels/a.txt": "0 0.5 0.5 0.1 0.1"}, "a.txt holds boxes of YOLO. Semantic"),
        ({"images/a.png": "", "labels/a.txt": POLYGON}, "with a data.yaml that names the classes"),
        (
            {"ir/a.png": "", "truth/a.png": ""},
            "Image files lie in ir, truth: name the folders with --images and --masks",
        ),
        (
            {"mixed/a.png": "", "annotations/masks/a_pixels0.png": "", "annotations/bboxes/a.xml": VOC},
            "Image files lie in annotations/masks, mixed: name the folders with --images and --masks",
        ),
        (
            {"ir/a.png": "", "truth/a.png": "", "boxes/a.txt": "0 0.5 0.5 0.1 0.1"},
            "Image files lie in ir, truth: name the folders with --images and --masks",
        ),
        (
            {"ir/a.npy": ""},
            "ir holds 1 .npy files, which are not read as images: save each frame as 16-bit PNG or TIFF.",
        ),
        (
            {"train/images/a.npy": "", "train/masks/a.png": ""},
            "train/images holds 1 .npy files, which are not read as images: save each frame",
        ),
        ({"a.mp4": ""}, "take frames with `unip data build`"),
    ],
)
def test_what_no_kind_reads(tmp_path: Path, files: dict[str, str], message: str) -> None:
    write(tmp_path, files)
    with pytest.raises(UnipError) as caught:
        open_segmentation(tmp_path, "train")
    assert message in caught.value.fix and "coco:" not in caught.value.fix


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"a.png": ""},
        {"a.json": "{"},
        {"a.json": "[]"},
        {"a.json": "[1]"},
        {"a.xml": "<"},
        {"a.txt": "hello"},
        {"classes.json": "{}"},
    ],
)
def test_files_that_suggest_nothing(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, files)
    assert guess_kind(tmp_path) is None


@pytest.mark.parametrize("ending", [".npy", ".mp4", ".csv", ".zip"])
def test_files_that_are_no_images_say_what_to_do(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a{ending}"
    file.touch()
    with pytest.raises(UnipError) as caught:
        open_segmentation(file, "train")
    assert any(way in caught.value.fix for way in ("save each frame", "data build", "unpack it"))


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("there", ["nothing", "a split"])
def test_no_message_speaks_of_the_split_none(tmp_path: Path, kind: str, there: str) -> None:
    if there == "a split":
        write(tmp_path, {"train/images/a.png": "", "train/labels/a.txt": POLYGON, "data.yaml": "names: [car]"})
    with pytest.raises(UnipError) as caught:
        open_segmentation(f"{kind}:{tmp_path}")
    assert "None" not in str(caught.value)


def flat_labelme(root: Path) -> str:
    write(root, {"a.json": LABELME, "a.png": ""})
    return f"labelme:{root}"


def flat_yolo(root: Path) -> str:
    write(root, {"data.yaml": "names: [car]", "images/a.png": "", "labels/a.txt": POLYGON})
    return f"yolo-seg:{root}"


def flat_cvat(root: Path) -> str:
    write(root, {"annotations.xml": CVAT, "images/a.png": ""})
    return f"cvat:{root}"


def flat_studio(root: Path) -> str:
    write(root, {"export.json": STUDIO, "images/a.png": ""})
    return f"label-studio:{root}"


def flat_folder(root: Path) -> str:
    write(root, {"classes.json": '{"names": ["ground", "car"]}', "images/a.png": "", "masks/a.png": ""})
    return str(root)


@pytest.mark.parametrize("layout", [flat_labelme, flat_yolo, flat_cvat, flat_studio, flat_folder])
def test_data_without_splits_says_how_to_open_it(tmp_path: Path, layout: Callable[[Path], str]) -> None:
    source = layout(tmp_path)
    assert len(open_segmentation(source, "")) == 1
    with pytest.raises(UnipError) as caught:
        open_segmentation(source, "train")
    assert '--split ""' in caught.value.fix
