from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.config import Config
from unip.data.labelled.datasets import check_segmentation, open_segmentation
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.settings import Remap
from unip.errors import UnipError

STORED = np.array([[0, 1, 2], [3, 255, 9]], np.uint8)


def opened(root: Path, *changes: str) -> SegmentationData:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(root / "images/a.png")
    Image.fromarray(STORED).save(root / "masks/a.png")
    (root / "classes.json").write_text(
        json.dumps({"names": ["sky", "car", "bus", "road"], "palette": [[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4]]})
    )
    return open_segmentation(root, remap=changes)


def test_merge_rename_ignore_and_ids(tmp_path: Path) -> None:
    data = opened(tmp_path, "bus=vehicle", "car=vehicle", "sky=ignore", "9=road")
    assert data.classes.names == ("road", "vehicle")
    np.testing.assert_array_equal(data.read_mask(0), [[255, 1, 1], [0, 255, 0]])
    assert data.classes.palette[0] == (4, 4, 4) and data.classes.palette[1] not in ((2, 2, 2), (3, 3, 3))
    assert check_segmentation(data) == {"road": 2, "vehicle": 2, "ignore": 2}


def test_into_a_class_that_is_there(tmp_path: Path) -> None:
    data = opened(tmp_path, "bus=car", "9=ignore")
    assert data.classes.names == ("sky", "car", "road")
    np.testing.assert_array_equal(data.read_mask(0), [[0, 1, 1], [2, 255, 255]])
    swapped = opened(tmp_path, "bus=car", "car=bus", "9=thing")
    np.testing.assert_array_equal(swapped.read_mask(0), [[0, 2, 1], [3, 255, 4]])
    assert swapped.classes.names == ("sky", "car", "bus", "road", "thing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["cra=bus"], "there is no class 'cra'"),
        (["car"], "is not OLD=NEW"),
        (["car=bus", "car=sky"], "changed twice"),
        ([f"{name}=ignore" for name in ("sky", "car", "bus", "road")], "no class is left"),
        (["70000=bus"], "beyond 65535"),
    ],
)
def test_bad_changes(tmp_path: Path, changes: list[str], message: str) -> None:
    with pytest.raises(UnipError, match=message):
        opened(tmp_path, *changes)


def test_recipes_may_write_a_mapping() -> None:
    class Some(Config):
        remap: Remap = ()

    assert Some.make(remap={"car": "vehicle", 9: "ignore"}).remap == ("car=vehicle", "9=ignore")
    assert Some.make(remap=["a=b"]).remap == ("a=b",)
