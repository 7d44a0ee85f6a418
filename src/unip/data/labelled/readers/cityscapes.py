"""Cityscapes and what is laid out like it.

```
ROOT/
  leftImg8bit/train/CITY/NAME_leftImg8bit.png
  gtFine/train/CITY/NAME_gtFine_labelIds.png
  classes.json        optional: the ids of masks are those of these classes
```

Without ``classes.json`` the ids are Cityscapes' own, of which the 19 classes of the benchmark are kept and the others
have no label (names, ids and colours: mcordts/cityscapesScripts, helpers/labels.py).
"""

from __future__ import annotations

from pathlib import Path

from unip.data.images.files import list_images
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.masks import MaskFile, make_ids, plain_ids
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.folder import read_classes
from unip.data.labelled.readers.places import split_named
from unip.errors import UnipError
from unip.paths import is_dir, is_file

LABELS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
LAST_ID = 33
IMAGE_END, MASK_END = "_leftImg8bit", "_gtFine_labelIds.png"


def open_cityscapes(root: Path, split: str | None) -> SegmentationData:
    """List the pairs of one split; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    there = cityscapes_splits(root)
    if split is None or split not in there:
        raise UnipError(
            f"{root} has no Cityscapes-like {split_named(split)}" + (f", but {', '.join(there)}" if there else ""),
            f"Expected {root}/leftImg8bit/{split or 'train'}/CITY/NAME{IMAGE_END}.png and "
            f"{root}/gtFine/{split or 'train'}/CITY/NAME{MASK_END}.",
        )
    images = [path for path in list_images(root / "leftImg8bit" / split) if path.stem.endswith(IMAGE_END)]
    if not images:
        raise UnipError(f"no image in {root}/leftImg8bit/{split} ends in {IMAGE_END}", "Rename them, or use folder.")
    masks = []
    for path in images:
        inner = path.relative_to(root / "leftImg8bit")
        masks.append(root / "gtFine" / inner.with_name(inner.stem.removesuffix(IMAGE_END) + MASK_END))
    missing = [mask for mask in masks if not is_file(mask)]
    if missing:
        raise UnipError(
            f"{len(missing)} of {len(images)} images of {root} have no mask, the first: {missing[0]}",
            "Is the download of gtFine complete?",
        )
    if is_file(root / "classes.json"):
        classes, conversion, _ = read_classes([root])
        ids = plain_ids(classes)
    else:
        conversion = None
        classes = Classes(tuple(LABELS), palette=tuple(colour for _, colour in LABELS.values()))
        table = dict.fromkeys([*range(LAST_ID + 1), IGNORE], IGNORE)  # a licence plate is -1, which files hold as 255
        ids = make_ids({**table, **{stored: i for i, (stored, _) in enumerate(LABELS.values())}})
    return SegmentationData(tuple(images), tuple(MaskFile(mask) for mask in masks), classes, ids, conversion=conversion)


def cityscapes_splits(root: Path) -> list[str]:
    """Return the subfolders that ``leftImg8bit`` and ``gtFine`` share."""
    return sorted(path.name for path in root.glob("leftImg8bit/*") if is_dir(root / "gtFine" / path.name))
