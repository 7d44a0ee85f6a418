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
from typing import Annotated

from pydantic import Field

from unip.data.images.decoding import Pixels
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.masks import box_corners, draw_polygon
from unip.data.labelled.outlines import blank
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.places import split_named
from unip.errors import UnipError
from unip.files import read_json
from unip.paths import is_dir, is_file

CLASSES = Classes(("background", "person", "car", "bicycle", "other vehicle"))
LABELS = {"Person": 1, "Car": 2, "Bicycle": 3, "OtherVehicle": 4, "DontCare": IGNORE}
SPLITS = ("train", "val", "test")
NEEDED = "Use rotate_json, not normal_json, which holds upright boxes."
Number = Annotated[float, Field(ge=-1e6, le=1e6)]  # beyond it, corners overflow
Box = tuple[Number, Number, Number, Number, Number]
Side = Annotated[int, Field(ge=1, le=100_000)]


@dataclass(frozen=True)
class HitUavFrame:
    """A frame; sides in pixels."""

    id: int | str
    filename: str
    height: Side
    width: Side


@dataclass(frozen=True)
class HitUavBox:
    """An oriented box."""

    image_id: int | str
    category_id: int
    bbox: Box


@dataclass(frozen=True)
class HitUavCategory:
    """A class."""

    id: int
    name: str


@dataclass(frozen=True)
class HitUavFile:
    """What is read of an annotation file."""

    images: list[HitUavFrame]
    annotations: list[HitUavBox]
    categories: list[HitUavCategory]


@dataclass(frozen=True)
class BoxMask:
    """Oriented boxes in one frame: ``(id, box)``, in the order in which they are filled."""

    path: Path
    size: tuple[int, int]
    boxes: tuple[tuple[int, Box], ...]

    def read(self) -> Pixels:
        """Return the filled boxes, ``(H, W)`` uint8 class ids."""
        mask = blank(self.size, str(self.path))
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
    record = read_json(path, HitUavFile, fix=NEEDED)
    frames = sorted(record.images, key=lambda image: image.filename)
    try:
        labels = {category.id: LABELS[category.name] for category in record.categories}
        boxes: dict[int | str, list[tuple[int, Box]]] = {image.id: [] for image in frames}
        for found in record.annotations:
            boxes[found.image_id].append((labels[found.category_id], found.bbox))
    except KeyError as error:
        what = f"{path} is not a HIT-UAV annotation file with oriented boxes (it names no {error})"
        raise UnipError(what, NEEDED) from None
    files = [images / image.filename.replace("\\", "/") for image in frames]
    missing = [file for file in files if not is_file(file)]
    if missing:
        raise UnipError(
            f"{len(missing)} of {len(files)} frames of {path} are missing, the first: {missing[0]}",
            "Is the download complete?",
        )
    masks = tuple(
        BoxMask(path, (image.height, image.width), tuple(sorted(boxes[image.id], key=_late))) for image in frames
    )
    return SegmentationData(tuple(files), masks, CLASSES, released=True)


def hit_uav_splits(root: Path) -> list[str]:
    """Return the released splits that are there."""
    base = root if is_dir(root / "annotations") else root / "rotate_json"
    return [name for name in SPLITS if is_file(base / "annotations" / f"{name}.json")]


def _late(item: tuple[int, Box]) -> tuple[bool, float]:
    class_id, (_, _, width, height, _) = item
    return class_id != IGNORE, -width * height
