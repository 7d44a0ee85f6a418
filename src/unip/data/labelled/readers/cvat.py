"""CVAT: exports as "CVAT for images 1.1" and as "Segmentation mask 1.1".

```
ROOT/annotations.xml                          CVAT for images; or give the file itself
ROOT/images/[SUBSET/]0001.jpg                 exported with "save images"; or put the images there, or into ROOT
ROOT/labelmap.txt                             Segmentation mask: name:r,g,b::
ROOT/SegmentationClass/0001.png               and JPEGImages, ImageSets/Segmentation/SUBSET.txt, as Pascal VOC
```

Of the XML, polygons and masks are drawn, by ``z_order`` and then in the order of the file. Boxes, lines, points and the
like have no outline: they are counted and named. Images without any outline are left out, since the export does not say
whether somebody looked at them. Classes are ``background`` and the labels in their order; a label of that name is the
background, one called ``ignore`` marks pixels without a label. A subset of the XML is a split, in any case.

Formats: docs.cvat.ai, "XML annotation format" and "Run-length encoding" (rows of the mask's box, beginning with zeros),
and "Segmentation mask".
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from unip.data.images.files import SUFFIXES
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers import colours
from unip.data.labelled.readers.coco import encode_runs
from unip.data.labelled.readers.drawn import Drawing, DrawnImage, class_ids, find_image, open_drawing
from unip.data.labelled.readers.places import LISTS, list_splits
from unip.data.labelled.settings import FOUND
from unip.errors import UnipError
from unip.limits import check_pixels
from unip.opening import read_regular
from unip.paths import is_dir, is_file

log = logging.getLogger(__name__)

FILE = "annotations.xml"
DRAWN = ("polygon", "mask")
NOT_DRAWN = ("box", "polyline", "points", "ellipse", "cuboid", "skeleton")


def open_cvat(root: Path, split: str | None) -> SegmentationData:
    """List the annotated images of an export; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    path = _file_of(root)
    if path is None:
        if is_file(root / "labelmap.txt"):
            return colours.open_colours(root, split)
        raise UnipError(
            f"no export of CVAT in {root}",
            f"Expected {root / FILE} (CVAT for images 1.1), or {root / 'labelmap.txt'} and "
            f"{root / 'SegmentationClass'} (Segmentation mask 1.1).",
        )
    record = _parse(path)
    images = [image for image in record.iter("image") if split is None or _subset(image).lower() == split.lower()]
    if not images:
        there = ", ".join(cvat_splits(root)) or "none"
        raise UnipError(
            f"{path} has no image of a subset {split!r}" if split else f"{path} names no image",
            f'Subsets there: {there}. Without subsets, give the empty split, --split "".',
        )
    try:
        return _open(path, record, images)
    except (KeyError, ValueError, TypeError) as error:
        raise UnipError(f"{path} is no XML of CVAT for images 1.1 ({type(error).__name__}: {error})") from None


def cvat_splits(root: Path) -> list[str]:
    """Return the subsets of an export."""
    path = _file_of(root)
    if path is None:
        return list_splits(root, FOUND) if is_dir(root / LISTS) else []
    return sorted({_subset(image) for image in _parse(path).iter("image")} - {""})


def _open(path: Path, record: ElementTree.Element, images: list[ElementTree.Element]) -> SegmentationData:
    labels = [(label.findtext("name") or "").strip() for label in record.findall("meta//labels/label")]
    labels = labels or sorted({shape.attrib["label"] for shape in record.iter() if shape.tag in DRAWN})
    names, ids = class_ids(labels, path)
    passed_over: Counter[str] = Counter(shape.tag for image in images for shape in image if shape.tag in NOT_DRAWN)
    drawn = []
    for image in images:
        size = (int(image.attrib["height"]), int(image.attrib["width"]))
        shapes = sorted((s for s in image if s.tag in DRAWN), key=lambda shape: int(shape.get("z_order", 0)))
        name = image.attrib["name"].replace("\\", "/")
        check_pixels(*size, f"{path}: {name}")
        unknown = [shape.attrib["label"] for shape in shapes if shape.attrib["label"] not in ids]
        if unknown:
            raise UnipError(f"{path}: {name} has the label {unknown[0]!r}, which its <labels> do not name")
        objects = tuple((ids[shape.attrib["label"]], _segmentation(shape, size)) for shape in shapes)
        folders = [path.parent / "images" / _subset(image), path.parent / "images", path.parent]
        drawn.append(DrawnImage(find_image(name, [*folders, path.parent / _subset(image)], path), size, objects))
    return open_drawing(Drawing(path, tuple(names), tuple(drawn), dict(passed_over), "CVAT"))


def _segmentation(shape: ElementTree.Element, size: tuple[int, int]) -> Any:
    """Return a polygon or a mask as COCO has it."""
    if shape.tag == "polygon":
        return [[float(value) for point in shape.attrib["points"].split(";") for value in point.split(",")]]
    left, top, width, height = (int(float(shape.attrib[name])) for name in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape.attrib["rle"].split(",")]
    if sum(runs) > width * height or min(runs) < 0 or min(left, top) < 0:
        raise ValueError(f"a mask of {width}x{height} with {sum(runs)} pixels")
    if top + height > size[0] or left + width > size[1]:
        raise ValueError(f"a mask at {left}, {top} of {width}x{height} in a picture of {size[1]}x{size[0]}")
    flat = np.zeros(width * height, bool)
    flat[: sum(runs)] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask: npt.NDArray[np.bool_] = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = flat.reshape(height, width)
    return encode_runs(mask)


def _subset(image: ElementTree.Element) -> str:
    return image.get("subset") or ""


def _file_of(root: Path) -> Path | None:
    if is_file(root) and root.suffix.lower() not in SUFFIXES:
        return root
    return root / FILE if is_file(root / FILE) else None


def _parse(path: Path) -> ElementTree.Element:
    try:
        data = read_regular(path)
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entities can grow without end; CVAT writes none
            raise UnipError(f"{path} declares entities, which exports of CVAT do not", "Export it again.")
        root = ElementTree.fromstring(data)
    except OSError as error:
        raise UnipError(f"cannot read {path}: {error.strerror or error}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last: an unknown encoding
        raise UnipError(f"{path} is not valid XML: {error}", "Export it again.") from None
    if root.tag != "annotations":
        raise UnipError(f"{path} is XML, but not of CVAT: it holds <{root.tag}>", "Export as CVAT for images 1.1.")
    if root.find("track") is not None:
        raise UnipError(f"{path} is of CVAT for video", "Export as CVAT for images 1.1, which has a mask a frame.")
    return root
