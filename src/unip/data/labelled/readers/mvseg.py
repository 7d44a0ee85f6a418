"""MVSeg: videos of which some frames are labelled.

```
ROOT/train.txt                         names of videos; val.txt, test.txt
ROOT/data/VIDEO/infrared/00237i.png    .png or .jpg; visible/00237v.png beside it
ROOT/data/VIDEO/label/00237l.png
```

Folders, lists, names, ids and colours: the authors' code, jiwei0921/MVSS-Baseline, mvss_dataset.py. Frames without a
label are left out. Id 255 has no label here; that code counts it as the last class.
"""

from __future__ import annotations

from pathlib import Path

from unip.data.images.files import SUFFIXES
from unip.data.labelled.classes import Classes
from unip.data.labelled.masks import MaskFile
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.places import split_named
from unip.errors import UnipError
from unip.files import read_lines
from unip.paths import is_dir, is_file

SPLITS = ("train", "val", "test")
COLOURS = {
    "background": (0, 0, 0),
    "car": (0, 0, 142),
    "bus": (0, 60, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
    "pedestrian": (255, 0, 0),
    "motorcyclist": (0, 139, 139),
    "bicyclist": (255, 165, 150),
    "cart": (192, 64, 0),
    "bench": (211, 211, 211),
    "umbrella": (100, 33, 128),
    "box": (117, 79, 86),
    "pole": (153, 153, 153),
    "street lamp": (190, 122, 222),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "car stop": (222, 142, 35),
    "color cone": (205, 155, 155),
    "sky": (70, 130, 180),
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "curb": (0, 0, 70),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "building": (70, 70, 70),
    "ground": (110, 80, 100),
}


def open_mvseg(root: Path, split: str | None) -> SegmentationData:
    """List the labelled frames of a split; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    listing = root / f"{split}.txt"
    if split is None or not is_file(listing):
        there = ", ".join(mvseg_splits(root))
        raise UnipError(
            f"{root} has no MVSeg {split_named(split)}" + (f", but {there}" if there else ""),
            f"Expected {root / f'{split or SPLITS[0]}.txt'} with the names of videos, and "
            f"{root / 'data'}/VIDEO with infrared and label.",
        )
    images, masks = [], []
    for video in (line.strip() for line in read_lines(listing)):
        folder = root / "data" / video / "label"
        found = sorted(folder.glob("*l.png")) if video else []
        if video and not found:
            raise UnipError(
                f"{listing} names {video}, but there are no labels in {folder}", "Is the download complete?"
            )
        for mask in found:
            masks.append(MaskFile(mask))
            images.append(_image_of(mask))
    if not images:
        raise UnipError(f"{listing} names no video", "Copy it again.")
    classes = Classes(tuple(COLOURS), palette=tuple(COLOURS.values()))
    return SegmentationData(tuple(images), tuple(masks), classes, released=True)


def mvseg_splits(root: Path) -> list[str]:
    """Return the splits whose list is there."""
    return [name for name in SPLITS if is_file(root / f"{name}.txt") and is_dir(root / "data")]


def _image_of(mask: Path) -> Path:
    folder, name = mask.parent.parent / "infrared", mask.stem[:-1] + "i"
    image = next((folder / (name + ending) for ending in SUFFIXES if is_file(folder / (name + ending))), None)
    if image is None:
        raise UnipError(f"the infrared frame of {mask} is not there", f"Expected {folder / name}.png or .jpg.")
    return image
