"""HIT-UAV: oriented boxes of people and vehicles in infrared frames of a drone, filled.

As suojiashun/HIT-UAV-Infrared-Thermal-Dataset releases them:

```
ROOT/                                   the repository, or its rotate_json
  rotate_json/annotations/train.json    images with `filename`; boxes as [xc, yc, w, h, angle]; categories 0..4
  rotate_json/images/train/*.jpg
```

The angle is in radians, clockwise on the screen. Boxes are filled from the largest to the smallest, so that small
objects stay visible on large ones; ``DontCare`` has no label. The set has boxes, not outlines: their corners are
background that is labelled as the object. The released splits cut flights apart: ``unip data split`` makes others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unip.data.images.decoding import Pixels
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.masks import box_corners, draw_polygon
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.places import split_named
from unip.errors import UnipError
from unip.files import read_json
from unip.paths import is_dir, is_file

CLASSES = Classes(("background", "person", "car", "bicycle", "other vehicle"))
LABELS = {"Person": 1, "Car": 2, "Bicycle": 3, "OtherVehicle": 4, "DontCare": IGNORE}
SPLITS = ("train", "val", "test")
Box = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class BoxMask:
    """Oriented boxes in one frame: ``(id, box)``, in the order in which they are filled."""

    path: Path
    size: tuple[int, int]
    boxes: tuple[tuple[int, Box], ...]

    def read(self) -> Pixels:
        """Return the filled boxes, ``(H, W)`` uint8 class ids."""
        mask = np.zeros(self.size, np.uint8)
        for class_id, box in self.boxes:
            draw_polygon(mask, box_corners(*box), class_id)
        return mask


def open_hit_uav(root: Path, split: str | None) -> SegmentationData:
    """List the frames of a released split; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    base = root if is_dir(root / "annotations") else root / "rotate_json"
    path, images = base / "annotations" / f"{split or SPLITS[0]}.json", base / "images" / (split or SPLITS[0])
    if split not in SPLITS or not is_file(path) or not is_dir(images):
        raise UnipError(
            f"{root} has no {split_named(split)} of HIT-UAV as it is released",
            f"Expected {path} and {images}, split {', '.join(SPLITS)}, as in the repository of its authors.",
        )
    record = read_json(path)
    try:
        labels = {category["id"]: LABELS[category["name"]] for category in record["categories"]}
        boxes: dict[int, list[tuple[int, Box]]] = {image["id"]: [] for image in record["images"]}
        for found in record["annotations"]:
            xc, yc, width, height, angle = (float(value) for value in found["bbox"])
            boxes[found["image_id"]].append((labels[found["category_id"]], (xc, yc, width, height, angle)))
        frames = sorted(record["images"], key=lambda image: str(image["filename"]))
        sizes = [(int(image["height"]), int(image["width"])) for image in frames]
    except (KeyError, TypeError, ValueError) as error:
        raise UnipError(
            f"{path} is not a HIT-UAV annotation file with oriented boxes ({type(error).__name__}: {error})",
            "Use rotate_json, not normal_json, which holds upright boxes.",
        ) from None
    files = [images / str(image["filename"]).replace("\\", "/") for image in frames]
    missing = [file for file in files if not is_file(file)]
    if missing:
        raise UnipError(
            f"{len(missing)} of {len(files)} frames of {path} are missing, the first: {missing[0]}",
            "Is the download complete?",
        )
    masks = tuple(
        BoxMask(path, size, tuple(sorted(boxes[image["id"]], key=_late)))
        for image, size in zip(frames, sizes, strict=True)
    )
    return SegmentationData(tuple(files), masks, CLASSES, released=True)


def hit_uav_splits(root: Path) -> list[str]:
    """Return the released splits that are there."""
    base = root if is_dir(root / "annotations") else root / "rotate_json"
    return [name for name in SPLITS if is_file(base / "annotations" / f"{name}.json")]


def _late(item: tuple[int, Box]) -> tuple[bool, float]:
    class_id, (_, _, width, height, _) = item
    return class_id != IGNORE, -width * height
