"""Layouts of folders with one mask file for each image, as data: where things are, what ids mean, which splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unip.data.images.files import SUFFIXES, list_images
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.masks import MaskFile, make_ids, plain_ids
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.files import read_lines
from unip.paths import exists, is_dir, is_file


@dataclass(frozen=True)
class Split:
    """Where one split lies; of several places the first that exists counts.

    Attributes:
        images: Folders of images.
        masks: Folders of masks.
        lists: Files with the names of the split; none: every image of the folder.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    lists: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A data set with one mask file an image.

    Attributes:
        title: Its name for people.
        classes: Names and colours.
        splits: Where each official split lies.
        ids: What ids in the masks mean (class id, or 255); empty: class ids as they are, 255 ignored.
        channel: The channel of the images that is wanted; None: all.
        endings: What follows an image's name in its mask's.
    """

    title: str
    classes: Classes
    splits: Mapping[str, Split]
    ids: Mapping[int, int] = field(default_factory=dict)
    channel: int | None = None
    endings: tuple[str, ...] = (".png",)


def open_layout(layout: Layout, root: Path, split: str | None) -> SegmentationData:
    """List a split of a released data set; see :func:`unip.data.labelled.datasets.open_segmentation`."""
    place = layout.splits.get(split or "")
    if not is_dir(root):
        raise UnipError(f"no such folder: {root}", _expected(layout, root, split))
    if place is None:
        asked = f"no split {split!r}" if split else "no data without a split"
        raise UnipError(
            f"{layout.title} has {asked}; its authors' splits are {', '.join(layout.splits)}",
            f"Name one of them, for {root}.",
        )
    images, masks = (_first(root, names) for names in (place.images, place.masks))
    listing = _first(root, place.lists)
    if images is None or masks is None or (place.lists and listing is None):
        missing = [
            " or ".join(names)
            for names, found in ((place.images, images), (place.masks, masks), (place.lists, listing))
            if names and found is None
        ]
        raise UnipError(
            f"{root} is not {layout.title} as it is released: there is no {', no '.join(missing)}",
            _expected(layout, root, split),
        )
    if listing is None:
        paths = list_images(images)
        found = [(path, _mask_of(path.relative_to(images).with_suffix(""), masks, layout.endings)) for path in paths]
    else:
        found = _listed(listing, root, images, masks, layout.endings)
    missing_masks = [(path, mask) for path, mask in found if not is_file(mask)]
    if missing_masks:
        raise UnipError(
            f"{len(missing_masks)} of {len(found)} images of {layout.title} {split} have no mask, the first: "
            f"{missing_masks[0][0]}",
            f"Expected {missing_masks[0][1]}. Is the download complete?",
        )
    return SegmentationData(
        tuple(path for path, _ in found),
        tuple(MaskFile(mask) for _, mask in found),
        layout.classes,
        make_ids(layout.ids) if layout.ids else plain_ids(layout.classes),
        layout.channel,
        released=True,
    )


def layout_splits(layout: Layout, root: Path) -> list[str]:
    """Return the official splits whose folders and lists are there."""
    return [
        name
        for name, place in layout.splits.items()
        if _first(root, place.images) and _first(root, place.masks) and (not place.lists or _first(root, place.lists))
    ]


def _listed(listing: Path, root: Path, images: Path, masks: Path, endings: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """Pair what a list file names: a name, a file or a path, alone or followed by that of its mask."""
    lines = [line.replace("\\", "/").replace(",", " ").split() for line in read_lines(listing) if line.strip()]
    if not lines:
        raise UnipError(f"{listing} names no image", "Copy it again.")
    there = {path.relative_to(images).with_suffix(""): path for path in list_images(images)}
    by_name: dict[str, Path | None] = {}
    for inner, path in there.items():
        by_name[inner.name] = None if inner.name in by_name else path
    found = []
    for words in lines:
        inside = next((word for word in words if images in (root / word).parents and is_file(root / word)), words[0])
        named = Path(inside)
        stem = named.with_suffix("") if named.suffix.lower() in SUFFIXES else named
        image = root / named if images in (root / named).parents else there.get(stem) or by_name.get(stem.name)
        if image is None:
            raise UnipError(
                f"{listing} names {words[0]}, but there is no image of that name in {images}",
                "Is the download complete, and the list of the same version?",
            )
        last = Path(words[-1])
        if len(words) > 1 and is_file(root / last) and masks in (root / last).parents:
            found.append((image, root / last))
        else:
            found.append((image, _mask_of(image.relative_to(images).with_suffix(""), masks, endings)))
    return found


def _mask_of(stem: Path, masks: Path, endings: tuple[str, ...]) -> Path:
    """Return the mask of an image: the first ending that exists, beside it or without the image's subfolder."""
    options = [masks / inner.with_name(inner.name + ending) for ending in endings for inner in (stem, Path(stem.name))]
    return next((path for path in options if is_file(path)), options[0])


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if exists(root / name)), None)


def _expected(layout: Layout, root: Path, split: str | None) -> str:
    chosen = {split: layout.splits[split]} if split and split in layout.splits else layout.splits
    lines = []
    for name, place in chosen.items():
        parts = [" or ".join(f"{root / part}" for part in parts) for parts in (place.images, place.masks, place.lists)]
        lines.append(f"{name}: images in {parts[0]}, masks in {parts[1]}" + (f", list {parts[2]}" if parts[2] else ""))
    return f"Expected for {layout.title}: " + "; ".join(lines) + "."


def shifted(names: tuple[str, ...]) -> dict[int, int]:
    """Return the ids of masks that count classes from 1 and use 0 (and 255) for no label."""
    return {0: IGNORE, IGNORE: IGNORE, **{i + 1: i for i in range(len(names))}}
