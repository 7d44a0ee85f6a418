"""Mask files of images with an EXIF orientation: on the object, or refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data import split, stats
from unip.data.images.orientation import as_stored, save_options
from unip.data.labelled import saying
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.settings import Places
from unip.errors import UnipError

WIDE, SQUARE = (32, 48), (40, 40)  # height and width as shown
FORMATS = ("mask.png", "mask.tif", "jpeg", "classes", "colours")


@pytest.fixture(autouse=True)
def _says_it_again() -> None:
    saying._log.cache_clear()


def warm_object(size: tuple[int, int]) -> np.ndarray:
    shown = np.full(size, 40, np.uint8)
    shown[4:14, 6:20] = 220
    return shown


def add_pair(
    root: Path, kind: str, orientation: int, drawn_on: str, size: tuple[int, int] = WIDE, own: int = 1, name: str = "a"
) -> None:
    """Write a frame that viewers turn by ``orientation`` and a mask of its object, on the shown or stored picture.

    With ``own`` the mask's file has an orientation, and viewers turn it to fit what it was drawn on.
    """
    shown = warm_object(size)
    stored = as_stored(shown, orientation)
    mask = (shown if drawn_on == "shown" else stored) > 100
    mask = as_stored(mask, own)
    for folder in ("images", "masks"):
        (root / "train" / folder).mkdir(parents=True, exist_ok=True)
    ending = "tif" if kind == "mask.tif" else "jpg"
    Image.fromarray(stored).save(
        root / f"train/images/{name}.{ending}",
        **save_options(orientation),
        **({"quality": 100} if ending == "jpg" else {}),
    )
    options = save_options(own)
    if kind == "jpeg":
        Image.fromarray(np.uint8(255) * mask).save(root / f"train/masks/{name}.jpg", quality=95, **options)
    elif kind == "classes":
        (root / "train/masks/warm").mkdir(exist_ok=True)
        Image.fromarray(np.uint8(255) * mask).save(root / f"train/masks/warm/{name}.png", **options)
    elif kind == "colours":
        colours = np.where(mask[..., None], np.uint8([200, 0, 0]), np.uint8([0, 0, 0]))
        Image.fromarray(colours).save(root / f"train/masks/{name}.png", **options)
    else:
        Image.fromarray(mask.astype(np.uint8)).save(root / f"train/masks/{name}{kind[4:]}", **options)
    described: dict[str, object] = {"names": ["background", "warm"], "palette": [[0, 0, 0], [200, 0, 0]]}
    (root / "classes.json").write_text(json.dumps(described))


def opened(root: Path, kind: str = "mask.png", **places: object):
    source = f"colours:{root}" if kind == "colours" else root
    return open_segmentation(source, "train", places=Places(**places))


def iou(data, index: int = 0) -> float:
    image, mask, *_ = data.read(index)
    truth = image > 128
    return float(((mask == 1) & truth).sum() / ((mask == 1) | truth).sum())


@pytest.mark.parametrize("drawn_on", ["shown", "stored"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_masks_lie_on_the_object_once_it_is_known_how(tmp_path, kind, orientation, drawn_on):
    add_pair(tmp_path, kind, orientation, drawn_on)
    assert iou(opened(tmp_path, kind, mask_orientation=drawn_on)) > 0.95
    if orientation < 5:
        with pytest.raises(UnipError, match="1 of 1 images have an EXIF orientation"):
            opened(tmp_path, kind)
        assert iou(opened(tmp_path, kind, mask_orientation="stored" if drawn_on == "shown" else "shown")) < 0.5
    else:
        assert iou(opened(tmp_path, kind)) > 0.95  # by size


@pytest.mark.parametrize("orientation", range(2, 9))
def test_square_frames_are_refused_with_the_file_the_count_and_the_option(tmp_path, orientation):
    add_pair(tmp_path, "mask.png", orientation, "shown", SQUARE)
    add_pair(tmp_path, "mask.png", orientation, "shown", SQUARE, name="b")
    add_pair(tmp_path, "mask.png", 1, "shown", SQUARE, name="c")
    with pytest.raises(UnipError, match=r"2 of 3 images .*a\.jpg \(orientation .*a\.png") as caught:
        opened(tmp_path)
    assert "--mask-orientation shown" in caught.value.fix and "--mask-orientation stored" in caught.value.fix
    data = opened(tmp_path, mask_orientation="shown")
    assert [iou(data, index) > 0.95 for index in range(3)] == [True] * 3


@pytest.mark.parametrize("drawn_on", ["shown", "stored"])
@pytest.mark.parametrize("own", range(2, 9))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_of_the_mask_is_followed(tmp_path, orientation, own, drawn_on):
    kind = "mask.tif" if own == 7 else "mask.png"  # Pillow turns the pixels of TIFFs and of no other format
    add_pair(tmp_path, kind, orientation, "shown", SQUARE, own=own)
    assert iou(opened(tmp_path, mask_orientation=drawn_on)) > 0.95  # whatever is given for those that do not say


def test_an_orientation_that_does_not_fit_the_size_is_none(tmp_path):
    add_pair(tmp_path, "mask.png", 1, "stored")
    path = tmp_path / "train/masks/a.png"
    Image.open(path).save(path, **save_options(6))
    assert iou(opened(tmp_path)) > 0.95


@pytest.mark.parametrize("drawn_on", ["shown", "stored"])
def test_sizes_of_other_frames_tell_it_too_and_it_is_said(tmp_path, caplog, drawn_on):
    caplog.set_level(logging.INFO, "unip")
    add_pair(tmp_path, "mask.png", 6, drawn_on, name="a")
    add_pair(tmp_path, "mask.png", 3, drawn_on, name="b")
    add_pair(tmp_path, "mask.png", 1, drawn_on, name="c")
    data = opened(tmp_path)
    opened(tmp_path)
    assert [iou(data, index) > 0.95 for index in range(3)] == [True] * 3
    said = [text for text in caplog.messages if "EXIF" in text]
    assert len(said) == 1 and "2 of 3 pairs" in said[0] and "--mask-orientation" in said[0]
    add_pair(tmp_path, "mask.png", 8, "stored" if drawn_on == "shown" else "shown", name="d")  # now they disagree
    with pytest.raises(UnipError, match="1 of 4 images"):
        opened(tmp_path)


def test_masks_of_classes_with_different_orientations_are_refused(tmp_path):
    add_pair(tmp_path, "classes", 3, "shown", own=3)
    (tmp_path / "train/masks/cold").mkdir()
    Image.new("L", WIDE[::-1]).save(tmp_path / "train/masks/cold/a.png")
    (tmp_path / "classes.json").unlink()
    with pytest.raises(UnipError, match="different EXIF orientations"):
        opened(tmp_path)


def test_a_damaged_file_is_told_of_as_ever(tmp_path):
    add_pair(tmp_path, "mask.png", 3, "shown")
    (tmp_path / "train/images/a.jpg").write_bytes(b"no image")
    with pytest.raises(UnipError, match=r"a\.jpg is not an image"):
        opened(tmp_path).read(0)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_split_is_read_back_without_a_question(tmp_path, orientation):
    for name in "abc":
        add_pair(tmp_path, "mask.png", orientation, "shown", SQUARE, name=name)
    for verb in (stats, split):
        with pytest.raises(UnipError, match="3 of 3 images have an EXIF orientation"):
            verb(data=tmp_path, out=tmp_path / "out") if verb is split else verb(data=tmp_path)
    split(data=tmp_path, out=tmp_path / "out", mask_orientation="shown", shares=(1.0, 0.0, 0.0))
    data = opened(tmp_path / "out")
    assert [iou(data, index) > 0.95 for index in range(3)] == [True] * 3
