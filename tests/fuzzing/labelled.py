"""Annotations: outlines that are drawn again here, by asking of every pixel's centre whether it is inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.fuzzing.checking import Reader
from tests.fuzzing.mutations import change_json, change_words, change_yaml
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.colours import read_palette
from unip.data.labelled.readers.folder import read_classes

SIZE = (12, 16)
BIG, SMALL = [1.0, 1.0, 15.0, 1.0, 15.0, 10.0, 1.0, 10.0], [2.3, 2.2, 9.9, 3.1, 4.6, 8.8]
IGNORED = 255


def checks(data: str, folder: Path) -> list[str]:
    """Words that check labelled data; the page goes beside the folder of the subject."""
    return ["data", "check", "--data", data, "--out", f"{folder}-out", "--overwrite"]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(SIZE, 5, np.uint8)).save(path)
    return path


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def read_all(data: SegmentationData) -> tuple[tuple[str, ...], list[np.ndarray]]:
    return data.classes.names, [data.read_mask(i) for i in range(len(data.images))]


def parsed(path: Path) -> Any:
    return json.loads(path.read_bytes().decode("utf-8-sig"))


def inside(polygon: Any) -> np.ndarray:
    """Say of each pixel's centre whether it is in a polygon: an odd number of edges to its left."""
    corners = np.array(polygon, float).reshape(-1, 2)
    found = np.zeros(SIZE, bool)
    for row in range(SIZE[0]):
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            if (y0 <= row + 0.5) != (y1 <= row + 0.5):
                cross = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
                found[row] ^= np.arange(SIZE[1]) + 0.5 >= cross
    return found


def area(polygon: Any) -> float:
    x, y = np.array(polygon, float).reshape(-1, 2).T
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2


def same(mask: np.ndarray, expected: np.ndarray, close: int = 0) -> None:
    assert mask.shape == expected.shape, (mask.shape, expected.shape)
    assert np.count_nonzero(mask != expected) <= close, f"{np.count_nonzero(mask != expected)} pixels differ"


# ---- COCO


def make_coco(folder: Path, segmentations: Sequence[Any]) -> Path:
    picture(folder / "a.png")
    return write(
        folder / "all.json",
        {
            "images": [{"id": 3, "file_name": "a.png", "height": 12, "width": 16}],
            "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "car"}],
            "annotations": [
                {"id": i, "image_id": 3, "iscrowd": 0, "category_id": (2, 18)[i % 2], "segmentation": each}
                for i, each in enumerate(segmentations)
            ],
        },
    )


RUNS = {"size": [12, 16], "counts": [13, 5, 10, 5, 9, 150]}


def packed(counts: Sequence[int]) -> str:
    """Write run lengths as COCO's compressed text."""
    text = ""
    for i, count in enumerate(counts):
        value, more = count - counts[i - 2] if i > 2 else count, True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(bits + 48 + 32 * more)
    return text


def runs_of(counts: Any) -> list[int]:
    """Undo COCO's text as its API's rleFrString does."""
    if not isinstance(counts, str):
        return [int(count) for count in counts]
    found: list[int] = []
    place = 0
    while place < len(counts):
        value = shift = 0
        more = True
        while more:
            bits = ord(counts[place]) - 48
            value |= (bits & 0x1F) << (5 * shift)
            more = bool(bits & 0x20)
            place += 1
            shift += 1
            if not more and bits & 0x10:
                value |= -1 << (5 * shift)
        found.append(value + found[-2] if len(found) > 2 else value)
    return found


def check_coco(path: Path, value: Any) -> None:
    names, masks = value
    record = parsed(path)
    kinds = sorted(record["categories"], key=lambda kind: int(kind["id"]))
    first = next((k for k in kinds if k["name"].strip().lower() == "background"), None)
    others = [kind for kind in kinds if kind is not first]
    if "unlabel" in str(record) or "_background_" in str(record):
        return
    assert list(names[1:]) == [kind["name"] for kind in others]
    labels = {int(kind["id"]): i for i, kind in enumerate([first, *others]) if kind}
    images = sorted(record["images"], key=lambda image: image["file_name"].replace("\\", "/"))
    assert len(images) == len(masks)
    for image, mask in zip(images, masks, strict=True):
        if (int(image["height"]), int(image["width"])) != SIZE:
            continue
        drawn = []
        for found in record["annotations"]:
            if found["image_id"] == image["id"] and type(found["image_id"]) is type(image["id"]):
                segmentation = found["segmentation"]
                if isinstance(segmentation, dict):
                    runs = runs_of(segmentation["counts"])
                    flat = np.concatenate([np.full(n, i % 2 == 1) for i, n in enumerate(runs)] or [np.zeros(0, bool)])
                    shape = flat.reshape(SIZE[::-1]).T
                    drawn.append((-float(shape.sum()), [shape], labels[int(found["category_id"])]))
                else:
                    size = sum(area(polygon) for polygon in segmentation)
                    drawn.append((-size, [inside(each) for each in segmentation], labels[int(found["category_id"])]))
        expected = np.zeros(SIZE, np.uint8)
        for _, shapes, label in sorted(drawn, key=lambda item: item[0]):
            for shape in shapes:
                expected[shape] = label
        same(mask, expected)


def coco(*segmentations: Any) -> Reader:
    return Reader(
        lambda folder: make_coco(folder, segmentations),
        lambda path: read_all(open_segmentation(f"coco:{path}")),
        change_json,
        check_coco,
        lambda path: checks(f"coco:{path}", path.parent),
    )


# ---- LabelMe


def make_labelme(folder: Path) -> Path:
    picture(folder / "a.png")
    shapes = [
        {"label": "dog", "points": np.reshape(BIG, (-1, 2)).tolist(), "shape_type": "polygon"},
        {"label": "car", "points": [[2, 2], [6, 7]], "shape_type": "rectangle", "group_id": None},
        {"label": "__ignore__", "points": np.reshape(SMALL, (-1, 2)).tolist()},
    ]
    record = {"version": "5.4.1", "imagePath": "a.png", "imageHeight": 12, "imageWidth": 16, "shapes": shapes}
    return write(folder / "a.json", record)


def check_labelme(path: Path, value: Any) -> None:
    names, masks = value
    record = parsed(path)
    labels = {"__ignore__": IGNORED, "ignore": IGNORED, **{name: i for i, name in enumerate(names)}}
    if (int(record.get("imageHeight") or 12), int(record.get("imageWidth") or 16)) != SIZE:
        return
    expected = np.zeros(SIZE, np.uint8)
    for shape in record["shapes"]:
        points = [[float(value) for value in point] for point in shape["points"]]
        kind = shape.get("shape_type") or "polygon"
        if kind not in ("polygon", "rectangle") or shape["label"].strip("_").lower() in ("background", "unlabelled"):
            return
        if kind == "rectangle" and len(points) == 2:
            (x0, y0), (x1, y1) = points
            points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        expected[inside(points)] = labels[shape["label"]]
    same(masks[0], expected)


# ---- YOLO


def make_yolo(folder: Path, changed: str) -> Path:
    picture(folder / "images/a.png")
    lines = ["0 .1 .1 .9 .1 .9 .8 .1 .8", "1 0.2 0.25 0.55 0.3 0.3 0.7"]
    write(folder / "labels/a.txt", "\n".join(lines) + "\n")
    write(folder / "data.yaml", "path: .\nnames:\n  0: person\n  1: car\nnc: 2\n")
    return folder / changed


def read_yolo(path: Path) -> Any:
    return read_all(open_segmentation(f"yolo-seg:{path.parent if path.suffix == '.yaml' else path.parents[1]}"))


def check_yolo(path: Path, value: Any) -> None:
    names, masks = value
    root = path.parent if path.suffix == ".yaml" else path.parents[1]
    stated = yaml.load((root / "data.yaml").read_text("utf-8-sig"), yaml.BaseLoader)["names"]
    stated = [stated[key] for key in sorted(stated, key=int)] if isinstance(stated, dict) else stated
    if any(name.lower().strip("_") in ("background", "unlabeled", "unlabelled") for name in stated):
        return
    assert list(names) == ["background", *stated]
    drawn = []
    for line in (root / "labels/a.txt").read_text("utf-8-sig").splitlines():
        if line.split():
            number, *values = line.split()
            corners = np.array([float(value) for value in values]).reshape(-1, 2) * (16, 12)
            drawn.append((-area(corners), int(number), corners))
    expected = np.zeros(SIZE, np.uint8)
    for _, number, corners in sorted(drawn, key=lambda item: item[0]):
        expected[inside(corners)] = number + 1
    same(masks[0], expected)


# ---- Others


def make_label_studio(folder: Path) -> Path:
    picture(folder / "images/a.png")
    sizes = {"original_width": 16, "original_height": 12, "image_rotation": 0}
    points = (np.reshape(SMALL, (-1, 2)) * (100 / 16, 100 / 12)).tolist()
    results = [
        {"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["car"], "closed": True}, **sizes},
        {"type": "rectanglelabels", "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rectanglelabels": ["car"]}},
    ]
    task = {
        "id": 1,
        "annotations": [{"id": 5, "was_cancelled": False, "ground_truth": False, "result": results}],
        "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
    }
    return write(folder / "train.json", [task])


def make_hit_uav(folder: Path) -> Path:
    picture(folder / "images/train/a.png")
    return write(
        folder / "annotations/train.json",
        {
            "images": [{"id": 0, "filename": "a.png", "height": 12, "width": 16}],
            "annotations": [
                {"image_id": 0, "category_id": 0, "bbox": [8.0, 6.0, 6.0, 4.0, 0.5]},
                {"image_id": 0, "category_id": 1, "bbox": [5.0, 5.0, 2.0, 2.0, 0.0]},
            ],
            "categories": [{"id": 0, "name": "Person"}, {"id": 1, "name": "Car"}],
        },
    )


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>dog</name></label><label><name>car</name></label>
</labels></task></meta>
<image id="0" name="a.png" subset="train" width="16" height="12">
<polygon label="dog" occluded="0" points="1.0,1.0;15.0,1.0;15.0,10.0;1.0,10.0" z_order="0"></polygon>
<polygon label="car" occluded="0" points="2.3,2.2;9.9,3.1;4.6,8.8" z_order="1"></polygon>
<mask label="car" rle="2, 3, 1" left="3" top="2" width="3" height="2" z_order="0"></mask>
<box label="car" xtl="1" ytl="1" xbr="3" ybr="4"></box></image></annotations>
"""


def make_cvat(folder: Path) -> Path:
    picture(folder / "a.png")
    return write(folder / "annotations.xml", CVAT)


def make_folder(folder: Path) -> Path:
    picture(folder / "images/0.png")
    (folder / "masks").mkdir()
    Image.fromarray((np.indices(SIZE).sum(axis=0) % 2).astype(np.uint8)).save(folder / "masks/0.png")
    conversion = {"method": "plateau", "plateau": 0.01, "percentiles": [1, 99], "polarity": "black-hot"}
    palette = [[0, 0, 0], [255, 0, 9]]
    return write(
        folder / "classes.json",
        {"names": ["background", "hot"], "ignore_index": 255, "palette": palette, "conversion": conversion},
    )


def read_folder(path: Path) -> Any:
    read_all(open_segmentation(path.parent))
    return read_classes([path.parent])


def check_classes(path: Path, value: Any) -> None:
    classes, conversion, stated = value
    record = parsed(path)
    assert list(classes.names) == record["names"]
    assert stated == ("ignore_index" in record)
    assert classes.ignore_index == record.get("ignore_index", 255)
    if record.get("palette"):
        assert [list(colour) for colour in classes.palette] == record["palette"]
    told = record.get("conversion")
    assert (conversion is None) == (told is None)
    if told and "plateau" in told:
        assert conversion.plateau == float(told["plateau"])


def check_palette(path: Path, value: Any) -> None:
    mark = "," if path.suffix == ".csv" else ":"
    lines = path.read_text("utf-8-sig").splitlines()[path.suffix == ".csv" :]
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    assert [name for name, _ in value] == [line.split(mark)[0].strip() for line in lines]
    assert all(0 <= level <= 255 for _, colour in value for level in colour)


READERS = {
    "COCO polygons": coco([SMALL], [BIG], [[11, 2, 13, 2, 13, 4, 11, 4], [11, 6, 13, 6, 13, 8, 11, 8]]),
    "COCO run lengths": coco(RUNS, [BIG], RUNS),
    "COCO compressed run lengths": coco({"size": [12, 16], "counts": packed(RUNS["counts"])}, [SMALL]),
    "LabelMe": Reader(
        make_labelme,
        lambda path: read_all(open_segmentation(f"labelme:{path.parent}")),
        change_json,
        check_labelme,
        lambda path: checks(f"labelme:{path.parent}", path.parent),
    ),
    "YOLO labels": Reader(
        lambda folder: make_yolo(folder, "labels/a.txt"),
        read_yolo,
        change_words,
        check_yolo,
        lambda path: checks(f"yolo-seg:{path.parents[1]}", path.parents[1]),
    ),
    "YOLO data.yaml": Reader(
        lambda folder: make_yolo(folder, "data.yaml"),
        read_yolo,
        change_yaml,
        check_yolo,
        lambda path: ["data", "stats", "--data", f"yolo-seg:{path.parent}"],
    ),
    "Label Studio": Reader(
        make_label_studio,
        lambda path: read_all(open_segmentation(f"label-studio:{path}")),
        change_json,
        command=lambda path: checks(f"label-studio:{path}", path.parent),
    ),
    "HIT-UAV": Reader(
        make_hit_uav,
        lambda path: read_all(open_segmentation(f"hit-uav:{path.parents[1]}", "train")),
        change_json,
        command=lambda path: ["data", "stats", "--data", f"hit-uav:{path.parents[1]}"],
    ),
    "CVAT": Reader(
        make_cvat,
        lambda path: read_all(open_segmentation(f"cvat:{path}")),
        change_words,
        command=lambda path: checks(f"cvat:{path}", path.parent),
    ),
    "classes.json": Reader(
        make_folder,
        read_folder,
        change_json,
        check_classes,
        lambda path: checks(str(path.parent), path.parent),
    ),
    "class_dict.csv": Reader(
        lambda folder: write(folder / "class_dict.csv", "name,r,g,b\nroad,1,2,3\nhot thing,255,0,9\n"),
        read_palette,
        change_words,
        check_palette,
    ),
    "labelmap.txt": Reader(
        lambda folder: write(folder / "labelmap.txt", "# label:r,g,b:parts:actions\nroad:1,2,3::\nhot:255,0,9::\n"),
        read_palette,
        change_words,
        check_palette,
    ),
}
