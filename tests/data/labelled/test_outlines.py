"""Outlines of every layout: on the pixels as stored, on the right background, and never lost outside."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from unip.data.images.orientation import ORIENTATION
from unip.data.labelled.classes import background_id
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.outlines import StoredPicture, check_inside, sizes_of_some
from unip.errors import UnipError

HEIGHT, WIDTH = 32, 48  # as shown
BOX = (6, 4, 20, 14)  # left, top, right, bottom of the object, as shown
CORNERS = [[6, 4], [20, 4], [20, 14], [6, 14]]


def save_shown(path: Path, shown: np.ndarray, orientation: int) -> Path:
    """Save a picture that viewers turn to ``shown``."""
    stored = Image.fromarray(shown)
    back = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    back |= {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    back |= {8: Image.Transpose.ROTATE_270}
    if orientation in back:
        stored = stored.transpose(back[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif, quality=100)
    np.testing.assert_allclose(np.asarray(ImageOps.exif_transpose(Image.open(path))), shown, atol=8)  # it is right
    return path


def warm_object() -> np.ndarray:
    shown = np.full((HEIGHT, WIDTH), 40, np.uint8)
    left, top, right, bottom = BOX
    shown[top:bottom, left:right] = 220
    return shown


def write_yolo(root: Path, orientation: int = 1, line: str | None = None) -> str:
    save_shown(root / "images/train/a.jpg", warm_object(), orientation)
    shares = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in CORNERS)
    (root / "labels/train").mkdir(parents=True, exist_ok=True)
    (root / "labels/train/a.txt").write_text(line or f"0 {shares}\n")
    (root / "data.yaml").write_text("names: [car]\n")
    return f"yolo-seg:{root}"


def write_labelme(root: Path, orientation: int = 1, size: tuple[int, int] | None = (HEIGHT, WIDTH), **more) -> str:
    save_shown(root / "train/a.jpg", warm_object(), orientation)
    shape = {"label": "car", "points": CORNERS, "shape_type": "polygon"} | more
    height, width = size or (None, None)
    record = {"shapes": [shape], "imagePath": "a.jpg", "imageHeight": height, "imageWidth": width}
    (root / "train/a.json").write_text(json.dumps(record))
    return f"labelme:{root}"


def write_coco(
    root: Path,
    orientation: int = 1,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    names: tuple[str, ...] = ("car",),
    objects: list[dict] | None = None,
) -> str:
    save_shown(root / "images/train/a.jpg", warm_object(), orientation)
    one = {"category_id": names.index("car"), "segmentation": [np.ravel(CORNERS).tolist()]}
    record = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": 1, **found} for i, found in enumerate(objects or [one])],
    }
    (root / "train.json").write_text(json.dumps(record))
    return f"coco:{root}"


WRITERS = {"yolo": write_yolo, "labelme": write_labelme, "coco": write_coco}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("layout", WRITERS)
def test_masks_fit_the_stored_pixels_whatever_the_exif_orientation(tmp_path, layout, orientation):
    data = open_segmentation(WRITERS[layout](tmp_path, orientation), "train")
    image, mask, *_ = data.read(0)
    assert image.shape == ((WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH))
    np.testing.assert_array_equal(mask == 1, image > 130)


@pytest.mark.parametrize("orientation", range(5, 9))
@pytest.mark.parametrize("layout", ["labelme", "coco"])
def test_a_size_that_is_the_stored_one_says_that_the_tool_did_not_turn(tmp_path, layout, orientation):
    # the tool showed the pixels as they are stored: width and height of the file are theirs
    data = open_segmentation(WRITERS[layout](tmp_path, orientation, size=(WIDTH, HEIGHT)), "train")
    _, mask, *_ = data.read(0)
    left, top, right, bottom = BOX
    expected = np.zeros((WIDTH, HEIGHT), bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(mask == 1, expected)


@pytest.mark.parametrize("layout", ["labelme", "coco"])
def test_outlines_for_a_picture_of_another_size_are_refused(tmp_path, layout):
    data = open_segmentation(WRITERS[layout](tmp_path, size=(2 * HEIGHT, 2 * WIDTH)), "train")
    with pytest.raises(UnipError, match="96x64 but its image"):
        data.read(0)


def test_as_stored_is_the_opposite_of_turning():
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 255, (5, 7), dtype=np.uint8)
    for orientation in range(1, 9):
        image = Image.fromarray(stored)
        image.getexif()[ORIENTATION] = orientation
        shown = np.asarray(ImageOps.exif_transpose(image))
        picture = StoredPicture(stored.shape, orientation)
        assert picture.shown == shown.shape
        np.testing.assert_array_equal(picture.as_stored(shown), stored)


@pytest.mark.parametrize("values", ["10 10 30 10 30 30", "20 20 60 20 60 60", "0.1 0.1 nan 0.1 0.3 0.3"])
def test_yolo_in_pixels_or_percent_names_file_and_line(tmp_path, values):
    data = open_segmentation(write_yolo(tmp_path, line=f"\n0 {values}\n"), "train")
    with pytest.raises(UnipError, match=r"a\.txt, line 2"):
        data.read_mask(0)


def test_yolo_slightly_over_the_border_is_cut(tmp_path):
    data = open_segmentation(write_yolo(tmp_path, line="0 -0.002 0 1.002 0 1.002 1.01 -0.002 1.01"), "train")
    assert (data.read_mask(0) == 1).all()


@pytest.mark.parametrize("layout", ["labelme", "coco"])
def test_outlines_outside_name_the_file(tmp_path, layout):
    far = [[100, 100], [120, 100], [120, 120]]
    if layout == "labelme":
        source, file = write_labelme(tmp_path, points=far), "a.json"
    else:
        objects = [{"category_id": 0, "segmentation": [np.ravel(far).tolist()]}]
        source, file = write_coco(tmp_path, objects=objects), "train.json"
    with pytest.raises(UnipError, match=rf"{file}.*100, 100 lies outside of the picture of 48x32"):
        open_segmentation(source, "train").read_mask(0)


@pytest.mark.parametrize("x", [-1.9, 49.9])
def test_a_small_tolerance(x):
    check_inside([[x, 5], [20, 5], [20, 9]], (HEIGHT, WIDTH), "file")
    with pytest.raises(UnipError, match="outside"):
        check_inside([[3 * x, 5], [20, 5], [20, 9]], (HEIGHT, WIDTH), "file")


@pytest.mark.parametrize("background", ["background", "Background", "_background_", "BACKGROUND "])
@pytest.mark.parametrize("place", [0, 1, 2, None])
def test_coco_background_in_any_place_and_case(tmp_path, background, place):
    names = ["animal", "car"]
    if place is not None:
        names.insert(place, background)
    data = open_segmentation(write_coco(tmp_path, names=tuple(names)), "train")
    mask = data.read_mask(0)
    assert data.classes.names == (background if place is not None else "background", "animal", "car")
    assert (mask == 2).sum() == 14 * 10 and (mask == 0).sum() == HEIGHT * WIDTH - 140


@pytest.mark.parametrize("names", [("background", "car"), ("car", "Background"), ("car", "tree", "background")])
def test_labelme_background_of_classes_json(tmp_path, names):
    source = write_labelme(tmp_path)
    (tmp_path / "classes.json").write_text(json.dumps({"names": names}))
    data = open_segmentation(source, "train")
    mask = data.read_mask(0)
    assert data.classes.names == names
    assert (mask == names.index("car")).sum() == 140
    assert (mask == background_id(names)).sum() == HEIGHT * WIDTH - 140


def test_labelme_needs_a_background(tmp_path):
    source = write_labelme(tmp_path)
    (tmp_path / "classes.json").write_text('{"names": ["road", "car"]}')
    with pytest.raises(UnipError, match="names no background") as caught:
        open_segmentation(source, "train")
    assert "remap background=ignore" in caught.value.fix


@pytest.mark.parametrize("label", ["Background", "_background_", "background"])
def test_labelme_shapes_of_background(tmp_path, label):
    data = open_segmentation(write_labelme(tmp_path, label=label), "train")
    assert data.classes.names == ("background",) and not data.read_mask(0).any()


def test_yolo_may_name_background(tmp_path):
    source = write_yolo(tmp_path)
    line = (tmp_path / "labels/train/a.txt").read_text()
    (tmp_path / "data.yaml").write_text("names: [person, Background, car]\n")
    (tmp_path / "labels/train/a.txt").write_text("2" + line[1:] + "1 0 0 0.5 0 0.5 1 0 1\n")
    data = open_segmentation(source, "train")
    assert data.classes.names == ("background", "person", "car")
    assert (data.read_mask(0) == 2).sum() == 140  # the larger outline, of background, lies below


def test_coco_draws_by_what_outlines_cover_not_by_area(tmp_path):
    square = [0, 0, 48, 0, 48, 32, 0, 32]
    objects = [
        {"category_id": 0, "area": 1e6, "segmentation": [np.ravel(CORNERS).tolist()]},
        {"category_id": 1, "area": 1, "segmentation": [square]},
    ]
    data = open_segmentation(write_coco(tmp_path, names=("car", "field"), objects=objects), "train")
    mask = data.read_mask(0)
    assert (mask == 1).sum() == 140 and (mask == 2).sum() == HEIGHT * WIDTH - 140


def test_labelme_without_sizes_takes_those_of_the_image(tmp_path):
    data = open_segmentation(write_labelme(tmp_path, orientation=6, size=None), "train")
    image, mask, *_ = data.read(0)
    np.testing.assert_array_equal(mask == 1, image > 130)


def test_labelme_masks_of_its_ai_tools(tmp_path):
    pixels = np.zeros((11, 15), np.uint8)
    pixels[:10, :14] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    encoded = base64.b64encode(file.getvalue()).decode()
    source = write_labelme(tmp_path, points=[[6.0, 4.0], [20.0, 14.0]], shape_type="mask", mask=encoded)
    image, mask, *_ = open_segmentation(source, "train").read(0)
    np.testing.assert_array_equal(mask == 1, image > 130)
    write_labelme(tmp_path, points=[[6.0, 4.0], [20.0, 14.0]], shape_type="mask", mask=encoded[:40])
    with pytest.raises(UnipError, match=r"a\.json: a shape of the kind mask is damaged"):
        open_segmentation(source, "train").read_mask(0)


def test_sizes_of_some_of_many(tmp_path):
    paths = [tmp_path / f"{number:02}.png" for number in range(20)]
    for number, path in enumerate(paths):
        Image.new("L", (30 + number, 20)).save(path)
    assert sizes_of_some(paths) == [(20, 30 + number) for number in range(0, 16, 2)]
    paths[4].write_bytes(b"no image")
    assert sizes_of_some(paths[:5]) == [(20, 30), (20, 31), (20, 32), (20, 33)]
    assert sizes_of_some([]) == []
