"""Binary masks that were saved with colour channels are the grey binary masks that they are; other colours are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.datasets import check_segmentation, open_segmentation
from unip.data.labelled.masks import MaskFile
from unip.errors import UnipError

SIZE = (8, 12)
OBJECT = np.zeros(SIZE, np.uint8)
OBJECT[2:5, 3:9] = 1
OPAQUE = np.full(SIZE, 255, np.uint8)


def bands(*channels: np.ndarray) -> np.ndarray:
    return np.stack(channels, axis=-1)


def write(root: Path, *masks: np.ndarray, folder: str = "train/masks", suffix: str = ".png", **classes: object) -> Path:
    for number, mask in enumerate(masks):
        for path, pixels in ((f"train/images/{number}.png", OBJECT + 90), (f"{folder}/{number}{suffix}", mask)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)
    if classes:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


WHITE = OBJECT * np.uint8(255)
SAVED = {
    "RGB": bands(WHITE, WHITE, WHITE),
    "RGBA": bands(WHITE, WHITE, WHITE, OPAQUE),
    "RGBA, clear ground": bands(WHITE, WHITE, WHITE, WHITE),
    "LA": bands(WHITE, OPAQUE),
    "RGB of 0 and 1": bands(OBJECT, OBJECT, OBJECT),
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("saved", SAVED)
def test_they_are_read_as_grey_ones(tmp_path, saved, suffix, caplog) -> None:
    if suffix == ".bmp" and "A" in saved:
        pytest.skip("a BMP without alpha")
    empty = SAVED[saved] * np.uint8(0)
    names = ["background", "person"]
    root = write(tmp_path, SAVED[saved], empty, suffix=suffix, names=names)
    with caplog.at_level("INFO"):
        data = open_segmentation(root, "train")
        check_segmentation(data)
        np.testing.assert_array_equal(data.read_mask(0), OBJECT)
        assert not data.read_mask(1).any()
    assert sum("saved in colour" in text for text in caplog.messages) == 1


def test_a_folder_for_each_class(tmp_path, caplog) -> None:
    write(tmp_path, SAVED["RGB"], SAVED["RGB"], folder="train/masks/person")
    with caplog.at_level("INFO"):
        data = open_segmentation(tmp_path, "train")
        np.testing.assert_array_equal(data.read_mask(1), OBJECT)
    assert "saved in colour (RGB)" in caplog.text


def test_what_255_means_is_asked_as_for_grey_masks(tmp_path) -> None:
    root = write(tmp_path, SAVED["RGB"], names=["background", "person"], ignore_index=255)
    assert set(np.unique(open_segmentation(root, "train").read_mask(0))) == {0, 255}
    np.testing.assert_array_equal(open_segmentation(root, "train", remap=["255=person"]).read_mask(0), OBJECT)


@pytest.mark.parametrize(
    "mask",
    [
        bands(WHITE, WHITE * 0, WHITE * 0),  # red
        bands(OPAQUE - WHITE, WHITE, WHITE),
        bands(WHITE // 2, WHITE // 2, WHITE // 2),  # grey, of no known meaning
        bands(WHITE + OBJECT[::-1], WHITE + OBJECT[::-1], WHITE + OBJECT[::-1]),  # 0, 1 and 255
        bands(OPAQUE, OPAQUE, OPAQUE, WHITE),  # the mask is in alpha alone
        bands(WHITE, WHITE, WHITE, OPAQUE - WHITE),
    ],
)
def test_other_colours_are_refused_as_before(tmp_path, mask) -> None:
    root = write(tmp_path, mask, names=["background", "person"])
    Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(UnipError, match=r"has the colour mode RGBA?, not one channel"):
        MaskFile(tmp_path / "m.png").read()
    with pytest.raises(UnipError, match=r"has the colour mode RGBA?, not one channel"):
        open_segmentation(root, "train").read_mask(0)


def test_real_colours_stay_colours(tmp_path) -> None:
    palette = [[0, 0, 0], [255, 255, 255], [255, 0, 0]]
    root = write(tmp_path, SAVED["RGB"], names=["background", "person", "car"], palette=palette)
    np.testing.assert_array_equal(open_segmentation(f"colours:{root}", "train").read_mask(0), OBJECT)
