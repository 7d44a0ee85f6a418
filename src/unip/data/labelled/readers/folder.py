"""Segmentation folders: ``images/``, ``masks/`` and ``classes.json``.

```
ROOT/
  classes.json            {"names": ["background", "person"], "ignore_index": 255}, see unip.data.labelled.classes;
                          "conversion": {"method": "plateau"} says how counts become 8 bits, see
                          unip.data.images.conversion
  train/images/0001.png   any image; `train` may be any name, or be left out
  train/masks/0001.png    PNG, one channel: the id of the class at each pixel
```
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from unip.data.images.config import Conversion
from unip.data.images.files import list_images
from unip.data.labelled.binary import binary_ids
from unip.data.labelled.classes import Classes
from unip.data.labelled.masks import MaskFile
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.files import read_json

USUAL = ("train", "val", "test")


def open_folder(root: Path, split: str | None) -> SegmentationData:
    """List the pairs of a segmentation folder, sorted by the image's path inside ``images/``, and read its classes.

    Raises:
        UnipError: A folder, a mask or ``classes.json`` is missing or bad, or there is no image.
    """
    base = base_of(root, split)
    images, masks = pair_files(base)
    classes, conversion, stated = read_classes([base, root] if split else [base, base.parent])
    files = tuple(MaskFile(path) for path in masks)
    ids = binary_ids(files, classes) if not stated and len(classes.names) == 2 else None
    return SegmentationData(
        images, files, classes, ids or (), conversion=conversion, assumed_ignore=None if ids else classes.ignore_index
    )


def folder_splits(root: Path) -> list[str]:
    """Return the names of the subfolders that hold ``images/``."""
    found = {path.parent.name for path in root.glob("*/images")} if root.is_dir() else set()
    return [name for name in USUAL if name in found] + sorted(found - set(USUAL))


def base_of(root: Path, split: str | None, also: str = "classes.json") -> Path:
    """Return the folder that holds ``images/`` and ``masks/``.

    Raises:
        UnipError: They are not there.
    """
    base = root / split if split else root
    if not (base / "images").is_dir() or not (base / "masks").is_dir():
        wanted = f"{base / 'images'} and {base / 'masks'}"
        if not root.is_dir():
            raise UnipError(f"no such folder: {root}", f"A segmentation folder holds {wanted}, and {also}.")
        splits = folder_splits(root)
        there = f" Splits in {root}: {', '.join(splits)}." if splits else ""
        raise UnipError(
            f"{base} is not a segmentation folder",
            f"Expected {wanted}, and {also}.{there} Other layouts are named, such as coco:{root}.",
        )
    return base


def pair_files(base: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Pair ``images/*`` with ``masks/*.png`` by their names without ending.

    Raises:
        UnipError: A mask is missing, or two images would share one.
    """
    images = list_images(base / "images")
    masks = [(base / "masks" / path.relative_to(base / "images")).with_suffix(".png") for path in images]
    stems = Counter(masks)
    twice = next((path for path, mask in zip(images, masks, strict=True) if stems[mask] > 1), None)
    if twice is not None:
        raise UnipError(f"two images of {twice.parent} are named {twice.stem!r} and would share a mask", "Rename one.")
    missing = [(image, mask) for image, mask in zip(images, masks, strict=True) if not mask.is_file()]
    if missing:
        raise UnipError(
            f"{len(missing)} of {len(images)} images have no mask, the first: {missing[0][0]}",
            f"Expected {missing[0][1]}; add it or move the image away.",
        )
    return tuple(images), tuple(masks)


def read_classes(folders: list[Path]) -> tuple[Classes, Conversion | None, bool]:
    """Read the first ``classes.json`` of some folders.

    Returns:
        The classes, the conversion of the images if it states one, and whether it states an ``ignore_index``.

    Raises:
        UnipError: There is none, or it is bad.
    """
    for folder in folders:
        path = folder / "classes.json"
        if path.exists():
            try:
                value = read_json(path)
                stated = value.pop("conversion", None) if isinstance(value, dict) else None
                conversion = None if stated is None else Conversion.from_json(json.dumps(stated))
                return Classes.from_dict(value), conversion, "ignore_index" in value
            except UnipError as error:
                raise UnipError(f"{path}: {error.what}", error.fix) from None
    raise UnipError(
        f"no classes.json in {' or '.join(str(folder) for folder in folders)}",
        'Write one: {"names": ["background", "person"], "ignore_index": 255}.',
    )
