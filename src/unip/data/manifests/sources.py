"""The image files of a data set's folders, and the dataset and modality that folder names tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unip.data.images.files import check_images, list_images
from unip.errors import UnipError

MODALITIES = ("infrared", "rgb", "depth")
# Folder names that do not say which dataset they belong to.
PLAIN_NAMES = {
    *("images", "thermal", "infrared", "ir", "rgb", "visible", "infpre", "data"),
    *("train", "val", "test", "train2017", "val2017"),
}


@dataclass(frozen=True)
class ImageFile:
    """An image file of a source; ``modality`` is None where the pixels must tell."""

    path: Path
    source: str
    modality: str | None


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
    if equals and head in MODALITIES and not Path(source).exists():
        raise UnipError(f"the source {source!r} names no folder", f"Write {head}=FOLDER.")
    if equals and head.isalpha() and not Path(source).exists():
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
    if find_index(path) is None and not Path(path).exists():
        raise UnipError(f"no such manifest: {path}", "Make one with `unip data build`.")


def list_source(
    location: Path, modality: str | None, on_error: Callable[[OSError], None] | None = None
) -> Iterator[ImageFile]:
    """List the images of a folder (or one file) with absolute paths; masks beside images are left out.

    Args:
        location: The folder.
        modality: Its modality if that is settled, else None: the folders' names are asked.
        on_error: Called for each folder inside that cannot be opened; by default those are passed over.

    Yields:
        Files sorted by their path.

    Raises:
        UnipError: It is missing or holds no image.
    """
    folder = Path(os.path.abspath(location if location.is_dir() else location.parent))
    masks = {folder: False}
    for listed in list_images(location, on_error):
        path = Path(os.path.abspath(listed))
        if path.parent not in masks:
            between = [path.parent, *path.parent.parents][: len(path.parent.parts) - len(folder.parts)]
            masks[path.parent] = any(p.name == "masks" and (p.parent / "images").is_dir() for p in between)
        if not masks[path.parent]:
            source, named = name_source(path, folder)
            yield ImageFile(path, source, modality or named)


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
    return location / INDEX if (location / INDEX).is_file() else None


def is_manifest(location: Path) -> bool:
    """Say whether a source is a manifest or a packed set, which need no scan."""
    return location.suffix.lower() == ".parquet" or find_index(location) is not None
