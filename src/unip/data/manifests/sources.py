"""The image files of a data set's folders, and the dataset and modality that folder names tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unip.data.images.files import IMAGE_FOLDERS, MASK_FOLDERS, SUFFIXES, check_images, list_images
from unip.errors import UnipError
from unip.paths import exists, is_dir, is_file, list_folder

if TYPE_CHECKING:
    from unip.data.manifests.rows import Row

MODALITIES = ("infrared", "rgb", "depth")
# Folder names that do not say which dataset they belong to.
PLAIN_NAMES = {
    *("images", "thermal", "infrared", "ir", "rgb", "visible", "infpre", "data"),
    *("train", "val", "test", "train2017", "val2017"),
}


@dataclass(slots=True)
class Entry:
    """An image that a source offers; what is found out about it is filled in on the way.

    Attributes:
        key: Its path inside the source: what caps draw by, whatever the disk or the order of a listing.
        source: Name of the dataset.
        modality: None where the pixels must tell.
        label: Its class: the folder of the key, or what a dataset says.
        path: The file, perhaps yet to be fetched; empty of an image that lies in a manifest.
        group: The video or flight that neighbouring frames share.
        frame: Place in it.
        row: What is known of it: from a manifest, or once it was read.
        reason: Why it is dropped; empty if it is not.
    """

    key: bytes
    source: str
    modality: str | None = None
    label: bytes = b""
    path: bytes = b""
    group: str = ""
    frame: int | None = None
    row: Row | None = None
    reason: str = ""


def printable(path: bytes | str) -> str:
    """Return a path for people: bytes that are not UTF-8 and control characters come as escapes, on one line."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def split_source(source: str) -> tuple[str | None, Path]:
    """Split ``infrared=FOLDER`` or ``rgb=FOLDER``; a folder whose own name holds ``=`` is left whole.

    Raises:
        UnipError: The word in front of ``=`` is no modality.
    """
    head, equals, rest = source.partition("=")
    if equals and head in MODALITIES and rest:
        return head, Path(rest)
    if equals and head in MODALITIES and not exists(source):
        raise UnipError(f"the source {source!r} names no folder", f"Write {head}=FOLDER.")
    if equals and head.isalpha() and not exists(source):
        raise UnipError(f"unknown modality {head!r} in the source {source!r}", f"Known: {', '.join(MODALITIES)}.")
    return None, Path(source)


def check_sources(sources: Sequence[str]) -> None:
    """Refuse sources that are not there or hold no image by its name, without reading any.

    Raises:
        UnipError: One is missing or holds none.
    """
    for source in sources:
        _, location = split_source(source)
        if is_manifest(location):
            check_manifest(location)
        else:
            check_images(location)


def check_manifest(path: Path | str) -> None:
    """Refuse a manifest or packed set that is not there.

    Raises:
        UnipError: It is missing.
    """
    if find_index(path) is None and not exists(path):
        raise UnipError(f"no such manifest: {path}", "Make one with `unip data build`.")


def list_source(
    location: Path, modality: str | None, on_error: Callable[[OSError], None] | None = None
) -> Iterator[Entry]:
    """List the images of a folder (or one file) with absolute paths; masks beside images are left out.

    Args:
        location: The folder.
        modality: Its modality if that is settled, else None: the folders' names are asked.
        on_error: Called for each folder inside that cannot be opened; by default those are passed over.

    Yields:
        Files sorted by their path; keys are paths inside the folder.

    Raises:
        UnipError: It is missing or holds no image.
    """
    folder = Path(os.path.abspath(location if is_dir(location) else location.parent))
    masks = {folder: False}
    for listed in list_images(location, on_error):
        path = Path(os.path.abspath(listed))
        if path.parent not in masks:
            between = [path.parent, *path.parent.parents][: len(path.parent.parts) - len(folder.parts)]
            masks[path.parent] = any(_holds_masks(folder) for folder in between)
        if not masks[path.parent]:
            yield entry_of(path, folder, modality)


def _holds_masks(folder: Path) -> bool:
    """Say whether a folder is one of masks by its name, and has frames beside it as segmentation folders have."""
    if folder.name.lower() not in MASK_FOLDERS:
        return False
    beside = [path for path in list_folder(folder.parent) if path != folder]
    return any(path.name.lower() in IMAGE_FOLDERS or path.suffix.lower() in SUFFIXES for path in beside)


def entry_of(path: Path, folder: Path, modality: str | None) -> Entry:
    """Make the entry of a file in or below ``folder``, both absolute; ``modality`` as of :func:`list_source`."""
    source, named = name_source(path, folder)
    key = os.fsencode(path.relative_to(folder))
    return Entry(key, source, modality or named, os.path.dirname(key), os.fsencode(path))


def name_source(path: Path, folder: Path) -> tuple[str, str | None]:
    """Tell dataset and modality from the names of the folders from ``folder`` down to the file.

    The deepest ``thermal`` or ``rgb`` counts: ``<dataset>/thermal``, ``infpre/<dataset>/rgb``, ``rgb/<dataset>`` and
    ``<dataset>/rgb``. Where they name no dataset, it is the nearest folder upwards whose name tells something.
    """
    names = [folder.name, *path.parent.relative_to(folder).parts]
    above = (name for name in reversed(folder.parts) if name not in PLAIN_NAMES)
    source, modality = next(above, folder.name), None
    place = next((i for i in reversed(range(len(names))) if names[i] in ("thermal", "rgb")), None)
    if place is not None:
        modality = "infrared" if names[place] == "thermal" else "rgb"
        before, after = names[max(0, place - 1) : place], names[place + 1 : place + 2]
        paired = modality == "infrared" or names[max(0, place - 2) : place - 1] == ["infpre"]
        near = before if paired or not after else after
        if near and near[0] not in PLAIN_NAMES:
            source = near[0]
    return source, modality


INDEX = "packed.json"


def find_index(location: Path | str) -> Path | None:
    """Return the index of a packed set, given its folder or the index itself; None if it is neither."""
    location = Path(location)
    if location.name == INDEX:
        return location
    return location / INDEX if is_file(location / INDEX) else None


def is_manifest(location: Path) -> bool:
    """Say whether a source is a manifest or a packed set, which need no scan."""
    return location.suffix.lower() == ".parquet" or find_index(location) is not None
