"""Exports of CVAT and Label Studio, whose masks are checked pixel by pixel."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.data.labelled.readers.label_studio import decode_brush
from unip.errors import UnipError

SIZE = (12, 16)
BOM = b"\xef\xbb\xbf"

EXPECTED = np.zeros(SIZE, np.uint8)
EXPECTED[1:9, 2:10] = 1  # car: polygon
EXPECTED[3:5, 4:7] = 2  # person: mask, on top
EXPECTED[4, 5] = 1  # its hole
EXPECTED[11, 12:] = IGNORE


def image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, 90, np.uint8)).save(path)


SHAPES = """
<mask label="person" source="manual" occluded="0" rle="0, 4, 1, 1" left="4" top="3" width="3" height="2" z_order="1"/>
<polygon label="car" source="manual" points="2.00,1.00;10.00,1.00;10.00,9.00;2.00,9.00" z_order="0"></polygon>
<polygon label="ignore" points="12,11;16,11;16,12;12,12" z_order="0"><attribute name="x">1</attribute></polygon>
"""
BOX = '<box label="car" xtl="1" ytl="1" xbr="3" ybr="3" z_order="0"></box>'


def cvat(root: Path, shapes: str = SHAPES, labels: str = "car person background ignore", more: str = "") -> str:
    named = "".join(f"<label><name>{label}</name><color>#ff0000</color></label>" for label in labels.split())
    text = (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta><task><labels>{named}</labels></task></meta>"
        f'<image id="0" name="day\\a.jpg" subset="Train" width="16" height="12">{shapes}{BOX}</image>'
        f'<image id="1" name="b.jpg" subset="Train" width="16" height="12">{BOX}</image>'
        f'<image id="2" name="c.jpg" subset="Val" width="16" height="12">{SHAPES}</image>{more}</annotations>'
    )
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.xml").write_bytes(BOM + text.encode())
    for place in ("images/Train/day/a.jpg", "images/Train/b.jpg", "images/c.jpg"):
        image(root / place)
    return f"cvat:{root}"


def test_cvat_for_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = cvat(tmp_path)
    with caplog.at_level("INFO"):
        data = open_segmentation(source, "train")
    assert data.images == (tmp_path / "images/Train/day/a.jpg",)
    assert data.classes.names == ("background", "car", "person")
    np.testing.assert_array_equal(data.read(0).mask, EXPECTED)
    assert "not drawn, since only polygons and masks have an outline: 2 box" in caplog.text
    assert re.search(r"1 of 2 images have no outline and are left out: .*b\.jpg", caplog.text)
    assert list_splits(source) == ["Train", "Val"]
    assert len(open_segmentation(f"cvat:{tmp_path / 'annotations.xml'}")) == 2
    with pytest.raises(UnipError, match="no image of a subset 'test'") as caught:
        open_segmentation(source, "test")
    assert "Subsets there: Train, Val" in caught.value.fix


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("", r"no image of .* has a polygon or a mask, only 2 box"),
        (SHAPES.replace('"car"', '"bus"'), "has the label 'bus', which its <labels> do not name"),
        (SHAPES.replace("0, 4, 1, 1", "0, 4, 1, 9"), "is no XML of CVAT for images 1.1"),
        (SHAPES.replace('left="4"', 'left="14"'), "is no XML of CVAT for images 1.1"),
        (SHAPES.replace("0, 4", "a, b"), "is no XML of CVAT for images 1.1"),
    ],
)
def test_cvat_problems(tmp_path: Path, shapes: str, message: str) -> None:
    with pytest.raises(UnipError, match=message):
        open_segmentation(cvat(tmp_path, shapes), "train")


def test_other_xml(tmp_path: Path) -> None:
    source = cvat(tmp_path, SHAPES.replace("10.00", "40.00"))
    with pytest.raises(UnipError, match="lies outside of the picture"):
        open_segmentation(source, "train").read_mask(0)
    for text, message in (
        ("<annotations><track/></annotations>", "is of CVAT for video"),
        ("<annotation/>", "not of CVAT: it holds <annotation>"),
        ("<annotations>", "is not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "declares entities"),
        ("<annotations/>", "names no image"),
    ):
        (tmp_path / "annotations.xml").write_text(text)
        with pytest.raises(UnipError, match=message):
            open_segmentation(source)
    cvat(tmp_path)
    (tmp_path / "images/Train/day/a.jpg").unlink()
    with pytest.raises(UnipError, match=r"names day/a\.jpg, but there is no such image"):
        open_segmentation(source, "train")


def test_cvat_segmentation_mask(tmp_path: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[EXPECTED == 1], colours[EXPECTED == 2], colours[EXPECTED == IGNORE] = (250, 50, 83), (51, 221, 255), 255
    (tmp_path / "SegmentationClass").mkdir()
    for name in ("a", "b"):
        image(tmp_path / f"JPEGImages/{name}.jpg")
        Image.fromarray(colours).save(tmp_path / f"SegmentationClass/{name}.png")
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "car:250,50,83::", "person:51,221,255::"]
    (tmp_path / "labelmap.txt").write_bytes(BOM + "\n".join([*lines, "ignore:255,255,255::", ""]).encode())
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("a\n")
    source = f"cvat:{tmp_path}"
    assert list_splits(source) == ["default"]
    data = open_segmentation(source, "default")
    assert data.classes.names == ("background", "car", "person") and len(data) == 1
    np.testing.assert_array_equal(data.read(0).mask, EXPECTED)
    assert len(open_segmentation(source)) == 2


def pack(values: np.ndarray) -> list[int]:
    """Write the run lengths of rle-pack: runs where values repeat, else single values."""
    flat = values.ravel()
    bits = [f"{len(flat):032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in (3, 4, 8, 16))]
    edges = [0, *(np.flatnonzero(np.diff(flat.astype(int))) + 1).tolist(), len(flat)]
    for start, end in itertools.pairwise(edges):
        while start < end:
            length = min(end - start, 1 << 16)
            which = next(i for i, width in enumerate((3, 4, 8, 16)) if length <= 1 << width)
            is_run = length > 1
            bits.append(f"{int(is_run)}{which:02b}{length - 1:0{(3, 4, 8, 16)[which]}b}{flat[start]:08b}")
            start += length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def rgba(mask: np.ndarray) -> np.ndarray:
    return np.repeat((mask * 255).astype(np.uint8)[..., None], 4, axis=-1)


@pytest.mark.parametrize("seed", range(6))
def test_brush_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((20, 30)) < (0.0, 0.02, 0.5, 0.98, 1.0, 0.3)[seed]
    np.testing.assert_array_equal(decode_brush(pack(rgba(mask)), (20, 30)), mask)
    with pytest.raises(ValueError, match="2400 values"):
        decode_brush(pack(rgba(mask)), (30, 30))
    with pytest.raises(ValueError, match="ends too early"):
        decode_brush(pack(rgba(mask))[:-1] if seed not in (0, 4) else pack(rgba(mask))[:9], (20, 30))


def test_a_known_brush_mask() -> None:
    # by hand: 1 x 2 pixels; a run of 4 zeros (bits 1, 00, 011, value 0), then 4 single values 9, 9, 9, 200
    bits = f"{8:032b}" + f"{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}" + "100011" + f"{0:08b}"
    bits += "000011" + f"{9:08b}" * 3 + f"{200:08b}"
    bits += "0" * (-len(bits) % 8)
    runs = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert decode_brush(runs, (1, 2)).tolist() == [[False, True]]


def shape(kind: str, label: str, **value: Any) -> dict[str, Any]:
    size = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    return {"type": kind, **size, "value": {kind: [label], **value}}


def percent(*points: tuple[float, float]) -> list[list[float]]:
    return [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in points]


def task(address: str, *results: dict[str, Any], number: int = 1, **more: Any) -> dict[str, Any]:
    annotations = [{"id": number, "was_cancelled": True, "result": []}, {"id": number + 1, "result": list(results)}]
    return {"id": number, "data": {"image": address}, "annotations": annotations, **more}


BRUSH = np.zeros(SIZE, bool)
BRUSH[3:5, 4:7] = True
BRUSH[4, 5] = False
RESULTS = (
    shape("polygonlabels", "car", points=percent((2, 1), (10, 1), (10, 9), (2, 9))),
    shape("brushlabels", "person", format="rle", rle=pack(rgba(BRUSH))),
    shape("polygonlabels", "ignore", points=percent((12, 11), (16, 11), (16, 12), (12, 12))),
    shape("rectanglelabels", "car", x=1, y=1, width=3, height=3),
)


def label_studio(root: Path, tasks: list[dict[str, Any]], name: str = "export.json") -> str:
    for file in ("a.jpg", "b.jpg"):
        image(root / "images" / file)
    (root / name).write_bytes(BOM + json.dumps(tasks).encode())
    return f"label-studio:{root}"


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/1/0123abcd-a.jpg",
        "/data/local-files/?d=set%5Cimages%5Ca.jpg",
        "s3://bucket/some/a.jpg",
        "C:\\frames\\a.jpg",
    ],
)
def test_label_studio(tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture) -> None:
    source = label_studio(tmp_path, [task(address, *RESULTS), task("b.jpg", number=4)])
    with caplog.at_level("INFO"):
        data = open_segmentation(source)
    assert data.images == (tmp_path / "images/a.jpg",) and data.classes.names == ("background", "car", "person")
    np.testing.assert_array_equal(data.read(0).mask, EXPECTED)
    assert "1 rectanglelabels" in caplog.text and "1 of 2 images have no outline" in caplog.text
    assert list_splits(source) == []
    with pytest.raises(UnipError, match="has no splits") as caught:
        open_segmentation(source, "train")
    assert '--split ""' in caught.value.fix
    assert open_segmentation(f"{source}/export.json") == data


def test_label_studio_splits_share_classes(tmp_path: Path) -> None:
    label_studio(tmp_path, [task("a.jpg", RESULTS[0])], "train.json")
    source = label_studio(tmp_path, [task("b.jpg", RESULTS[1])], "val.json")
    assert list_splits(source) == ["train", "val"]
    assert open_segmentation(source, "val").classes == open_segmentation(source, "train").classes
    assert set(np.unique(open_segmentation(source, "val").read_mask(0))) == {0, 2}
    with pytest.raises(UnipError, match="no JSON export of Label Studio for split 'test'"):
        open_segmentation(source, "test")


def test_label_studio_problems(tmp_path: Path) -> None:
    both = task("a.jpg", *RESULTS)
    both["annotations"].append({"id": 9, "result": [RESULTS[0]]})
    turned = {**RESULTS[0], "image_rotation": 90}
    broken = shape("brushlabels", "person", format="rle", rle=[0, 0, 0])
    two = shape("polygonlabels", "car", points=[])
    two["value"]["polygonlabels"] = ["car", "person"]
    for tasks, message in (
        ([both], "task 1 has 2 annotations"),
        ([task("c.jpg", *RESULTS)], "shows c.jpg, but there is no such image"),
        ([task("a.jpg", turned)], "drawn on a picture that was turned by 90"),
        ([task("a.jpg", broken)], "a brush mask that ends too early"),
        ([task("a.jpg", two)], "a shape of task 1 is broken"),
        ([{"id": 1, "image": "a.jpg", "label": []}], "is no JSON export of Label Studio"),
        ([task("a.jpg", RESULTS[3])], "names no class"),
    ):
        with pytest.raises(UnipError, match=message):
            open_segmentation(label_studio(tmp_path, tasks))
    both["annotations"][-1]["ground_truth"] = True
    assert set(np.unique(open_segmentation(label_studio(tmp_path, [both])).read_mask(0))) == {0, 1}
    image(tmp_path / "more/a.jpg")
    with pytest.raises(UnipError, match="2 images are called so"):
        open_segmentation(label_studio(tmp_path, [task("a.jpg", *RESULTS)]))
