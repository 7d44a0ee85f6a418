"""The classes that two models share: names, ids, and which pixels lose their label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.classes import Classes
from unip.data.labelled.common import share_classes
from unip.data.labelled.masks import MaskFile
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError


def make_data(folder: Path, names: tuple[str, ...]) -> SegmentationData:
    """One mask with a column of each class, then one without a label."""
    mask = np.array([[*range(len(names)), 255]], np.uint8)
    for name in ("image", "mask"):
        Image.fromarray(mask).save(folder / f"{name}.png")
    return SegmentationData((folder / "image.png",), (MaskFile(folder / "mask.png"),), Classes(names))


def share(data: SegmentationData, old: tuple[str, ...], new: tuple[str, ...], remap=()):
    return share_classes(data, {"OLD": Classes(old), "NEW": Classes(new)}, remap=remap, source="DATA")


def test_the_same_classes_in_another_order(tmp_path):
    found = share(make_data(tmp_path, ("a", "b", "c")), ("c", "a", "b"), ("b", "A", "c"))
    assert found.names == ("b", "A", "c") and found.left_out == {}
    assert found.ids == ((2, 1, 0), (0, 1, 2))
    masks = [data.read_mask(0).tolist()[0] for data in found.data]
    assert masks == [[1, 2, 0, 255], [1, 0, 2, 255]]
    assert [data.classes.names for data in found.data] == [("c", "a", "b"), ("b", "A", "c")]


def test_classes_of_one_model_have_no_label(tmp_path):
    found = share(make_data(tmp_path, ("bg", "x", "y", "z")), ("z", "x", "bg", "old"), ("bg", "y", "new", "z"))
    assert found.names == ("bg", "z") and found.ids == ((2, 0), (0, 3))
    assert found.left_out == {"x": ("OLD",), "old": ("OLD",), "y": ("NEW",), "new": ("NEW",)}
    masks = [data.read_mask(0).tolist()[0] for data in found.data]
    assert masks == [[2, 255, 255, 0, 255], [0, 255, 255, 3, 255]]


def test_a_class_that_the_data_gave_up_is_shared(tmp_path):
    found = share(make_data(tmp_path, ("a", "b")), ("bg", "a", "b"), ("bg", "b", "a"), remap=("bg=ignore",))
    assert found.names == ("bg", "b", "a")
    assert found.data[1].read_mask(0).tolist()[0] == [2, 1, 255]


@pytest.mark.parametrize(
    ("names", "old", "new", "said"),
    [
        (("bg", "a", "q"), ("bg", "a"), ("bg", "a", "b"), "DATA has q, which OLD does not know"),
        (("bg", "a"), ("bg", "a", "b"), ("bg", "a", "b", "c"), "OLD knows b, which DATA does not have"),
        (("background", "a"), ("background", "a"), ("background", "b"), "share no class but the background"),
        (("a",), ("a",), ("b",), r"share no class, .*OLD: a; NEW: b"),
        (("x",), ("x", "a"), ("a", "y"), "DATA has none of the classes"),
    ],
)
def test_what_does_not_fit_is_refused(names, old, new, said, tmp_path):
    with pytest.raises(UnipError, match=said):
        share(make_data(tmp_path, names), old, new)
