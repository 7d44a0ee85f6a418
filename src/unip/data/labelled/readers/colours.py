"""Colour-coded masks: a segmentation folder whose masks are pictures, and a file that says what a colour means.

The palette file lies in the root or in the split and is one of

- ``classes.json`` with ``names`` and ``palette`` (see unip.data.labelled.classes),
- ``class_dict.csv`` with a heading and a line ``name,r,g,b`` a class, as copies of CamVid have it,
- ``labelmap.txt`` with a line ``name:r,g,b::`` a class, as CVAT writes it.

In the last two, a class called ``ignore`` is no class: its pixels have no label.
"""

from __future__ import annotations

from pathlib import Path

from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.masks import ColourFile, make_ids
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.folder import class_folders, read_classes
from unip.data.labelled.readers.pairing import find_pairs
from unip.data.labelled.settings import FOUND, Places
from unip.errors import UnipError
from unip.files import read_json, read_lines
from unip.paths import is_file

PALETTES = ("classes.json", "class_dict.csv", "labelmap.txt")
Colour = tuple[int, int, int]


def open_colours(root: Path, split: str | None, places: Places = FOUND) -> SegmentationData:
    """List the pairs of a folder with colour-coded masks; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    pairs = find_pairs(root, split, places, "a palette file: " + ", ".join(PALETTES))
    if pairs.names:
        raise UnipError(f"{root} has a folder of masks for each class", f"Give it without a kind: {root}.")
    folders = class_folders(root, split)
    path = next((folder / name for folder in folders for name in PALETTES if is_file(folder / name)), None)
    if path is None:
        raise UnipError(
            f"no palette file in {' or '.join(map(str, folders))}",
            f"Write one of {', '.join(PALETTES)}, such as class_dict.csv with name,r,g,b in each line.",
        )
    named = read_palette(path)
    names = [name for name, _ in named if name != "ignore"]
    colours = tuple((colour, names.index(name) if name != "ignore" else IGNORE) for name, colour in named)
    codes = [colour for colour, _ in colours]
    twice = next((colour for colour in codes if codes.count(colour) > 1), None)
    if twice is not None:
        raise UnipError(f"{path}: the colour {twice} stands for two classes", "Give each class its own colour.")
    classes = Classes(tuple(names), palette=tuple(colour for name, colour in named if name != "ignore"))
    ids = make_ids({**{i: i for i in range(len(names))}, IGNORE: IGNORE})
    conversion = read_classes([path.parent])[1] if path.suffix == ".json" else None
    masks = tuple(ColourFile(mask, colours) for (mask,) in pairs.masks)
    return SegmentationData(pairs.images, masks, classes, ids, conversion=conversion)


def read_palette(path: Path) -> list[tuple[str, Colour]]:
    """Read names and colours from any of :data:`PALETTES`.

    Raises:
        UnipError: It cannot be read that way.
    """
    if path.suffix == ".json":
        classes, *_ = read_classes([path.parent])
        if not read_json(path).get("palette"):
            raise UnipError(f"{path} has no palette", 'Add "palette": [[r, g, b], ...], one colour a class.')
        return list(zip(classes.names, classes.palette, strict=True))
    found = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith("#") or (path.suffix == ".csv" and number == 1):
            continue
        text = line.partition(":")[2].partition(":")[0] if path.suffix == ".txt" else line.partition(",")[2]
        name = line.partition(":" if path.suffix == ".txt" else ",")[0].strip()
        try:
            red, green, blue = (int(part) for part in text.split(","))
            if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
                raise ValueError("no colour")
        except ValueError:
            raise UnipError(
                f"{path}, line {number}: {line!r} is not a name with three colour values",
                "Write name:r,g,b:: in labelmap.txt and name,r,g,b in class_dict.csv.",
            ) from None
        found.append((name, (red, green, blue)))
    if not found:
        raise UnipError(f"{path} names no class", "Write a line for each.")
    return found
