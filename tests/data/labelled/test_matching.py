"""Classes are matched by name: any order and spelling gives the model's ids, and what has no counterpart is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.binary import refuse_doubtful
from unip.data.labelled.classes import Classes
from unip.data.labelled.datasets import count_pixels, open_segmentation
from unip.data.labelled.matching import match_classes
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError

MODEL = Classes(("background", "person", "traffic cone"), palette=((0, 0, 0), (9, 9, 9), (7, 7, 7)))
TRUTH = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)


def opened(root: Path, names: list[str], mask: np.ndarray, *remap: str, **more: object) -> SegmentationData:
    for folder, pixels in (("images", np.zeros(mask.shape, np.uint8)), ("masks", mask)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / "a.png")
    (root / "classes.json").write_text(json.dumps({"names": names, **more}))
    return open_segmentation(root, remap=remap)


def matched(data: SegmentationData, *remap: str) -> SegmentationData:
    return match_classes(data, MODEL, remap=remap, model="MODEL", source="DATA")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(
    "names", [MODEL.names, ("Background", "PERSON", "Traffic_Cone"), ("_background_", "person", "trafficcone")]
)
def test_any_order_and_spelling(tmp_path, order, names) -> None:
    place = np.full(256, 255, np.uint8)
    place[list(order)] = np.arange(3)
    data = opened(tmp_path, [names[i] for i in order], place[TRUTH])
    found = matched(data)
    assert found.classes == MODEL or order == (0, 1, 2)
    np.testing.assert_array_equal(found.read_mask(0), TRUTH)


def test_equal_classes_are_left_as_they_are(tmp_path, caplog) -> None:
    data = opened(tmp_path, list(MODEL.names), TRUTH)
    with caplog.at_level("INFO"):
        assert matched(data) is data
    assert not caplog.messages


def test_it_is_said_once(tmp_path, caplog) -> None:
    data = opened(tmp_path, ["Traffic_cone", "background", "person"], TRUTH)
    with caplog.at_level("INFO"):
        for _ in range(2):
            match_classes(data, MODEL, model="MODEL", source=str(tmp_path))
    (said,) = caplog.messages
    assert "Traffic_cone 0 -> 2, background 1 -> 0, person 2 -> 1, Traffic_cone = traffic cone" in said


@pytest.mark.parametrize(
    ("names", "what", "fix"),
    [
        (
            ["background", "person", "traffic cone", "dog"],
            "DATA has dog, which MODEL does not know",
            "dog=ignore",
        ),
        (["person", "background"], "MODEL knows traffic cone, which DATA does not have", "=traffic cone"),
        (["background", "people", "traffic cone"], "DATA has people, .*; MODEL knows person, ", "--remap people=CLASS"),
        (["background", "person", "Person", "traffic cone"], "person and Person of DATA differ in case", "Rename"),
    ],
)
def test_what_has_no_counterpart_is_refused(tmp_path, names, what, fix) -> None:
    with pytest.raises(UnipError, match=what) as caught:
        matched(opened(tmp_path, names, np.zeros((2, 3), np.uint8)))
    assert fix in caught.value.fix


def test_a_superset_fits_with_remap(tmp_path) -> None:
    changes = ("dog=ignore", "man=person")
    data = opened(tmp_path, ["dog", "traffic cone", "man", "background"], np.array([[0, 1, 2, 3]], np.uint8), *changes)
    np.testing.assert_array_equal(matched(data, *changes).read_mask(0), [[255, 2, 1, 0]])


def test_a_class_that_is_ignored_may_lack(tmp_path, caplog) -> None:
    change = "Background=ignore"
    data = opened(tmp_path, ["Background", "traffic_cone", "person"], np.array([[0, 1, 2]], np.uint8), change)
    np.testing.assert_array_equal(matched(data, change).read_mask(0), [[255, 2, 1]])
    assert "DATA has no pixel of background, which is ignored" in caplog.text
    with pytest.raises(UnipError, match="MODEL knows background"):
        matched(data)


def test_masks_in_doubt_stay_in_doubt(tmp_path) -> None:
    """0 and 255 alone: what 0 stands for need not be the model's class 0."""
    model = Classes(("person", "background"))
    data = opened(tmp_path, ["background", "person"], np.array([[0, 255]], np.uint8), ignore_index=255)
    found = match_classes(data, model, source="DATA")
    with pytest.raises(UnipError, match=r"0 \(background\) and 255, which is the ignore_index\. No pixel is person"):
        refuse_doubtful(found, count_pixels(found.read(0), model).tolist())
