"""Miniature trees of every released layout, whose ids are checked pixel by pixel."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import check_segmentation, list_splits, open_segmentation, split_kind
from unip.data.labelled.masks import box_corners, draw_polygon
from unip.data.labelled.readers import READERS
from unip.data.labelled.readers.ade20k import ADE20K
from unip.data.labelled.readers.coco import CocoRuns, decode_runs, encode_runs
from unip.data.labelled.readers.depth import NYU, SUN
from unip.data.labelled.readers.thermal import SCUT, SODA
from unip.data.labelled.settings import KindName
from unip.errors import UnipError

SIZE = (6, 8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def grey(level: int = 90) -> np.ndarray:
    return np.full(SIZE, level, np.uint8)


def ids(*values: int) -> np.ndarray:
    return np.resize(np.array(values, np.uint8), SIZE)


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Tell which pixel centres lie inside a polygon, one at a time."""
    mask = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, odd = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                if (y0 <= y) != (y1 <= y) and x > x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    odd = not odd
            mask[row, column] = odd
    return mask


# released layouts


def test_soda(tmp_path: Path) -> None:
    save(tmp_path / "JPEGImages/a.jpg", grey())
    save(tmp_path / "JPEGImages/b.jpg", grey())
    save(tmp_path / "SegmentationClassPNG/a.png", ids(0, 20, 255))
    (tmp_path / "train_infrared.txt").write_text("a\n\n")
    data = open_segmentation(f"soda:{tmp_path}", "train")
    assert data.images == (tmp_path / "JPEGImages/a.jpg",)
    assert len(data.classes.names) == 21 and data.classes.names[10] == "car"
    np.testing.assert_array_equal(data.read_mask(0), ids(0, 20, 255))
    assert list_splits(f"soda:{tmp_path}") == ["train"]
    (tmp_path / "test_infrared.txt").write_text("a\nb\n")
    with pytest.raises(UnipError, match=r"1 of 2 images of SODA test have no mask, the first: .*b\.jpg"):
        open_segmentation(f"soda:{tmp_path}", "test")
    (tmp_path / "test_infrared.txt").write_text("c\n")
    with pytest.raises(UnipError, match=r"names c, but there is no image"):
        open_segmentation(f"soda:{tmp_path}", "test")


def test_mfnet_takes_the_fourth_channel(tmp_path: Path) -> None:
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 3] = 10, 20, np.arange(48).reshape(SIZE)
    for split in ("train", "val", "test"):
        save(tmp_path / f"images/{split}D.png", pixels)
        save(tmp_path / f"labels/{split}D.png", ids(0, 8, 3))
        (tmp_path / f"{split}.txt").write_text(f"{split}D\n")
    data = open_segmentation(f"mfnet:{tmp_path}", "test")
    np.testing.assert_array_equal(data.read_image(0), pixels[..., 3])
    np.testing.assert_array_equal(data.read_mask(0), ids(0, 8, 3))
    assert data.classes.names[8] == "bump" and data.classes.palette[2] == (64, 64, 0)
    colour = open_segmentation(f"mfnet-rgb:{tmp_path}", "val")
    np.testing.assert_array_equal(colour.read_image(0), pixels[..., :3])
    assert check_segmentation(data)["bike"] == 16
    assert pickle.loads(pickle.dumps(data)) == data
    save(tmp_path / "images/testD.png", grey())
    with pytest.raises(UnipError, match="has 1 channel of uint8, but channel 4 is to be read"):
        open_segmentation(f"mfnet:{tmp_path}", "test").read(0)


@pytest.mark.parametrize("released", [False, True])
def test_scut(tmp_path: Path, released: bool) -> None:
    stored = [0, 7, 24, 25, 26, 27, 13, 21, 28, 17]
    for split in ("train", "val"):
        save(tmp_path / f"images/set/{split}1.jpg", grey())
        mask = f"gt_instance/set/{split}1_labelIds.png" if released else f"labels/set/{split}1.png"
        save(tmp_path / mask, ids(*stored))
        line = f"images/set/{split}1.jpg {mask}" if released else f"set/{split}1"
        (tmp_path / (f"scut_{split}.txt" if released else f"{split}.txt")).write_text(line + "\n")
    data = open_segmentation(f"scut:{tmp_path}", "val")
    np.testing.assert_array_equal(data.read_mask(0), ids(*range(10)))
    assert data.classes.names == SCUT.classes.names and data.classes.names[6] == "fence"
    save(tmp_path / mask, ids(0, 8))
    with pytest.raises(UnipError, match=r"unknown id 8 \(24 pixels\)") as caught:
        open_segmentation(f"scut:{tmp_path}", "val").read_mask(0)
    assert "0, 7, 13, 17, 21, 24" in caught.value.fix
    with pytest.raises(UnipError, match="no split 'test'; its authors' splits are train, val"):
        open_segmentation(f"scut:{tmp_path}", "test")


def test_pst900(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save(tmp_path / split / "thermal/1.png", grey(30))
        save(tmp_path / split / "rgb/1.png", np.full((*SIZE, 3), (1, 20, 30), np.uint8))
        save(tmp_path / split / "labels/1.png", ids(0, 4))
    data = open_segmentation(f"pst900:{tmp_path}", "test")
    assert data.classes.names[4] == "survivor" and data.read_image(0).max() == 30
    np.testing.assert_array_equal(data.read_mask(0), ids(0, 4))
    assert open_segmentation(f"pst900-rgb:{tmp_path}", "train").read_image(0)[0, 0].tolist() == [1, 20, 30]


def test_tir_ss(tmp_path: Path) -> None:
    save(tmp_path / "Img8bit/val/1_5.bmp", grey())
    save(tmp_path / "gtFine/val/1_5.png", ids(0, 8, 2).astype(np.uint16))
    data = open_segmentation(f"tir-ss:{tmp_path}", "val")
    np.testing.assert_array_equal(data.read(0).mask, ids(0, 8, 2))
    assert data.classes.names[2] == "pedestrian" and list_splits(f"tir-ss:{tmp_path}") == ["val"]


def test_fmb(tmp_path: Path) -> None:
    save(tmp_path / "test/Infrared/00001.png", grey())
    save(tmp_path / "test/Label/00001.png", ids(0, 14, 8))
    data = open_segmentation(f"fmb:{tmp_path}", "test")
    np.testing.assert_array_equal(data.read(0).mask, ids(0, 14, 8))
    assert (data.classes.names[8], data.classes.names[14]) == ("person", "pole")


def test_semantic_rt(tmp_path: Path) -> None:
    save(tmp_path / "thermal/day/a.jpg", grey())
    save(tmp_path / "labels/day/a.png", ids(0, 12, 6))
    (tmp_path / "train.txt").write_text("day\\a\n")
    data = open_segmentation(f"semanticrt:{tmp_path}", "train")
    np.testing.assert_array_equal(data.read(0).mask, ids(0, 12, 6))
    assert (data.classes.names[6], data.classes.names[12]) == ("car", "person")


def test_infraparis(tmp_path: Path) -> None:
    save(tmp_path / "Infra/val/paris/a.png", grey().astype(np.uint16) * 9)
    save(tmp_path / "semantic_segmentation_reprojected/val/paris/a_labelIds.png", ids(0, 18, 19, 255))
    data = open_segmentation(f"infraparis:{tmp_path}", "val")
    np.testing.assert_array_equal(data.read(0).mask, ids(0, 18, IGNORE, IGNORE))
    assert data.classes.names[18] == "bicycle"


def test_cart(tmp_path: Path) -> None:
    frame, mask = "river/flight1/thermal16/thermal-00180.tiff", "river/flight1/masks/pair-00180.png"
    save(tmp_path / frame, np.arange(48, dtype=np.uint16).reshape(SIZE) * 99)
    save(tmp_path / mask, ids(0, 1, 2, 11))
    (tmp_path / "thermal16_val.txt").write_text(f"{frame},{mask}\n")
    data = open_segmentation(f"cart:{tmp_path}", "val")
    assert data.images == (tmp_path / frame,)
    np.testing.assert_array_equal(data.read(0).mask, ids(IGNORE, IGNORE, 0, 9))
    assert data.classes.names[0] == "bare ground" and data.classes.names[9] == "person"
    assert list_splits(f"cart:{tmp_path}") == ["val"]


def test_mvseg(tmp_path: Path) -> None:
    for number in (237, 238):
        save(tmp_path / f"data/INO_1/infrared/00{number}i.jpg", grey())
    save(tmp_path / "data/INO_1/label/00238l.png", ids(0, 25, 255))
    (tmp_path / "test.txt").write_text("INO_1\n\n")
    data = open_segmentation(f"mvseg:{tmp_path}", "test")
    assert data.images == (tmp_path / "data/INO_1/infrared/00238i.jpg",)
    np.testing.assert_array_equal(data.read(0).mask, ids(0, 25, IGNORE))
    assert data.classes.names[25] == "ground" and list_splits(f"mvseg:{tmp_path}") == ["test"]
    (tmp_path / "data/INO_1/infrared/00238i.jpg").unlink()
    with pytest.raises(UnipError, match=r"the infrared frame of .*00238l\.png is not there"):
        open_segmentation(f"mvseg:{tmp_path}", "test")
    (tmp_path / "test.txt").write_text("INO_2\n")
    with pytest.raises(UnipError, match="names INO_2, but there are no labels"):
        open_segmentation(f"mvseg:{tmp_path}", "test")


def test_depth_sets_count_from_one(tmp_path: Path) -> None:
    root = tmp_path / "nyu"
    save(root / "RGB/7.jpg", np.full((*SIZE, 3), (200, 10, 10), np.uint8))
    save(root / "Depth/7.png", grey(50))
    save(root / "Label/7.png", ids(0, 1, 40))
    (root / "train.txt").write_text("RGB/7.jpg Label/7.png\n")
    for kind, channels in (("nyudepthv2", 2), ("nyudepthv2-rgb", 3)):
        data = open_segmentation(f"{kind}:{root}", "train")
        np.testing.assert_array_equal(data.read_mask(0), ids(IGNORE, 0, 39))
        assert data.read_image(0).ndim == channels and len(data.classes.names) == 40
    root = tmp_path / "sun"
    save(root / "image/test/img-000003.jpg", np.full((*SIZE, 3), (200, 10, 10), np.uint8))
    save(root / "depth/test/00000003.png", grey(50))
    save(root / "label37/test/img37labels-000003.png", ids(0, 37, 5))
    names = "image/test/img-000003.jpg depth/test/00000003.png label37/test/img37labels-000003.png"
    (root / "test37.txt").write_text(names + "\n")
    for kind, channels in (("sunrgbd", 2), ("sunrgbd-rgb", 3)):
        data = open_segmentation(f"{kind}:{root}", "test")
        np.testing.assert_array_equal(data.read_mask(0), ids(IGNORE, 36, 4))
        assert data.read_image(0).ndim == channels
    assert (SUN.names[36], NYU.names[39]) == ("bag", "other prop")


def test_ade20k(tmp_path: Path) -> None:
    for folder in ("training", "validation"):
        save(tmp_path / f"images/{folder}/ADE_1.jpg", np.full((*SIZE, 3), (200, 10, 10), np.uint8))
        save(tmp_path / f"annotations/{folder}/ADE_1.png", ids(0, 1, 150))
    data = open_segmentation(f"ade20k:{tmp_path}", "val")
    np.testing.assert_array_equal(data.read_mask(0), ids(IGNORE, 0, 149))
    assert len(set(ADE20K.classes.names)) == 150 and data.classes.names[149] == "flag"
    assert data.classes.palette[149] == (92, 0, 255) and list_splits(f"ade20k:{tmp_path}") == ["train", "val"]


def test_hit_uav_fills_turned_boxes(tmp_path: Path) -> None:
    frame = {"id": 5, "width": 40, "height": 30, "filename": "0_60_30_0_00001.jpg"}
    boxes = [
        {"image_id": 5, "category_id": 0, "bbox": [20.2, 15.1, 5.3, 4.4, 0.0]},
        {"image_id": 5, "category_id": 1, "bbox": [20.0, 15.0, 24.0, 8.0, 0.5]},
        {"image_id": 5, "category_id": 4, "bbox": [30.0, 20.0, 12.0, 12.0, 1.0]},
    ]
    names = ("Person", "Car", "Bicycle", "OtherVehicle", "DontCare")
    record = {
        "images": [frame, {**frame, "id": 6, "filename": "0_empty.jpg"}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": boxes,
    }
    (tmp_path / "rotate_json/annotations").mkdir(parents=True)
    (tmp_path / "rotate_json/annotations/val.json").write_text(json.dumps(record))
    for image in record["images"]:
        save(tmp_path / "rotate_json/images/val" / image["filename"], np.full((30, 40), 9, np.uint8))
    expected = np.zeros((30, 40), np.uint8)
    for (cx, cy, width, height, angle), label in (
        (boxes[2]["bbox"], IGNORE),
        (boxes[1]["bbox"], 2),
        (boxes[0]["bbox"], 1),
    ):
        for row in range(30):
            for column in range(40):
                x, y = column + 0.5 - cx, row + 0.5 - cy
                along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
                if abs(along) < width / 2 and abs(across) < height / 2:
                    expected[row, column] = label
    for root in (tmp_path, tmp_path / "rotate_json"):
        data = open_segmentation(f"hit-uav:{root}", "val")
        np.testing.assert_array_equal(data.read_mask(0), expected)
        assert not data.read_mask(1).any() and list_splits(f"hit-uav:{root}") == ["val"]
    assert set(np.unique(expected)) == {0, 1, 2, IGNORE}
    for found in boxes:
        found["bbox"] = found["bbox"][:4]
    (tmp_path / "rotate_json/annotations/val.json").write_text(json.dumps(record))
    with pytest.raises(UnipError, match=r"annotations\[0\].bbox: too few values(.|\n)*Use rotate_json"):
        open_segmentation(f"hit-uav:{tmp_path}", "val")
    boxes[0]["bbox"] = [1e308, 0, 1e308, 1, 0]
    (tmp_path / "rotate_json/annotations/val.json").write_text(json.dumps(record))
    with pytest.raises(UnipError, match=r"annotations\[0\].bbox\[0\]: input should be less than or equal to"):
        open_segmentation(f"hit-uav:{tmp_path}", "val")


# generic layouts


@pytest.mark.parametrize("palette", ["classes.json", "class_dict.csv", "labelmap.txt"])
def test_colours(tmp_path: Path, palette: str) -> None:
    table = {"sky": (10, 20, 30), "road": (128, 64, 128), "car": (0, 0, 142)}
    picture = np.array(list(table.values()), np.uint8)[np.resize(np.arange(3), SIZE)]
    save(tmp_path / "train/images/a.png", grey())
    save(tmp_path / "train/masks/a.png", picture)
    if palette == "classes.json":
        text = json.dumps({"names": list(table), "palette": list(table.values())})
    elif palette == "class_dict.csv":
        text = "name,r,g,b\n" + "".join(f"{n},{r},{g},{b}\n" for n, (r, g, b) in table.items()) + "ignore,0,0,0\n"
    else:
        text = "# label:color_rgb:parts:actions\n" + "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in table.items())
    (tmp_path / palette).write_text(text)
    data = open_segmentation(f"colours:{tmp_path}", "train")
    np.testing.assert_array_equal(data.read_mask(0), np.resize(np.arange(3), SIZE))
    assert data.classes.names == tuple(table) and data.classes.palette == tuple(table.values())
    if palette == "class_dict.csv":
        picture[0] = 0
        save(tmp_path / "train/masks/a.png", picture)
        assert (data.read_mask(0)[0] == IGNORE).all()
    picture[0, 0] = (9, 9, 9)
    save(tmp_path / "train/masks/a.png", picture)
    with pytest.raises(UnipError, match=r"the colour \(9, 9, 9\), which no class has \(1 pixels\)"):
        data.read_mask(0)


def test_colours_need_a_palette(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", grey())
    save(tmp_path / "masks/a.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(UnipError, match="no palette file"):
        open_segmentation(f"colours:{tmp_path}")
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\na,0,0,0\nb,0,0,0\n")
    with pytest.raises(UnipError, match="stands for two classes"):
        open_segmentation(f"colours:{tmp_path}")
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\na,0,x,0\n")
    with pytest.raises(UnipError, match="line 2"):
        open_segmentation(f"colours:{tmp_path}")


def test_cityscapes(tmp_path: Path) -> None:
    save(tmp_path / "leftImg8bit/val/bonn/bonn_1_leftImg8bit.png", grey())
    save(tmp_path / "gtFine/val/bonn/bonn_1_gtFine_labelIds.png", ids(0, 7, 33, 255))
    data = open_segmentation(f"cityscapes:{tmp_path}", "val")
    np.testing.assert_array_equal(data.read_mask(0), ids(IGNORE, 0, 18, IGNORE))
    assert len(data.classes.names) == 19 and list_splits(f"cityscapes:{tmp_path}") == ["val"]
    (tmp_path / "classes.json").write_text(json.dumps({"names": [f"c{i}" for i in range(34)]}))
    np.testing.assert_array_equal(open_segmentation(f"cityscapes:{tmp_path}", "val").read_mask(0), ids(0, 7, 33, 255))
    with pytest.raises(UnipError, match="no Cityscapes-like split 'train', but val"):
        open_segmentation(f"cityscapes:{tmp_path}", "train")


def coco(root: Path, annotations: list[dict[str, object]], name: str = "annotations/instances_train.json") -> str:
    record = {
        "images": [{"id": 3, "file_name": "a.png", "height": 12, "width": 16}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "car"}],
        "annotations": [{"id": i, "image_id": 3, "iscrowd": 0, **found} for i, found in enumerate(annotations)],
    }
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(record))
    save(root / "images/train/a.png", np.full((12, 16), 5, np.uint8))
    return f"coco:{root}"


def test_coco_polygons(tmp_path: Path) -> None:
    big, small = [1, 1, 15, 1, 15, 10, 1, 10], [2.3, 2.2, 9.9, 3.1, 4.6, 8.8]
    two = [[11, 2, 13, 2, 13, 4, 11, 4], [11, 6, 13, 6, 13, 8, 11, 8]]
    annotations = [
        {"category_id": 2, "segmentation": [small]},
        {"category_id": 18, "segmentation": [big]},
        {"category_id": 2, "segmentation": two},
    ]
    data = open_segmentation(coco(tmp_path, annotations), "train")
    assert data.classes.names == ("background", "car", "dog")
    expected = np.zeros((12, 16), np.uint8)
    for polygon, label in ((big, 2), (small, 1), (two[0], 1), (two[1], 1)):
        expected[inside(np.array(polygon, float).reshape(-1, 2), (12, 16))] = label
    np.testing.assert_array_equal(data.read_mask(0), expected)
    assert (expected == 2).sum() + (expected == 1).sum() == 14 * 9  # an edge at 1..15 holds 14 pixels, not 15
    assert list_splits(f"coco:{tmp_path}") == ["train"]
    (tmp_path / "train").mkdir()
    (tmp_path / "annotations/instances_train.json").rename(tmp_path / "all.json")
    np.testing.assert_array_equal(open_segmentation(f"coco:{tmp_path}/all.json", "train").read_mask(0), expected)


@pytest.mark.parametrize("seed", range(8))
def test_coco_runs(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((12, 16)) < (0.1, 0.5, 0.9, 0.02)[seed % 4]
    plain = encode_runs(truth)
    np.testing.assert_array_equal(decode_runs(plain, (12, 16)), truth)
    packed = {"size": [12, 16], "counts": compress(plain.counts)}
    annotations = [{"category_id": 18, "segmentation": packed}]
    np.testing.assert_array_equal(open_segmentation(coco(tmp_path, annotations), "train").read_mask(0), truth * 2)


def compress(counts: list[int]) -> str:
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


def test_known_compressed_runs() -> None:
    # a 5 x 4 mask with rows 1..3 of columns 1 and 2, written by hand: 6 zeros, 3 ones, 2 zeros, 3 ones, 6 zeros
    text = "632" + chr(48) + chr(48 + 4)
    found = decode_runs(CocoRuns((5, 4), text), (5, 4))
    expected = np.zeros((5, 4), bool)
    expected[1:4, 1:3] = True
    np.testing.assert_array_equal(found, expected)


def test_coco_problems(tmp_path: Path) -> None:
    source = coco(tmp_path, [{"category_id": 2, "segmentation": {"size": [12, 16], "counts": [5, 5]}}])
    with pytest.raises(UnipError, match="add up to 10, not to 192"):
        open_segmentation(source, "train").read_mask(0)
    coco(tmp_path, [{"category_id": 2, "bbox": [1, 1, 4, 4], "segmentation": []}])
    with pytest.raises(UnipError, match="annotation 0 has no outline, only a box"):
        open_segmentation(source, "train")
    coco(tmp_path, [{"category_id": 99, "segmentation": [[0, 0, 1, 1, 2, 2]]}])
    with pytest.raises(UnipError, match="no COCO annotation file"):
        open_segmentation(source, "train")
    with pytest.raises(UnipError, match="no COCO annotation file of split 'val'") as caught:
        open_segmentation(source, "val")
    assert "Splits there: train" in caught.value.fix
    coco(tmp_path, [])
    (tmp_path / "images/train/a.png").unlink()
    with pytest.raises(UnipError, match=r"no a\.png"):
        open_segmentation(source, "train")


def test_labelme(tmp_path: Path) -> None:
    triangle, circle = [[1.5, 1.0], [12.2, 3.0], [4.0, 9.5]], [[10.0, 6.0], [13.0, 6.0]]
    shapes = [
        {"label": "car", "points": triangle, "shape_type": "polygon"},
        {"label": "_background_", "points": [[3.0, 3.0], [5.0, 5.0]], "shape_type": "rectangle"},
        {"label": "bus", "points": circle, "shape_type": "circle"},
        {"label": "__ignore__", "points": [[15.0, 11.0], [13.0, 10.0]], "shape_type": "rectangle"},
    ]
    record = {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": 12, "imageWidth": 16}
    save(tmp_path / "train/a.jpg", np.full((12, 16), 7, np.uint8))
    (tmp_path / "train/a.json").write_text(json.dumps(record))
    data = open_segmentation(f"labelme:{tmp_path}", "train")
    assert data.classes.names == ("background", "bus", "car")
    expected = inside(np.array(triangle), (12, 16)) * np.uint8(2)
    expected[3:5, 3:5] = 0
    rows, columns = np.mgrid[:12, :16] + 0.5
    expected[np.hypot(columns - 10, rows - 6) < 2.99] = 1
    expected[10:11, 13:15] = IGNORE
    np.testing.assert_array_equal(data.read_mask(0), expected)
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ncar\nbus\nvan\n")
    assert open_segmentation(f"labelme:{tmp_path}", "train").classes.names == ("background", "car", "bus", "van")
    (tmp_path / "labels.txt").write_text("car\n")
    with pytest.raises(UnipError, match="unknown label 'bus'"):
        open_segmentation(f"labelme:{tmp_path}", "train").read_mask(0)
    with pytest.raises(UnipError, match="no LabelMe files") as caught:
        open_segmentation(f"labelme:{tmp_path}", "val")
    assert "train" in caught.value.fix


@pytest.mark.parametrize("turned", [False, True])
def test_yolo(tmp_path: Path, turned: bool) -> None:
    images, labels = ("train/images", "train/labels") if turned else ("images/train", "labels/train")
    for name in ("a", "b"):
        save(tmp_path / images / f"{name}.jpg", np.full((10, 20), 7, np.uint8))
    (tmp_path / labels).mkdir(parents=True)
    (tmp_path / labels / "b.txt").touch()
    (tmp_path / labels / "a.txt").write_text("1 0.2 0.2 0.3 0.2 0.3 0.5\n0 0.1 0.1 0.9 0.1 0.9 0.8 0.1 0.8\n")
    (tmp_path / "data.yaml").write_text("names: {0: person, 1: car}\n" if turned else "names: [person, car]\n")
    data = open_segmentation(f"yolo-seg:{tmp_path}", "train")
    expected = np.zeros((10, 20), np.uint8)
    expected[1:8, 2:18] = 1
    expected[inside(np.array([[4.0, 2], [6, 2], [6, 5]]), (10, 20))] = 2
    np.testing.assert_array_equal(data.read_mask(0), expected)
    assert not data.read_mask(1).any() and data.classes.names == ("background", "person", "car")
    assert list_splits(f"yolo-seg:{tmp_path}") == ["train"]
    for line, message in (
        ("0 .5 .5 .1 .1", "a box, not a polygon"),
        ("7 0 0 1 0 1 1", "unknown class 7"),
        ("x", "not"),
    ):
        (tmp_path / labels / "a.txt").write_text(line)
        with pytest.raises(UnipError, match=message):
            data.read_mask(0)


# all of them


def test_byte_order_marks_and_backslashes(tmp_path: Path) -> None:
    def mark(path: Path) -> None:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    source = coco(tmp_path / "coco", [{"category_id": 2, "segmentation": [[1, 1, 15, 1, 15, 10]]}])
    before = open_segmentation(source, "train").read_mask(0)
    path = tmp_path / "coco/annotations/instances_train.json"
    record = json.loads(path.read_text())
    record["images"][0]["file_name"] = "day\\a.png"
    path.write_text(json.dumps(record))
    mark(path)
    save(tmp_path / "coco/images/train/day/a.png", np.full((12, 16), 5, np.uint8))
    np.testing.assert_array_equal(open_segmentation(source, "train").read_mask(0), before)

    save(tmp_path / "labelme/a.png", grey())
    shape = {"label": "car", "points": [[1, 1], [6, 1], [6, 5]], "shape_type": "polygon"}
    (tmp_path / "labelme/a.json").write_text(json.dumps({"shapes": [shape], "imagePath": ".\\a.png"}))
    (tmp_path / "labelme/labels.txt").write_text("car\n")
    for path in (tmp_path / "labelme/a.json", tmp_path / "labelme/labels.txt"):
        mark(path)
    assert open_segmentation(f"labelme:{tmp_path / 'labelme'}").read_mask(0).max() == 1

    save(tmp_path / "yolo/images/a.png", grey())
    (tmp_path / "yolo/labels").mkdir()
    (tmp_path / "yolo/labels/a.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (tmp_path / "yolo/data.yaml").write_text("names: [car]\npath: C:\\sets\n")
    for path in (tmp_path / "yolo/labels/a.txt", tmp_path / "yolo/data.yaml"):
        mark(path)
    assert open_segmentation(f"yolo-seg:{tmp_path / 'yolo'}").read_mask(0).max() == 1

    save(tmp_path / "soda/JPEGImages/day/a.jpg", grey())
    save(tmp_path / "soda/SegmentationClassPNG/day/a.png", ids(0, 20))
    (tmp_path / "soda/train_infrared.txt").write_text("day\\a.jpg\r\n")
    mark(tmp_path / "soda/train_infrared.txt")
    assert open_segmentation(f"soda:{tmp_path / 'soda'}", "train").read_mask(0).max() == 20


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != "folder"])
def test_wrong_folders_say_what_was_expected(tmp_path: Path, kind: str) -> None:
    for root in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UnipError) as caught:
            open_segmentation(f"{kind}:{root}", "train")
        assert str(tmp_path) in str(caught.value) and caught.value.fix
    assert list_splits(f"{kind}:{tmp_path}") == []


def test_kinds(tmp_path: Path) -> None:
    assert split_kind("plain/folder") == ("folder", Path("plain/folder"))
    assert split_kind(r"C:\data\set") == ("folder", Path(r"C:\data\set"))
    assert split_kind(Path("soda:/data/SODA")) == ("soda", Path("/data/SODA"))
    with pytest.raises(UnipError, match="unknown kind of segmentation data 'mfnt'") as caught:
        split_kind("mfnt:/data")
    assert "Did you mean mfnet:/data?" in caught.value.fix
    assert len(SODA.classes.names) == 21


def test_sizes_and_ids_are_checked_in_every_layout(tmp_path: Path) -> None:
    save(tmp_path / "JPEGImages/a.jpg", grey())
    save(tmp_path / "JPEGImages/b.jpg", grey()[:, :4])
    save(tmp_path / "SegmentationClassPNG/a.png", ids(0, 21))
    save(tmp_path / "SegmentationClassPNG/b.png", ids(0))
    (tmp_path / "train_infrared.txt").write_text("a.jpg\nb.jpg\n")
    with pytest.raises(UnipError, match=r"(?s)2 of 2 pairs are bad:.*unknown id 21.*8x6 but its image .* is 4x6"):
        check_segmentation(open_segmentation(f"soda:{tmp_path}", "train"))


@pytest.mark.parametrize("seed", range(4))
def test_polygons_are_filled_where_centres_lie_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-4, 24, (rng.integers(3, 9), 2))
    mask = np.zeros((16, 20), np.uint8)
    draw_polygon(mask, points, 3)
    np.testing.assert_array_equal(mask, 3 * inside(points, (16, 20)))
    np.testing.assert_allclose(box_corners(5, 5, 4, 2, 0.0), [[3, 4], [7, 4], [7, 6], [3, 6]])


def test_every_kind_of_the_help_has_a_reader() -> None:
    assert list(get_args(KindName)) == list(READERS)
