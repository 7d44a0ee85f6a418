"""YOLO segmentation: a text file of polygons for each image, and ``data.yaml`` with the names.

```
ROOT/data.yaml              names: [person, car], or {0: person, 1: car}
ROOT/images/train/0001.jpg  with ROOT/labels/train/0001.txt
ROOT/train/images/0001.jpg  with ROOT/train/labels/0001.txt, the other way round
```

A line is ``CLASS x1 y1 x2 y2 ...`` in shares of width and height (format: the segmentation page of the Ultralytics
docs). Class 0 becomes id 1, after ``background``; a class of that name is the background. An image whose text file is
empty is all background; one without a text file is left out, since nobody may have labelled it. Polygons are drawn from
the largest to the smallest, on the picture as viewers turn it. Any .yaml file with ``names`` in ROOT will do if there
is no ``data.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unip.data.images.decoding import Pixels
from unip.data.images.files import list_images
from unip.data.labelled.classes import Classes, background_id
from unip.data.labelled.masks import draw_polygon, polygon_area
from unip.data.labelled.outlines import blank, check_inside, look_at_picture
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.places import WITHOUT_SPLITS, split_named
from unip.data.labelled.saying import say_left_out
from unip.documents import fit
from unip.errors import UnipError
from unip.files import read_lines, read_yaml
from unip.paths import is_dir, is_file

NAMES = "Write names: {0: person, 1: car}, and names like 5 or no in quotes."
FAR_OUTSIDE = 1.5  # shares beyond it are pixels or percent
EMPTY = ". If an image shows no object, an empty .txt file says so"
USUAL = ("train", "val", "valid", "test")


@dataclass(frozen=True)
class YoloNames:
    """The names of a data.yaml, by their numbers or in their order."""

    names: dict[int, str] | list[str]


@dataclass(frozen=True)
class YoloMask:
    """The polygons of one image, whose size is read from the image's header.

    Attributes:
        path: The text file.
        image: The image file.
        names: The classes in the order of the file's numbers.
        ids: The class id of each of them.
    """

    path: Path
    image: Path
    names: tuple[str, ...]
    ids: tuple[int, ...]

    def read(self) -> Pixels:
        """Return the drawn polygons, ``(H, W)`` uint8 class ids of the pixels as they are stored.

        Raises:
            UnipError: A line is no polygon of a known class, or lies outside.
        """
        picture = look_at_picture(self.image)
        height, width = picture.shown
        mask = blank(picture.shown, str(self.image))
        polygons = []
        for number, line in enumerate(read_lines(self.path), 1):
            words = line.split()
            if not words:
                continue
            try:
                class_id, values = int(words[0]), np.array(words[1:], np.float64)
            except ValueError:
                raise UnipError(f"{self.path}, line {number}: {line[:60]!r} is not CLASS x1 y1 x2 y2 ...") from None
            if len(values) < 6 or len(values) % 2:
                what = "a box, not a polygon" if len(values) == 4 else f"{len(values)} numbers, not corners"
                raise UnipError(f"{self.path}, line {number} holds {what}", "Export polygons (YOLO segmentation).")
            if not 0 <= class_id < len(self.names):
                raise UnipError(
                    f"{self.path}, line {number} holds the unknown class {class_id}",
                    f"data.yaml names 0..{len(self.names) - 1}: {', '.join(self.names[:8])}.",
                )
            corners = values.reshape(-1, 2) * (width, height)
            if not np.abs(values).max() <= FAR_OUTSIDE:
                raise UnipError(
                    f"{self.path}, line {number} holds {values[np.argmax(np.abs(values))]:g}, not shares of width and "
                    "height from 0 to 1",
                    "It looks like pixels or percent: export normalised coordinates (YOLO segmentation).",
                )
            check_inside(corners, picture.shown, f"{self.path}, line {number}")
            polygons.append((self.ids[class_id], corners))
        for class_id, corners in sorted(polygons, key=lambda item: -polygon_area(item[1])):
            draw_polygon(mask, corners, class_id)
        return picture.as_stored(mask)


def open_yolo(root: Path, split: str | None) -> SegmentationData:
    """List the images of one split; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    if not is_dir(root):
        raise UnipError(f"no such folder: {root}", "A YOLO data set holds data.yaml, images and labels.")
    names = _names(root)
    part = split or ""
    places = [(root / "images" / part, root / "labels" / part), (root / part / "images", root / part / "labels")]
    place = next(((images, labels) for images, labels in places if is_dir(images) and is_dir(labels)), None)
    if place is None:
        there = yolo_splits(root)
        flat = split and not there and is_dir(root / "images") and is_dir(root / "labels")
        raise UnipError(
            f"{root} has no YOLO {split_named(split)}" + (f", but {', '.join(there)}" if there else ""),
            "Expected "
            + ", or ".join(dict.fromkeys(f"{images} and {labels}" for images, labels in places))
            + (f". {WITHOUT_SPLITS}" if flat else "."),
        )
    images, labels = place
    files = list_images(images)
    texts = {path: (labels / path.relative_to(images)).with_suffix(".txt") for path in files}
    labelled = [path for path in files if is_file(texts[path])]
    if not labelled:
        raise UnipError(f"no image of {images} has labels in {labels}", f"Expected such as {texts[files[0]]}.")
    without = [path for path in files if path not in set(labelled)]
    say_left_out(str(labels), without, len(files), "no .txt file", root, EMPTY)
    background = background_id(names)
    others = [name for i, name in enumerate(names) if i != background]
    ids = tuple(0 if i == background else others.index(name) + 1 for i, name in enumerate(names))
    masks = tuple(YoloMask(texts[path], path, names, ids) for path in labelled)
    return SegmentationData(tuple(labelled), masks, Classes(("background", *others)))


def yolo_splits(root: Path) -> list[str]:
    """Return the splits that have images and labels."""
    beside = [path.name for path in root.glob("images/*") if is_dir(root / "labels" / path.name)]
    above = [path.parent.name for path in root.glob("*/images") if is_dir(path.parent / "labels")]
    found = {*beside, *above}
    return [name for name in USUAL if name in found] + sorted(found - set(USUAL))


def _names(root: Path) -> tuple[str, ...]:
    files = [root / "data.yaml", *sorted(root.glob("*.y*ml"))]
    for path in files:
        names = read_yaml(path, text_keys=False).get("names") if is_file(path) else None
        if isinstance(names, dict) and sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise UnipError(f"{path}: names must be numbered from 0 on", "Write names: {0: person, 1: car}.")
        found = names and fit({"names": names}, YoloNames, str(path), NAMES).names
        if found:
            return tuple(found[i] for i in range(len(found)))
    raise UnipError(f"no data.yaml with names in {root}", "Write names: [person, car].")
