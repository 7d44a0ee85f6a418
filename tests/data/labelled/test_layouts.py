"""Usual layouts of plain folders are read without rearranging, to equal masks; what is unclear is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from unip.data.labelled.binary_masks import JpegMask
from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.data.labelled.settings import Places
from unip.data.statistics import stats
from unip.errors import UnipError

SIZE = (32, 48)
NAMES = ["background", "person", "car"]
BOM = b"\xef\xbb\xbf"


def truth(number: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[4:20, number : number + 12] = 1
    mask[10:30, 20 + number : 40] = 2
    return mask


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def image(path: Path) -> None:
    save(path, np.full(SIZE, 90, np.uint8))


def describe(root: Path, names: list[str] | None = None) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.json").write_bytes(BOM + json.dumps({"names": names or NAMES}).encode())


def fill(root: Path, images: str, masks: str, *, classes: bool = True) -> None:
    """Write two pairs; ``{}`` stands for their names."""
    for number in (0, 1):
        image(root / images.format(number))
        save(root / masks.format(number), truth(number))
    if classes:
        describe(root)


def by_class(root: Path) -> None:
    for number in (0, 1):
        image(root / f"train/images/{number}.jpg")
        for class_id, name in ((1, "person"), (2, "car")):
            plane = np.where(truth(number) == class_id, 255, 0).astype(np.uint8)
            # what lies below a smaller object belongs to both
            save(root / f"train/masks/{name}/{number}.png", plane)


def in_class_folders(images: str, masks: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for number in (0, 1):
            image(root / images.format(number))
            for class_id, name in ((1, "person"), (2, "car")):
                save(root / masks.format(name, number), np.where(truth(number) == class_id, 255, 0).astype(np.uint8))

    return write


def voc(root: Path) -> None:
    fill(root, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    fill(root, "JPEGImages/other{}.jpg", "SegmentationClass/other{}.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_bytes(BOM + b"0\r\n1.jpg\r\n")


def unlabelled(root: Path) -> None:
    fill(root, "train/images/{}.jpg", "train/masks/{}.png")
    image(root / "train/images/extra.jpg")


def split(images: str, masks: str) -> Callable[[Path], None]:
    return lambda root: fill(root, images, masks)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "documented": split("train/images/{}.png", "train/masks/{}.png"),
    "kind first": split("images/train/{}.png", "masks/train/{}.png"),
    "labels": split("train/images/{}.png", "train/labels/{}.png"),
    "labels, kind first": split("images/train/{}.jpg", "labels/train/{}.png"),
    "annotations": split("images/train/{}.jpg", "annotations/train/{}.png"),
    "gt": split("train/images/{}.jpg", "train/gt/{}.png"),
    "capitals": split("train/Images/{}.JPG", "train/Masks/{}.PNG"),
    "VOC folders": split("train/JPEGImages/{}.jpg", "train/SegmentationClass/{}.png"),
    "VOC": voc,
    "_mask": split("train/images/{}.jpg", "train/masks/{}_mask.png"),
    "_label": split("train/images/{}.jpg", "train/labels/{}_label.png"),
    "_labels": split("train/images/{}.jpg", "train/labels/{}_labels.png"),
    "_gt": split("images/train/a{}.jpg", "gt/train/a{}_gt.png"),
    "-mask": split("train/images/{}.jpg", "train/masks/{}-mask.png"),
    "_Seg": split("train/images/a{}.jpg", "train/masks/a{}_Seg.png"),
    "TIFF": split("train/images/{}.png", "train/masks/{}.tif"),
    "BMP": split("train/images/{}.png", "train/masks/{}.bmp"),
    "subfolders": split("train/images/day/{}.png", "train/masks/day/{}.png"),
    "images beside masks": split("train/{}.jpg", "train/masks/{}.png"),
    "masks among images": split("train/{}.jpg", "train/{}_mask.png"),
    "masks among images, in images": split("train/images/{}.jpg", "train/images/{}_mask.png"),
    "a folder for each class": by_class,
    "class folders beside images": in_class_folders("train/images/{}.jpg", "train/{}/{}.png"),
    "class folders among images": in_class_folders("train/{}.jpg", "train/{}/{}.png"),
    "class folders, kind first": in_class_folders("images/train/{}.jpg", "{}/train/{}.png"),
    "class folders in masks, kind first": in_class_folders("images/train/{}.jpg", "masks/{}/train/{}.png"),
    "unlabelled frames": unlabelled,
    "previews": lambda root: (
        fill(root, "train/images/{}.jpg", "train/masks/{}.png"),
        fill(root, "train/images/{}.jpg", "train/masks/{}_color.png"),
    )[0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_usual_layouts(tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture) -> None:
    LAYOUTS[layout](tmp_path)
    assert list_splits(tmp_path) == ["train"]
    with caplog.at_level("INFO"):
        data = open_segmentation(tmp_path, "train")
        again = open_segmentation(tmp_path, "train")
    assert again == data and len(data) == 2 and set(data.classes.names) == set(NAMES)
    to_truth = np.array([NAMES.index(name) for name in data.classes.names], np.uint8)
    for number in (0, 1):
        np.testing.assert_array_equal(to_truth[data.read(number).mask], truth(number))
    said = [record.getMessage() for record in caplog.records if "masks in" in record.getMessage()]
    assert len(said) == (0 if layout in ("documented", "subfolders", "unlabelled frames", "previews") else 1)
    if said:
        assert said[0].count(" - ") == 2 and "--mask-suffix" in said[0]
    if layout == "previews":
        assert "begins like that of an image: 2 files in train/masks, the first: 0_color.png" in caplog.text
    if layout == "unlabelled frames":
        assert "1 of 3 images have no mask and are left out: train/images/extra.jpg" in caplog.text


@pytest.mark.parametrize(
    ("images", "masks"), [("{}.jpg", "masks/{}.png"), ("{}.jpg", "{}_mask.png"), ("images/{}.jpg", "gt/{}.png")]
)
def test_without_splits(tmp_path: Path, images: str, masks: str) -> None:
    fill(tmp_path, images, masks)
    assert list_splits(tmp_path) == []
    data = open_segmentation(tmp_path)
    np.testing.assert_array_equal(data.read_mask(1), truth(1))
    with pytest.raises(UnipError) as caught:
        open_segmentation(tmp_path, "train")
    assert '--split ""' in caught.value.fix


@pytest.mark.parametrize(
    ("images", "masks", "places"),
    [
        ("thermal/train/{}.png", "truth/train/{}.png", Places("thermal", "truth")),
        ("train/thermal/{}.png", "train/truth/{}-semantic.png", Places("thermal", "truth", "-semantic")),
        ("train/images/{}.png", "train/truth/{}.png", Places(masks="truth")),
        ("ir_train/{}.png", "gt_train/{}_S.png", Places("ir_{split}", "gt_{split}", "_S.png")),
        ("train/{}.png", "train/{}_S.png", Places(".", ".", "_S")),
    ],
)
def test_places_can_be_given(tmp_path: Path, images: str, masks: str, places: Places) -> None:
    fill(tmp_path, images, masks)
    data = open_segmentation(tmp_path, "train", places=places)
    assert len(data) == 2
    np.testing.assert_array_equal(data.read_mask(1), truth(1))
    if "{split}" not in str(places.images):
        assert list_splits(tmp_path, places) == ["train"]


@pytest.mark.parametrize("masks", ["annotations/masks", "a/b/masks", "a/images/masks", "thermal/masks"])
def test_a_folder_above_given_places_is_no_split(tmp_path: Path, masks: str) -> None:
    fill(tmp_path, "thermal/{}.png", f"{masks}/{{}}.png")
    given = Places("thermal", masks)
    assert list_splits(tmp_path, given) == []
    assert len(open_segmentation(tmp_path, places=given)) == 2
    assert '--split ""' in refused(tmp_path, "no such folder", given)


def test_given_places_are_searched_alone(tmp_path: Path) -> None:
    fill(tmp_path, "train/images/{}.png", "train/masks/{}.png")
    with pytest.raises(UnipError, match="--images thermal: no such folder") as caught:
        open_segmentation(tmp_path, "train", places=Places(images="thermal"))
    assert "thermal/train or " in caught.value.fix and "{split}" in caught.value.fix
    with pytest.raises(UnipError, match="images, masks and mask_suffix say where a plain folder has them, but soda"):
        open_segmentation(f"soda:{tmp_path}", "train", places=Places(mask_suffix=""))


def refused(root: Path, what: str, places: Places = Places()) -> str:  # noqa: B008
    with pytest.raises(UnipError, match=what) as caught:
        open_segmentation(root, "train", places=places)
    return str(caught.value.fix)


@pytest.mark.parametrize("suffix", ["_pixels0", "-fuse", ".labels", "_a_b"])
def test_the_suffix_that_fits_is_named(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, "train/images/frame_{}.png", f"train/masks/frame_{{}}{suffix}.png")
    fix = refused(tmp_path, "no image has a mask")
    assert f"2 masks are named like an image and {suffix!r}: give --mask-suffix={suffix}." in fix
    assert len(open_segmentation(tmp_path, "train", places=Places(mask_suffix=suffix))) == 2


@pytest.mark.parametrize(("image", "mask"), [("img_{}", "mask_{}"), ("{}_as_leg", "{}_seg_leg"), ("{}_B7", "{}_mask")])
def test_names_that_no_suffix_pairs_have_to_be_changed(tmp_path: Path, image: str, mask: str) -> None:
    fill(tmp_path, f"train/images/{image}.png", f"train/masks/{mask}.png")
    assert "rename the masks" in refused(tmp_path, "no image has a mask")


def test_two_candidates_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", "train/images/{}.jpg", "train/labels/{}.png")
    fill(tmp_path / "a", "train/images/{}.jpg", "train/gt/{}.png")
    assert "--masks FOLDER" in refused(tmp_path / "a", r"train/labels and .*train/gt both hold masks that make pairs")
    assert len(open_segmentation(tmp_path / "a", "train", places=Places(masks="gt"))) == 2
    fill(tmp_path / "b", "train/images/{}.jpg", "masks/train/{}.png")
    fill(tmp_path / "b", "images/train/{}.jpg", "masks/train/{}.png")
    what = r"images/train and .*train/images both hold images that make pairs"
    assert "--images FOLDER" in refused(tmp_path / "b", what)
    assert len(open_segmentation(tmp_path / "b", "train", places=Places(images="images/{split}"))) == 2
    fill(tmp_path / "c", "train/images/{}.jpg", "train/labels/{}_gt.png")
    save(tmp_path / "c/train/labels/1_mask.png", truth(0))
    what = r"in several ways, with the suffixes '_gt' \(2 masks\) and '_mask' \(1 masks\)"
    assert "--mask-suffix _gt" in refused(tmp_path / "c", what)
    assert len(open_segmentation(tmp_path / "c", "train", places=Places(mask_suffix="_gt"))) == 2
    fill(tmp_path / "d", "train/images/{}.jpg", "train/masks/{}.tif")
    save(tmp_path / "d/train/masks/1.bmp", truth(1))
    refused(tmp_path / "d", r"may both be the mask of 1")


def test_masks_without_image_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/images/{}.jpg", "train/masks/{}.png")
    save(tmp_path / "train/masks/7.png", truth(0))
    assert "images/7.*" in refused(tmp_path, r"1 mask has no image, the first: .*masks/7\.png")
    fill(tmp_path / "flat", "train/{}.jpg", "train/{}_mask.png")
    save(tmp_path / "flat/train/7_mask.png", truth(0))
    refused(tmp_path / "flat", r"1 mask has no image, the first: .*train/7_mask\.png")


def test_other_names_and_files_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "a", "train/images/{}.jpg", "train/labels/m{}x.png")
    fix = refused(tmp_path / "a", r"none of 2 in .*images has one in .*labels, where a mask is called m0x")
    assert "--mask-suffix" in fix
    for ending, kind in (("txt", "yolo-seg:"), ("xml", "cvat:"), ("npy", "PNG")):
        root = tmp_path / ending
        fill(root, "train/images/{}.jpg", "gone/{}.png")
        (root / "train/labels").mkdir()
        (root / f"train/labels/0.{ending}").write_text("")
        assert kind in refused(root, f"labels holds no masks, but files such as 0.{ending}")
    voc(tmp_path / "voc")
    (tmp_path / "voc/ImageSets/Segmentation/train.txt").write_text("gone\n")
    refused(tmp_path / "voc", "names gone, but there is no image of that name")


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    by_class(tmp_path)
    data = open_segmentation(tmp_path, "train")
    assert data.classes.names == ("background", "car", "person")
    plane = np.zeros(SIZE, np.uint8)
    plane[12:14, 30:32] = 1  # a small one on a car
    save(tmp_path / "train/masks/person/0.png", plane)
    (tmp_path / "train/masks/person/1.png").unlink()  # no person there
    data = open_segmentation(tmp_path, "train")
    assert (data.read_mask(0)[12:14, 30:32] == 2).all() and set(np.unique(data.read_mask(1))) == {0, 1}
    save(tmp_path / "train/masks/car/0.png", truth(0))
    with pytest.raises(UnipError, match=r"car/0\.png is not binary: it holds 0, 1, 2"):
        data.read_mask(0)
    save(tmp_path / "train/masks/car/0.png", plane[:-1])
    with pytest.raises(UnipError, match=r"is 48x31 but that of another class, .* is 48x31|is 48x32 but that"):
        data.read_mask(0)
    describe(tmp_path, ["background", "person"])
    refused(tmp_path, "does not name 'car'")
    describe(tmp_path, ["car", "person", "background"])
    data = open_segmentation(tmp_path, "train")
    assert data.read_mask(1)[0, 0] == 2 and set(np.unique(data.read_mask(1))) == {0, 2}


@pytest.mark.parametrize("images", ["images/{}.jpg", "{}.jpg"])
def test_class_folders_without_splits(tmp_path: Path, images: str) -> None:
    in_class_folders(images, "{}/{}.png")(tmp_path)
    data = open_segmentation(tmp_path, "")
    assert data.classes.names == ("background", "car", "person") and list_splits(tmp_path) == []
    np.testing.assert_array_equal(data.read_mask(1), np.array([0, 2, 1], np.uint8)[truth(1)])


@pytest.mark.parametrize("masks", ["train/masks/{}/{}.png", "train/{}/{}.png"])
def test_classes_without_a_file_are_counted(tmp_path: Path, masks: str, caplog: pytest.LogCaptureFixture) -> None:
    in_class_folders("train/images/{}.jpg", masks)(tmp_path)
    with caplog.at_level("INFO"):
        open_segmentation(tmp_path, "train")
    assert "without a file" not in caplog.text
    (tmp_path / masks.format("person", 1)).unlink()
    with caplog.at_level("INFO"):
        data = open_segmentation(tmp_path, "train")
    assert not (data.read_mask(1) == 2).any() and (data.read_mask(0) == 2).any()
    assert "a class without a file is not in the image: person in 1 of 2 (such as train/images/1.jpg)" in caplog.text


@pytest.mark.parametrize("name", ["labels.txt", "class_names.txt", "classes.txt"])
@pytest.mark.parametrize("first", ["background", "_background_", "__ignore__\n_background_"])
def test_names_in_a_list(tmp_path: Path, name: str, first: str, caplog: pytest.LogCaptureFixture) -> None:
    voc(tmp_path)
    (tmp_path / "classes.json").unlink()
    (tmp_path / name).write_text("\n".join([first, "person", "car", ""]))
    mask = truth(0)
    mask[0] = 255
    save(tmp_path / "SegmentationClass/0.png", mask)
    with caplog.at_level("INFO"):
        data = open_segmentation(tmp_path, "train")
    assert data.classes.names == ("background", "person", "car")
    np.testing.assert_array_equal(data.read_mask(0), mask)
    assert f"{name}: 0 background, 1 person, 2 car; 255 has no label" in caplog.text
    describe(tmp_path, ["ground", "human", "vehicle"])
    assert open_segmentation(tmp_path, "train").classes.names == ("ground", "human", "vehicle")


def test_names_in_a_list_that_leave_the_ids_open(tmp_path: Path) -> None:
    fill(tmp_path, "train/images/{}.jpg", "train/masks/{}.png", classes=False)
    (tmp_path / "labels.txt").write_text("person\ncar\n")
    fix = refused(tmp_path, r"labels.txt is a list of names, .* whether the masks hold 0 or 1 for 'person'")
    assert "classes.json" in fix
    (tmp_path / "labels.txt").write_text("background\nignore\nperson\ncar\n")
    refused(tmp_path, "with 'ignore' among the classes, so their ids are unclear")
    (tmp_path / "labels.txt").write_text("background\nperson\nperson\n")
    refused(tmp_path, "labels.txt: classes: the name 'person' appears twice")
    (tmp_path / "labels.txt").write_text("\n")
    refused(tmp_path, "the first is no background")
    (tmp_path / "labels.txt").unlink()
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nperson:1,1,1::\ncar:2,2,2::\n")
    assert f"colours:{tmp_path}" in refused(tmp_path, "no classes.json, but .*labelmap.txt, which names colours")


def test_two_names_in_a_list_and_masks_of_0_and_255_stay_in_doubt(tmp_path: Path) -> None:
    image(tmp_path / "train/images/0.png")
    save(tmp_path / "train/masks/0.png", np.where(truth(0) == 1, 255, 0).astype(np.uint8))
    (tmp_path / "labels.txt").write_text("background\nperson\n")
    with pytest.raises(UnipError, match="hold two values alone"):
        stats(data=tmp_path)


def test_other_pictures_beside_images_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path, "train/images/{}.jpg", "gone/{}.png")
    for number in (0, 1):
        save(tmp_path / f"train/visible/{number}.png", np.arange(32 * 48, dtype=np.uint8).reshape(SIZE))
    refused(tmp_path, "train is not a segmentation folder")
    in_class_folders("train/images/{}.jpg", "train/{}/{}.png")(tmp_path)
    fix = refused(tmp_path, r"a folder of masks for car, person, but not all .*visible/0\.png is not binary")
    assert "into a folder masks" in fix
    save(tmp_path / "train/car/7.png", np.zeros(SIZE, np.uint8))
    (tmp_path / "train/visible").rename(tmp_path / "visible")
    refused(tmp_path, r"1 mask has no image, the first: .*car/7\.png")


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_binary_jpeg(tmp_path: Path, quality: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(quality)
    rows, columns = np.mgrid[:120, :160]
    for _ in range(8):
        row, column, radius = rng.integers(10, 100, 3)
        mask = np.hypot(rows - row, columns - column) < max(3, radius // 3)
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(tmp_path / "m.jpg", quality=quality)
        found = JpegMask(tmp_path / "m.jpg").read() == 255
        assert (found != mask).sum() <= 0.02 * mask.sum() + 2
    empty = np.zeros((40, 40), np.uint8)
    save(tmp_path / "empty.jpg", empty)
    assert not JpegMask(tmp_path / "empty.jpg").read().any()
    for number in (0, 1):
        image(tmp_path / f"train/images/{number}.png")
        save(tmp_path / f"train/masks/{number}.jpg", (truth(number) == 1) * np.uint8(255))
    describe(tmp_path, ["background", "person"])
    with caplog.at_level("INFO"):
        data = open_segmentation(tmp_path, "train", remap=["255=person"])
    assert "masks are JPEG, read as binary: 128 and above count as 255" in caplog.text
    assert (data.read_mask(1) != (truth(1) == 1)).mean() < 0.02


@pytest.mark.parametrize("levels", [(0, 1, 2), (0, 20), (0, 128, 255), (0, 60, 120, 255), (0, 100), (0, 180)])
def test_jpeg_of_more_levels_is_refused(tmp_path: Path, levels: tuple[int, ...]) -> None:
    mask = np.repeat(np.array(levels, np.uint8), 24)[None].repeat(40, axis=0)
    save(tmp_path / "m.jpg", mask)
    with pytest.raises(UnipError, match=r"m\.jpg is JPEG and not black and white"):
        JpegMask(tmp_path / "m.jpg").read()


def shapes(size: tuple[int, int], count: int, seed: int, least: int = 2) -> np.ndarray:
    """White ellipses, boxes and lines on black."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(count):
        y, x, radius, ratio = rng.integers(size[0]), rng.integers(size[1]), rng.integers(least, 30), rng.uniform(0.4, 1)
        if rng.integers(3) or least > 2:
            mask |= np.hypot(rows - y, (columns - x) / ratio) < radius
        elif rng.integers(2):
            mask |= (abs(rows - y) < radius) & (abs(columns - x) < radius * ratio)
        else:
            mask |= abs((rows - y) * ratio - (columns - x) * 0.7) < rng.uniform(0.5, 3)
    return np.where(mask, 255, 0).astype(np.uint8)


def soften(mask: np.ndarray, how: str) -> np.ndarray:
    picture = Image.fromarray(mask)
    if how == "half":
        small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BILINEAR)
        return np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5))) if how == "blurred" else mask


@pytest.mark.parametrize("quality", [15, 30, 50, 75, 95])
@pytest.mark.parametrize("how", ["hard", "half", "blurred"])
def test_binary_jpeg_of_any_shape_and_quality_is_read(tmp_path: Path, how: str, quality: int) -> None:
    for seed, count in enumerate((3, 12, 40)):
        mask = shapes((240, 320), count, seed, least=2 if how == "hard" else 8)
        Image.fromarray(soften(mask, how)).save(tmp_path / "m.jpg", quality=quality)
        found = JpegMask(tmp_path / "m.jpg").read()
        assert (found != mask).mean() < 0.02


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("level", [24, 60, 85, 100, 128, 150, 170, 200, 230])
@pytest.mark.parametrize("ground", [0, 255])
def test_a_small_third_level_is_refused_with_its_value(tmp_path: Path, level: int, quality: int, ground: int) -> None:
    """Three classes saved as JPEG, the third a small part of the mask: thresholds would make it one of the others."""
    side = 12 if quality >= 75 and 32 < level < 223 else 24  # pixels; what is fainter or coarser has to be larger
    for seed in range(3):
        mask = shapes((240, 320), 6, seed)
        row, column = np.random.default_rng(seed).integers(30, 190, 2)
        mask[row - 6 : row + side + 6, column - 6 : column + side + 6] = ground
        mask[row : row + side, column : column + side] = level
        Image.fromarray(mask).save(tmp_path / "m.jpg", quality=quality)
        with pytest.raises(
            UnipError, match=r"m\.jpg is JPEG and not black and white: it holds values such as \d+"
        ) as caught:
            JpegMask(tmp_path / "m.jpg").read()
        assert abs(int(caught.value.what.rsplit(" ", 1)[1]) - level) <= 12


def test_a_third_level_more_frequent_than_the_second_is_refused(tmp_path: Path) -> None:
    mask = np.zeros((240, 320), np.uint8)
    mask[20:160, 20:200], mask[200:212, 280:292] = 128, 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=90)
    with pytest.raises(UnipError, match="not black and white: it holds values such as 128"):
        JpegMask(tmp_path / "m.jpg").read()


def test_jpeg_masks_of_video_levels_are_binary(tmp_path: Path) -> None:
    mask = shapes((120, 160), 6, 0)
    Image.fromarray(np.where(mask > 0, 235, 16).astype(np.uint8)).save(tmp_path / "m.jpg", quality=75)
    assert (JpegMask(tmp_path / "m.jpg").read() != mask).mean() < 0.01
