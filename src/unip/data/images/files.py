"""Finding image files by their names; nothing is read."""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unip.errors import UnipError
from unip.paths import exists, is_dir, is_file

log = logging.getLogger(__name__)

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")  # in any case
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "gt", "segmentationclass")  # in any case
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_KNOWN = f"Known endings: {', '.join(SUFFIXES)}."

_NUMBERS = "save each frame as 16-bit PNG or TIFF"
_VIDEO = "take frames with `unip data build` and a recipe with `video:`"
_PICTURE = "save it as PNG or TIFF"
_ARCHIVE = "unpack it"
#: Files that may hold frames but are not read as images, and the way on.
WAYS_ON = {
    **dict.fromkeys(
        (".npy", ".npz", ".mat", ".csv", ".h5", ".hdf5", ".raw", ".bin", ".seq", ".fff", ".fits"), _NUMBERS
    ),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"), _VIDEO),
    **dict.fromkeys((".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".dng", ".pgm", ".ppm", ".tga"), _PICTURE),
    **dict.fromkeys((".zip", ".tar", ".gz", ".7z", ".rar"), _ARCHIVE),
}


def check_exists(location: Path) -> None:
    """Refuse a folder or file that does not exist.

    Raises:
        UnipError: It is not, or is a pipe, a device or a socket.
    """
    if not exists(location):
        raise UnipError(f"no such folder or image: {location}", "Check the path.")
    if not is_dir(location) and not is_file(location):
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
    skipped: list[str] = []
    found = list(_find_images(Path(location), on_error, skipped))
    if not found:
        raise _no_images(location, skipped)
    if skipped:
        _say_skipped(f"{location}: {describe_skipped(skipped)}")
    return sorted(found, key=os.fsencode)


def check_images(location: Path | str) -> None:
    """Refuse what :func:`list_images` would refuse; ends at the first image.

    Raises:
        UnipError: It is missing, or there is no image.
    """
    skipped: list[str] = []
    if next(_find_images(Path(location), skipped=skipped), None) is None:
        raise _no_images(location, skipped)


def find_skipped(location: Path | str) -> list[str]:
    """Return the names of the files of a folder that may hold frames, but are not read as images.

    Args:
        location: A folder, or an image file.

    Returns:
        Names that end as :data:`WAYS_ON` knows, sorted.

    Raises:
        UnipError: It is missing.
    """
    skipped: list[str] = []
    for _ in _find_images(Path(location), skipped=skipped):
        pass
    return sorted(skipped)


def describe_skipped(skipped: Sequence[str]) -> str:
    """Say how many files of each ending of :data:`WAYS_ON` are no images, and what to do with them."""
    counts = Counter(os.path.splitext(name)[1].lower() for name in skipped)
    parts = [f"{count} {ending} ({WAYS_ON[ending]})" for ending, count in sorted(counts.items())]
    return f"skipped, since they are not read as images: {', '.join(parts)}"


@functools.lru_cache(maxsize=256)  # a folder may be listed several times
def _say_skipped(message: str) -> None:
    log.info(message)


def _find_images(
    location: Path, on_error: Callable[[OSError], None] | None = None, skipped: list[str] | None = None
) -> Iterator[Path]:
    """Yield the images as they are found; the names of other files of :data:`WAYS_ON` go to ``skipped``."""
    if is_file(location):
        if location.suffix.lower() not in SUFFIXES:
            way = WAYS_ON.get(location.suffix.lower())
            hint = f"Instead, {way}. " if way else ""
            raise UnipError(f"{location} is not an image file by its name", hint + _KNOWN)
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
            ending = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if ending in SUFFIXES:
                yield Path(folder, name)
            elif skipped is not None and ending in WAYS_ON:
                skipped.append(name)


def _no_images(location: Path | str, skipped: Sequence[str]) -> UnipError:
    return UnipError(f"no images in {location}" + (f"; {describe_skipped(skipped)}" if skipped else ""), _KNOWN)
