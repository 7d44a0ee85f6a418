"""Segmentation folders: ``images/``, ``masks/`` and ``classes.json``.

```
ROOT/
  classes.json            {"names": ["background", "person"], "ignore_index": 255}, see unip.data.labelled.classes;
                          "conversion": {"method": "plateau"} says how counts become 8 bits, see
                          unip.data.images.conversion
  train/images/0001.png   any image; `train` may be any name, or be left out
  train/masks/0001.png    PNG, one channel: the id of the class at each pixel
```

Without ``classes.json``, a list of names, one a line in the order of the ids, will do if the first is a background:
``labels.txt``, ``class_names.txt`` or ``classes.txt``, as exports in the format of Pascal VOC have it.

Other usual places and names are found, see unip.data.labelled.readers.places and pairing. A folder of binary masks for
each class, ``masks/person/0001.png``, needs no ``classes.json``: the classes are ``background`` and the folders' names.
"""

from __future__ import annotations

from pathlib import Path

from unip.data.images.config import Conversion
from unip.data.labelled.binary import binary_ids
from unip.data.labelled.binary_masks import ClassFiles, mask_of_ids
from unip.data.labelled.classes import Classes, background_id
from unip.data.labelled.masks import MaskSource
from unip.data.labelled.pairs import SegmentationData, Unpaired
from unip.data.labelled.readers.found import FolderPairs, class_of
from unip.data.labelled.readers.pairing import find_pairs
from unip.data.labelled.readers.places import list_splits
from unip.data.labelled.saying import say_once
from unip.data.labelled.settings import FOUND, Places
from unip.documents import fit
from unip.errors import UnipError
from unip.files import read_json, read_lines
from unip.paths import exists, is_file

NAME_LISTS = ("labels.txt", "class_names.txt", "classes.txt")
IGNORED = ("ignore", "__ignore__")  # in such lists: no class, but a line all the same


def open_folder(
    root: Path, split: str | None, places: Places = FOUND, unpaired: Unpaired | None = None
) -> SegmentationData:
    """List the pairs of a segmentation folder, sorted by the image's path inside ``images/``, and read its classes.

    Args:
        root: The folder.
        split: The split; None: the folder itself.
        places: Where images and masks are, as far as that is given.
        unpaired: Gets images without a mask, and masks without an image, which are then no error.

    Raises:
        UnipError: A folder or ``classes.json`` is missing or bad, no image has a mask, or a mask has no image.
    """
    pairs = find_pairs(root, split, places, "classes.json", unpaired)
    folders = class_folders(root, split)
    if pairs.names:
        return _by_class(pairs, root, folders)
    classes, conversion, stated = _classes_or_names(folders)
    masks: tuple[MaskSource, ...] = tuple(mask_of_ids(path) for (path,) in pairs.masks)
    ids = binary_ids(masks, classes) if not stated and len(classes.names) == 2 else None
    assumed = None if ids else classes.ignore_index
    return SegmentationData(pairs.images, masks, classes, ids or (), conversion=conversion, assumed_ignore=assumed)


def folder_splits(root: Path, places: Places = FOUND) -> list[str]:
    """Return the names of the splits that a plain folder has."""
    return list_splits(root, places)


def class_folders(root: Path, split: str | None) -> list[Path]:
    """Return the folders in which the classes of a split may be described."""
    return [root / split, root] if split else [root, root.parent]


def _by_class(pairs: FolderPairs, root: Path, folders: list[Path]) -> SegmentationData:
    """Return images with a folder of binary masks for each class."""
    if any(exists(folder / "classes.json") for folder in folders):
        classes, conversion, _ = read_classes(folders)
    else:
        others = (name for name in pairs.names if background_id([name]) is None)
        classes, conversion = Classes(("background", *others)), None
    ids = {name: i for i, name in enumerate(classes.names)}
    background = background_id(classes.names)
    unknown = [name for name in pairs.names if name not in ids and background_id([name]) is None]
    if background is None or unknown:
        raise UnipError(
            f"classes.json of {root} does not name {unknown[0] if unknown else 'background'!r}",
            "With a folder of masks for each class, it needs background and the folders' names.",
        )
    masks = tuple(
        ClassFiles(tuple((path, ids.get(class_of(path, pairs.names), background)) for path in files), background)
        for files in pairs.masks
    )
    return SegmentationData(pairs.images, masks, classes, conversion=conversion)


def _classes_or_names(folders: list[Path]) -> tuple[Classes, Conversion | None, bool]:
    """Read ``classes.json``, or else a list of names; for the rest see :func:`read_classes`."""
    lists = [folder / name for folder in folders for name in NAME_LISTS if is_file(folder / name)]
    if any(exists(folder / "classes.json") for folder in folders) or not lists:
        return read_classes(folders)
    names = [line.strip() for line in read_lines(lists[0]) if line.strip()]
    names = names[names[:1] == ["__ignore__"] :]  # LabelMe counts it as -1
    if among := [name for name in names if name in IGNORED]:
        raise UnipError(
            f"{lists[0]} is a list of names with {among[0]!r} among the classes, so their ids are unclear",
            f"Write {lists[0].parent / 'classes.json'} with names and ignore_index, and --remap for other ids.",
        )
    if background_id(names[:1]) is None:
        first = names[0] if names else "person"
        raise UnipError(
            f"{lists[0]} is a list of names, but the first is no background: nothing tells whether the masks hold 0 "
            f"or 1 for {first!r}",
            f'Write {lists[0].parent / "classes.json"} with the names of the ids from 0 on, such as {{"names": '
            f'["background", "{first}", ...]}}.',
        )
    names[0] = names[0].strip("_")
    try:
        classes = Classes(tuple(names))
    except UnipError as error:
        raise UnipError(f"{lists[0]}: {error.what}", error.fix) from None
    shown = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    say_once(f"no classes.json: ids are those of {lists[0]}: {shown}; {classes.ignore_index} has no label")
    return classes, None, True


def read_classes(folders: list[Path]) -> tuple[Classes, Conversion | None, bool]:
    """Read the first ``classes.json`` of some folders.

    Returns:
        The classes, the conversion of the images if it states one, and whether it states an ``ignore_index``.

    Raises:
        UnipError: There is none, or it is bad.
    """
    for folder in folders:
        path = folder / "classes.json"
        if exists(path):
            try:
                value = read_json(path)
                stated = value.pop("conversion", None) if isinstance(value, dict) else None
                conversion = None if stated is None else fit(stated, Conversion, "conversion", "")
                return Classes.from_dict(value), conversion, "ignore_index" in value
            except UnipError as error:
                raise UnipError(f"{path}: {error.what}", error.fix) from None
    palettes = [folder / "labelmap.txt" for folder in folders if is_file(folder / "labelmap.txt")]
    if palettes:
        raise UnipError(
            f"no classes.json, but {palettes[0]}, which names colours",
            f"Give colours:{palettes[0].parent}, or write one.",
        )
    raise UnipError(
        f"no classes.json in {' or '.join(str(folder) for folder in folders)}",
        'Write one with the names of the ids from 0 on, such as {"names": ["background", "person"]}; if an id marks '
        'pixels without a label, with "ignore_index": 255 too.',
    )
