"""Segmentation data: opened from any known layout, checked pair by pair."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.classes import Classes as Classes
from unip.data.labelled.pairs import Pair, Unpaired
from unip.data.labelled.pairs import SegmentationData as SegmentationData
from unip.data.labelled.pairs import check_pair as check_pair
from unip.data.labelled.readers import READERS
from unip.data.labelled.readers.folder import open_folder
from unip.data.labelled.remap import remapped
from unip.data.labelled.settings import FOUND, Places
from unip.data.labelled.turning import turn_masks
from unip.errors import UnipError
from unip.paths import exists, expand
from unip.runtime.workers import map_processes

T = TypeVar("T")

Counts = npt.NDArray[np.int64]

INFRARED = "infrared="  # in front of a source
SHOWN = 5  # bad files that a message names


def open_segmentation(
    source: Path | str,
    split: str | None = None,
    *,
    remap: Iterable[str] = (),
    places: Places = FOUND,
    unpaired: Unpaired | None = None,
) -> SegmentationData:
    """List the pairs of a segmentation data set and its classes; pixels are read later.

    Args:
        source: A segmentation folder, or ``KIND:PATH`` for another layout, such as ``mfnet:data/MFNet``. With
            ``infrared=`` in front, colours of the frames are those of a palette, never natural ones.
        split: Which part, such as ``"train"``; None or "" where a layout has no parts.
        remap: Changes of labels, ``OLD=NEW``, see :func:`unip.data.labelled.remap.remapped`.
        places: Where a plain folder has its images and masks, and how masks of images with an EXIF orientation lie, as
            far as that is to be given.
        unpaired: Gets images without a mask and masks without an image of a plain folder; the latter are then no error.

    Returns:
        The pairs, in an order that does not depend on the file system.

    Raises:
        UnipError: A folder, a mask or the classes are missing or bad, there is no image, or no such kind or split; or
            nothing tells how the masks of images with an EXIF orientation lie.
    """
    kind, root = split_kind(source)
    if kind == "folder" and unpaired is not None:
        opened = open_folder(root, split or None, places, unpaired)
    elif places.are_given:
        opened = _open_placed(kind)(root, split or None, places)
    else:
        opened = READERS[kind].open(root, split or None)
    turned = turn_masks(opened, places.mask_orientation, f"{root} {split}" if split else str(root))
    data = remapped(turned, remap)
    return dataclasses.replace(data, is_infrared=True) if str(source).startswith(INFRARED) else data


def list_splits(source: Path | str, places: Places = FOUND) -> list[str]:
    """Return the names of the splits that are there, of those that the layout can have."""
    kind, root = split_kind(source)
    if not places.are_given:
        return READERS[kind].splits(root)
    _open_placed(kind)
    return READERS[kind].placed_splits(root, places)


def _open_placed(kind: str) -> Callable[[Path, str | None, Places], SegmentationData]:
    found = READERS[kind].open_placed
    if found is None:
        raise UnipError(
            f"images, masks and mask_suffix say where a plain folder has them, but {kind} has its own places",
            "Leave them out, or give the folder without a kind.",
        )
    return found


def split_kind(source: Path | str) -> tuple[str, Path]:
    """Split ``KIND:PATH``, without ``infrared=``; a plain path is a segmentation folder, kind ``folder``.

    Raises:
        UnipError: The kind is not known.
    """
    source = str(source).removeprefix(INFRARED)
    kind, colon, rest = source.partition(":")
    if not colon or len(kind) < 2 or "/" in kind or "\\" in kind or (kind not in READERS and exists(source)):
        return "folder", Path(source)
    if kind not in READERS:
        near = difflib.get_close_matches(kind, READERS, n=1, cutoff=0.5)
        raise UnipError(
            f"unknown kind of segmentation data {kind!r}",
            (f"Did you mean {near[0]}:{rest}? " if near else "") + f"Known: {', '.join(READERS)}.",
        )
    return kind, expand(rest)


def check_segmentation(data: SegmentationData) -> dict[str, int]:
    """Decode every pair and count the pixels of each class.

    Returns:
        Pixels by class name, in the order of the ids, and the rest as ``"ignore"``.

    Raises:
        UnipError: Some pair is damaged, has two sizes or an unknown id; the message names the first ones.
    """
    counts = check_pairs(data, lambda pair: count_pixels(pair, data.classes))
    return by_name(np.sum(counts, axis=0), data.classes)


def check_pairs(
    data: SegmentationData, function: Callable[[Pair], T], *, first: Pair | UnipError | None = None
) -> list[T]:
    """Decode every pair and look at it.

    Args:
        data: The pairs.
        function: Called with each pair; its results travel between processes.
        first: What :func:`try_read` gave for the first pair, if it was read before.

    Returns:
        What ``function`` returned, in the order of the pairs.

    Raises:
        UnipError: Some pair is damaged, has two sizes or an unknown id; the message names the first ones.
    """
    here = try_read(data, 0) if first is None else first  # not by a worker, so that what it says is said once

    def check(i: int) -> T | UnipError:
        pair = try_read(data, i) if i else here
        return pair if isinstance(pair, UnipError) else function(pair)

    seen: list[T] = []
    bad: list[UnipError] = []
    for result in map_processes(check, range(len(data)), "checking pairs", unit="pairs"):
        if isinstance(result, UnipError):
            bad.append(result)
        else:
            seen.append(result)
    if len(bad) == 1:
        raise bad[0]
    if bad:
        lines = "\n".join(f"  {error.what}" for error in bad[:SHOWN])
        raise UnipError(f"{len(bad)} of {len(data)} pairs are bad:\n{lines}", f"For the first: {bad[0].fix}")
    return seen


def try_read(data: SegmentationData, index: int) -> Pair | UnipError:
    """Read a pair; what is wrong with it comes as a value."""
    try:
        return data.read(index)
    except UnipError as error:
        return error


def count_pixels(pair: Pair, classes: Classes) -> Counts:
    """Count the pixels of each class, in the order of the ids, then those without a label: ``(C + 1,)``."""
    counts = np.bincount(pair.mask.ravel(), minlength=256)
    return np.append(counts[: len(classes.names)], counts[IGNORE])


def by_name(counts: Counts, classes: Classes) -> dict[str, int]:
    """Name counts of :func:`count_pixels`: the classes in order, then ``"ignore"``."""
    return dict(zip([*classes.names, "ignore"], counts.tolist(), strict=True))
