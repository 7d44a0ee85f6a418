"""What exports of annotation tools share: outlines and masks of objects by image, which are drawn as COCO's are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unip.data.labelled.classes import IGNORE, Classes, background_id
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.readers.coco import CocoMask
from unip.data.labelled.saying import say_left_out
from unip.errors import UnipError
from unip.paths import is_file

log = logging.getLogger(__name__)

IGNORED = ("ignore", "__ignore__")  # labels of pixels that have none


@dataclass(frozen=True)
class DrawnImage:
    """The objects of one image, in the order in which they are drawn.

    Attributes:
        image: The image file.
        size: Height and width of the picture they were drawn on.
        objects: Class id and segmentation as COCO has it: polygons, or run lengths.
    """

    image: Path
    size: tuple[int, int]
    objects: tuple[tuple[int, Any], ...]


@dataclass(frozen=True)
class Drawing:
    """What an export holds.

    Attributes:
        path: The file.
        names: The classes; the first is the background.
        images: The images and their objects.
        passed_over: How many shapes of each kind have no area to draw.
        tool: Its name for people.
    """

    path: Path
    names: tuple[str, ...]
    images: tuple[DrawnImage, ...]
    passed_over: dict[str, int]
    tool: str


def open_drawing(drawing: Drawing) -> SegmentationData:
    """Return the images that have an object, and say what was left out.

    Raises:
        UnipError: No image has one.
    """
    path = drawing.path
    kinds = ", ".join(f"{count} {kind}" for kind, count in drawing.passed_over.items())
    chosen = [each for each in drawing.images if each.objects]
    if not chosen:
        raise UnipError(
            f"no image of {path} has a polygon or a mask" + (f", only {kinds}" if kinds else ""),
            "Semantic segmentation needs outlines: draw polygons or masks, and export again.",
        )
    if kinds:
        log.warning(f"{path}: not drawn, since only polygons and masks have an outline: {kinds}")
    empty = [each.image for each in drawing.images if not each.objects]
    say_left_out(str(path), empty, len(drawing.images), "no outline", path.parent)
    return SegmentationData(
        tuple(each.image for each in chosen),
        tuple(CocoMask(path, each.image, each.size, each.objects) for each in chosen),
        Classes(drawing.names),
    )


def class_ids(labels: Sequence[str], path: Path) -> tuple[list[str], dict[str, int]]:
    """Return the classes, ``background`` first, and the id of each label of an export.

    Raises:
        UnipError: There is no label.
    """
    found = [label for label in dict.fromkeys(labels) if label]
    classes = [label for label in found if background_id([label]) is None and label not in IGNORED]
    if not classes:
        raise UnipError(f"{path} names no class", "Export it again, with labels.")
    names = ["background", *classes]
    return names, {
        label: IGNORE if label in IGNORED else names.index(label) if label in classes else 0 for label in found
    }


def find_image(name: str, folders: Sequence[Path], path: Path) -> Path:
    """Return the file of an image that an export names.

    Raises:
        UnipError: It is in none of the folders.
    """
    found = next((folder / name for folder in folders if is_file(folder / name)), None)
    if found is None:
        raise UnipError(
            f"{path} names {name}, but there is no such image",
            f"Searched in {', '.join(dict.fromkeys(map(str, folders)))}. Export with images, or put them there.",
        )
    return found
