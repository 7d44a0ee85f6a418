"""LabelMe: a JSON file with outlines beside each image.

```
ROOT/labels.txt             optional: the classes, one a line (`__ignore__` and `_background_` as LabelMe's tools write)
ROOT/train/0001.jpg         `train` may be any name, or be left out
ROOT/train/0001.json        shapes: polygons, rectangles, circles, masks (of LabelMe's AI tools)
```

Without ``labels.txt`` (or ``classes.json``) the classes are ``background`` and all labels in ROOT, sorted. Shapes are
drawn in the order of the file, later ones on top, on the picture as LabelMe turns it; what none covers is the
background, which a ``classes.json`` has to name. ``__ignore__`` marks pixels without a label. Images without a JSON
file are left out; those whose file has no shape are all background. The format is that of wkentaro/labelme.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from unip.data.images.decoding import Pixels, Pixels8
from unip.data.images.files import MASK_FOLDERS, SUFFIXES
from unip.data.images.formats import open_image
from unip.data.labelled.classes import IGNORE, Classes, background_id
from unip.data.labelled.masks import draw_polygon
from unip.data.labelled.outlines import blank, check_inside, look_at_picture
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.folder import read_classes
from unip.data.labelled.readers.places import WITHOUT_SPLITS
from unip.data.labelled.saying import say_left_out
from unip.errors import UnipError
from unip.files import read_json, read_lines
from unip.paths import is_dir, is_file, list_folder, resolve

CIRCLE_CORNERS = 64
MASKS = frozenset(MASK_FOLDERS)
EMPTY = ". If an image shows no object, a .json file without shapes says so"
NEEDED = "A LabelMe file has a list `shapes`, each with label and points: save it again in LabelMe."

Side = Annotated[int, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class LabelmeShape:
    """A shape: its corners in pixels, or, as a picture in base 64, its pixels in the box between two corners."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class LabelmeFile:
    """What is read of a LabelMe file, by its names."""

    shapes: list[LabelmeShape]
    imagePath: str | None = None
    imageHeight: Side | None = None
    imageWidth: Side | None = None


@dataclass(frozen=True)
class LabelmeMask:
    """A LabelMe file.

    Attributes:
        path: The file.
        image: The image file.
        labels: The id of each name.
        background: The id of what no shape covers.
    """

    path: Path
    image: Path
    labels: tuple[tuple[str, int], ...]
    background: int

    def read(self) -> Pixels:
        """Return the drawn shapes, ``(H, W)`` uint8 class ids of the pixels as they are stored.

        Raises:
            UnipError: A label is unknown, or a shape has no area or lies outside.
        """
        record = read_json(self.path, LabelmeFile, fix=NEEDED)
        labels = dict(self.labels)
        picture = look_at_picture(self.image)
        height, width = record.imageHeight, record.imageWidth
        size = picture.shown if height is None or width is None else (height, width)
        mask = blank(size, str(self.path), self.background)
        for shape in record.shapes:
            label, kind = shape.label, shape.shape_type or "polygon"
            if label not in labels:
                raise UnipError(
                    f"{self.path} holds the unknown label {label!r}",
                    f"Known: {', '.join(labels)}. Add it to labels.txt.",
                )
            if kind == "mask":
                _paint(mask, shape, labels[label], self.path)
                continue
            outline = _outline(kind, shape.points, self.path)
            if kind != "circle":  # one may reach over the border
                check_inside(outline, size, f"{self.path}: a {kind} of {label!r}")
            draw_polygon(mask, outline, labels[label])
        return picture.as_stored(mask) if picture.is_turned(size) else mask


def open_labelme(root: Path, split: str | None) -> SegmentationData:
    """List the labelled images of a folder; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    base = root / split if split else root
    files = sorted(base.rglob("*.json")) if is_dir(base) else []
    files = [path for path in files if path.name != "classes.json"]
    if not files:
        there = labelme_splits(root)
        raise UnipError(
            f"no LabelMe files in {base}",
            "Expected a .json file beside each image."
            + (f" Splits in {root}: {', '.join(there)}." if there else "")
            + (f" {WITHOUT_SPLITS}" if split and any(root.glob("*.json")) else ""),
        )
    images = [_image_of(path) for path in files]
    without = _without_file(base, images)
    say_left_out(str(base), without, len(images) + len(without), "no .json file", root, EMPTY)
    classes, labels = _classes(root)
    background = background_id(classes.names)
    if background is None:
        raise UnipError(
            f"{root / 'classes.json'} names no background, so what no shape covers has no class",
            'Add "background" to its names, at any place; --remap background=ignore then leaves those pixels out.',
        )
    masks = tuple(LabelmeMask(*pair, labels, background) for pair in zip(files, images, strict=True))
    return SegmentationData(tuple(images), masks, classes)


def labelme_splits(root: Path) -> list[str]:
    """Return the subfolders that hold JSON files."""
    return sorted({path.relative_to(root).parts[0] for path in root.glob("*/**/*.json")})


def _without_file(base: Path, labelled: list[Path]) -> list[Path]:
    """Return the other images: in the folder and below, masks left out, and beside those that are labelled."""
    used = {resolve(path) for path in labelled}
    there = {path for folder in {image.parent for image in labelled} for path in list_folder(folder)}
    there |= {path for path in base.rglob("*") if not MASKS & {part.lower() for part in path.relative_to(base).parts}}
    return sorted(path for path in there if path.suffix.lower() in SUFFIXES and resolve(path) not in used)


def _classes(root: Path) -> tuple[Classes, tuple[tuple[str, int], ...]]:
    if is_file(root / "classes.json"):
        classes, *_ = read_classes([root])
        ids: dict[str, int] = {}
    else:
        if is_file(root / "labels.txt"):
            names = [line.strip() for line in read_lines(root / "labels.txt") if line.strip()]
        else:
            records = (read_json(path) for path in sorted(root.rglob("*.json")))
            names = sorted({label for record in records for label in _labels(record)})
        given = [name for name in names if background_id([name]) is not None]
        names = [name for name in names if name not in ("__ignore__", "ignore", *given)]
        classes = Classes(("background", *names))
        ids = dict.fromkeys(given, 0)
    ids |= {name: i for i, name in enumerate(classes.names)}
    ids |= {"_background_": background_id(classes.names) or 0, "__ignore__": IGNORE}
    return classes, tuple({"ignore": IGNORE, **ids}.items())


def _labels(record: Any) -> list[str]:
    """Return the labels of a JSON file, which need not be one of LabelMe."""
    shapes = record.get("shapes") if isinstance(record, dict) else None
    labels = [shape.get("label") for shape in shapes if isinstance(shape, dict)] if isinstance(shapes, list) else []
    return [label for label in labels if isinstance(label, str)]


def _image_of(path: Path) -> Path:
    """Return the image of a LabelMe file: the one it names, else the one beside it with the same name."""
    named = read_json(path, LabelmeFile, fix=NEEDED).imagePath
    options = [path.parent / named.replace("\\", "/")] if named else []
    options += [path.with_suffix(end) for suffix in SUFFIXES for end in (suffix, suffix.upper())]
    image = next((option for option in options if is_file(option)), None)
    if image is None:
        raise UnipError(f"the image of {path} is not there", f"Expected {options[0]}.")
    return image


def _outline(kind: str, points: list[tuple[float, float]], path: Path) -> Any:
    corners = np.array(points, np.float64).reshape(-1, 2)
    if kind == "polygon" and len(corners) >= 3:
        return corners
    if kind == "rectangle" and len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == "rectangle" and len(corners) == 4:
        return corners
    if kind == "circle" and len(corners) == 2:
        turns = np.linspace(0, 2 * np.pi, CIRCLE_CORNERS, endpoint=False)
        radius = np.hypot(*(corners[1] - corners[0]))
        return corners[0] + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    raise UnipError(
        f"{path} holds a {kind} of {len(corners)} points, which fills no area",
        "Draw polygons, rectangles or circles.",
    )


def _paint(mask: Pixels8, shape: LabelmeShape, class_id: int, path: Path) -> None:
    """Paint a shape that is a picture of its pixels: PNG in base 64, placed at the first of two corners."""
    try:
        pixels = np.asarray(open_image(base64.b64decode(shape.mask or "", validate=True))) > 0
        left, top = (round(float(value)) for value in shape.points[0])
        if pixels.ndim != 2 or left < 0 or top < 0:
            raise ValueError(f"shape {pixels.shape} at {left}, {top}")
        mask[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = class_id
    except Exception as error:  # on broken bytes the decoders raise nearly anything
        raise UnipError(f"{path}: a shape of the kind mask is damaged ({error})", "Draw it again.") from None
