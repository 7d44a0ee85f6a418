"""Finding image files by their names; nothing is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from unip.errors import UnipError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_KNOWN = f"Known endings: {', '.join(SUFFIXES)}."


def check_exists(location: Path) -> None:
    """Refuse a folder or file that does not exist.

    Raises:
        UnipError: It is not, or is a pipe, a device or a socket.
    """
    if not location.exists():
        raise UnipError(f"no such folder or image: {location}", "Check the path.")
    if not location.is_dir() and not location.is_file():
        raise UnipError(f"{location} is not a regular file", "Give a folder or an image file; pipes are not read.")


def list_images(location: Path | str, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """List the images of a folder and its subfolders (links are followed), or a single image file.

    Names are matched by suffix in any case; hidden files and folders are skipped.

    Args:
        location: A folder or an image file.
        on_error: Called for each folder inside that cannot be opened; by default those are passed over.

    Returns:
        Paths sorted by their bytes.

    Raises:
        UnipError: It is missing, or there is no image.
    """
    found = list(_find_images(Path(location), on_error))
    if not found:
        raise _no_images(location)
    return sorted(found, key=os.fsencode)


def check_images(location: Path | str) -> None:
    """Refuse what :func:`list_images` would refuse; ends at the first image.

    Raises:
        UnipError: It is missing, or there is no image.
    """
    if next(_find_images(Path(location)), None) is None:
        raise _no_images(location)


def _find_images(location: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Yield the images as they are found."""
    if location.is_file():
        if location.suffix.lower() not in SUFFIXES:
            raise UnipError(f"{location} is not an image file by its name", _KNOWN)
        yield location
        return
    check_exists(location)
    seen: set[str] = set()  # a link may lead back up
    for folder, folders, files in os.walk(location, onerror=on_error, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(folder, name)


def _no_images(location: Path | str) -> UnipError:
    return UnipError(f"no images in {location}", _KNOWN)
