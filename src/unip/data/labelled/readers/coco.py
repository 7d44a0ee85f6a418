"""COCO JSON: polygons and run lengths of objects, drawn into one mask an image.

``ROOT`` is an annotation file, or a folder with one a split (the first of these that is there):

```
ROOT/annotations/instances_SPLIT2017.json  instances_SPLIT.json  SPLIT.json
ROOT/SPLIT/_annotations.coco.json          ROOT/SPLIT.json       ROOT/instances_SPLIT.json
```

Images are searched in the folder of the annotations, and in ``images/SPLIT``, ``SPLIT2017``, ``SPLIT``, ``images`` and
the root. Classes are ``background`` and the categories in the order of their ids; a category of that name, in any case
and place, is the background. An image without annotations is all background, as usual in COCO, and that is said, since
it may just not be labelled. Objects are drawn from the largest to the smallest, by what their outlines cover; crowds
count as their class. Format: the data page of the COCO site and its API's mask files.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt

from unip.data.images.decoding import Pixels, Pixels8
from unip.data.labelled.classes import Classes, background_id
from unip.data.labelled.masks import draw_polygon, polygon_area
from unip.data.labelled.outlines import blank, check_inside, look_at_picture
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.places import split_named
from unip.data.labelled.saying import say_background
from unip.errors import UnipError
from unip.files import read_json
from unip.paths import exists, is_dir, is_file

FILES = (
    "annotations/instances_{}2017.json",
    "annotations/instances_{}.json",
    "annotations/{}.json",
    "{}/_annotations.coco.json",
    "{}.json",
    "instances_{}.json",
)
FOLDERS = ("images/{}", "images/{}2017", "{}2017", "{}", "images", "")
EMPTY = ". That is usual in COCO; if nobody labelled them, remove them from `images` in the file"
NEEDED = "It needs images, annotations and categories, and their ids must fit together."
SPLITS = ("train", "val", "valid", "test")
MAX_RUN_BITS = 40  # a run counts the pixels of a picture

Side = Annotated[int, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class CocoImage:
    """An image of the file; sides in pixels."""

    id: int | str
    file_name: str
    height: Side
    width: Side


@dataclass(frozen=True)
class CocoCategory:
    """A class."""

    id: int
    name: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class CocoRuns:
    """Run lengths: numbers, or their compressed text."""

    size: tuple[Side, Side]
    counts: list[NonNegativeInt] | str


@dataclass(frozen=True)
class CocoAnnotation:
    """An object; without a segmentation it is only a box."""

    image_id: int | str
    category_id: int
    segmentation: list[list[float]] | CocoRuns | None = None
    id: Any = None


@dataclass(frozen=True)
class CocoFile:
    """What is read of an annotation file."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


Segmentation = list[list[float]] | CocoRuns


@dataclass(frozen=True)
class CocoMask:
    """The objects of one image: ``(class id, segmentation as in the file)``, in the order in which they are drawn."""

    path: Path
    image: Path
    size: tuple[int, int]
    objects: tuple[tuple[int, Segmentation], ...]

    def read(self) -> Pixels:
        """Return the drawn objects, ``(H, W)`` uint8 class ids of the pixels as they are stored.

        Raises:
            UnipError: A segmentation cannot be drawn, or lies outside.
        """
        mask = blank(self.size, str(self.path))
        where = f"{self.path}: an outline in {self.image.name}"
        for class_id, segmentation in self.objects:
            try:
                if isinstance(segmentation, CocoRuns):
                    mask[decode_runs(segmentation, self.size)] = class_id
                else:
                    for polygon in segmentation:
                        corners = _corners(polygon)
                        check_inside(corners, self.size, where)
                        draw_polygon(mask, corners, class_id)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise UnipError(f"{self.path}: a segmentation in {self.image.name} is broken ({error})") from None
        picture = look_at_picture(self.image)
        return picture.as_stored(mask) if picture.is_turned(self.size) else mask


def open_coco(root: Path, split: str | None) -> SegmentationData:
    """List the images of a COCO annotation file; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    path = root if exists(root) and not is_dir(root) else _file_of(root, split)
    record = read_json(path, CocoFile, fix=NEEDED)
    try:
        categories = sorted(record.categories, key=lambda category: category.id)
        images = [replace(image, file_name=image.file_name.replace("\\", "/")) for image in record.images]
        images.sort(key=lambda image: image.file_name)
        _refuse_twice([image.id for image in images], "the image id")
        _refuse_twice([category.id for category in categories], "the category id")
        objects: dict[int | str, list[CocoAnnotation]] = {image.id: [] for image in images}
        for found in record.annotations:
            objects[found.image_id].append(found)
        ids: list[int | None] = [category.id for category in categories]
        names = [category.name for category in categories]
        background = background_id(names)  # some tools export it as a category
        if background is None:
            names, ids = ["background", *names], [None, *ids]
        else:
            names.insert(0, names.pop(background))
            ids.insert(0, ids.pop(background))
        labels = {number: i for i, number in enumerate(ids)}
        drawn = [tuple((labels[o.category_id], _segmentation(o)) for o in _ordered(objects[i.id])) for i in images]
    except (KeyError, ValueError) as error:
        raise UnipError(f"{path} is no COCO annotation file ({type(error).__name__}: {error})", NEEDED) from None
    except UnipError as error:
        raise UnipError(f"{path}: {error.what}", error.fix) from None
    if not images:
        raise UnipError(f"{path} names no image", "Export it again.")
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    folders = [path.parent, *((root if is_dir(root) else base) / name.format(split or "") for name in FOLDERS)]
    folder = next((there for there in folders if is_file(there / images[0].file_name)), None)
    if folder is None:
        raise UnipError(
            f"the images of {path} are not there: no {images[0].file_name}",
            f"Searched in {', '.join(dict.fromkeys(map(str, folders)))}.",
        )
    files = tuple(folder / image.file_name for image in images)
    missing = [file for file in files if not is_file(file)]
    if missing:
        raise UnipError(f"{len(missing)} of {len(files)} images of {path} are missing, the first: {missing[0]}")
    empty = [file for file, made in zip(files, drawn, strict=True) if not made]
    say_background(str(path), empty, len(files), "no annotation", folder, EMPTY)
    masks = tuple(
        CocoMask(path, file, (image.height, image.width), made)
        for file, image, made in zip(files, images, drawn, strict=True)
    )
    return SegmentationData(files, masks, Classes(tuple(names)))


def coco_splits(root: Path) -> list[str]:
    """Return the usual splits whose annotation file is there."""
    return [name for name in SPLITS if any(is_file(root / file.format(name)) for file in FILES)]


def decode_runs(segmentation: CocoRuns, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decode run lengths, which go down the columns and begin with zeros.

    Args:
        segmentation: Of any size.
        size: Height and width that it must have.

    Returns:
        ``(H, W)`` bool.

    Raises:
        ValueError: Size or counts do not fit.
    """
    counts = segmentation.counts
    runs = list(_runs_of(counts)) if isinstance(counts, str) else counts
    if segmentation.size != size:
        raise ValueError(f"run lengths of size {list(segmentation.size)} in an image of {list(size)}")
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise ValueError(f"run lengths add up to {sum(runs)}, not to {size[0] * size[1]} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size[1], size[0]).T


def encode_runs(mask: Pixels8 | npt.NDArray[np.bool_]) -> CocoRuns:
    """Return the uncompressed run lengths of a mask ``(H, W)``; the opposite of :func:`decode_runs`."""
    flat = (np.asarray(mask) != 0).T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, flat.size]).tolist()
    height, width = mask.shape
    return CocoRuns((height, width), [0, *runs] if flat[0] else runs)


def _runs_of(text: str) -> Iterator[int]:
    """Decode the compressed text.

    A character is 48 and 5 bits of a number, the lowest first, and a bit for "more"; from the fourth run on, the
    numbers are differences to the run two before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if shift > MAX_RUN_BITS or not 0 <= bits < 64:
            raise ValueError("compressed run lengths with a number that is none")
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift  # negative: the sign goes on
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            yield runs[-1]
            value = shift = 0
    if shift:
        raise ValueError("compressed run lengths that end too early")


def _ordered(objects: list[CocoAnnotation]) -> list[CocoAnnotation]:
    return sorted(objects, key=lambda found: -_area(found.segmentation))  # not `area`, which tools leave at 0 or 1


def _area(segmentation: Segmentation | None) -> float:
    if isinstance(segmentation, CocoRuns):
        counts = segmentation.counts
        return float(sum(itertools.islice(_runs_of(counts) if isinstance(counts, str) else counts, 1, None, 2)))
    return sum((polygon_area(_corners(polygon)) for polygon in segmentation or ()), 0.0)


def _corners(polygon: list[float]) -> npt.NDArray[np.float64]:
    return np.array(polygon, np.float64).reshape(-1, 2)


def _refuse_twice(ids: Sequence[int | str], what: str) -> None:
    twice = [number for number, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]!r} is there twice")


def _segmentation(found: CocoAnnotation) -> Segmentation:
    if not found.segmentation:
        raise UnipError(
            f"annotation {found.id} has no outline, only a box",
            "Semantic segmentation needs polygons or run lengths.",
        )
    return found.segmentation


def _file_of(root: Path, split: str | None) -> Path:
    tried = [root / name.format(split or "train") for name in FILES]
    path = next((there for there in tried if exists(there)), None) if split else None
    if path is None:
        there = coco_splits(root)
        hint = f" Splits there: {', '.join(there)}." if there else ""
        raise UnipError(
            f"no COCO annotation file of {split_named(split)} in {root}",
            f"Expected {' or '.join(os.path.relpath(t, root) for t in tried)}, or give the file as coco:FILE.{hint}",
        )
    return path
