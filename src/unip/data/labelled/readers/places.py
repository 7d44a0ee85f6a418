"""Where a plain folder has its images and masks: the documented places, those that are given, or the usual ones.

For a split these are, with any name of :data:`IMAGE_FOLDERS` and :data:`MASK_FOLDERS`, in any case,

```
ROOT/SPLIT/images     ROOT/SPLIT/masks
ROOT/images/SPLIT     ROOT/masks/SPLIT
ROOT/JPEGImages       ROOT/SegmentationClass       and ROOT/ImageSets/Segmentation/SPLIT.txt (Pascal VOC)
ROOT/SPLIT/*.jpg      ROOT/SPLIT/masks, or masks with a suffix beside the images
```

and the same without SPLIT for data without splits. If none of these make pairs, folders of binary masks for each class:

```
ROOT/SPLIT/CLASS      ROOT/CLASS/SPLIT      ROOT/masks/CLASS/SPLIT
```
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unip.data.images.files import IMAGE_FOLDERS, MASK_FOLDERS, SUFFIXES
from unip.data.labelled.settings import Places
from unip.errors import UnipError
from unip.paths import is_dir, is_file, list_folder

LISTS = "ImageSets/Segmentation"
USUAL = ("train", "val", "test")
ALSO_USUAL = ("training", "valid", "validation", "testing")
SPLIT = "{split}"  # in a given folder: the name of the split


WITHOUT_SPLITS = 'Without splits, give --split "".'


def split_named(split: str | None) -> str:
    """Return what a message calls a split."""
    return f"split {split!r}" if split else "data without splits"


@dataclass(frozen=True)
class Folders:
    """A folder of images, one of masks, and the file that lists the images of a split if there is one."""

    images: Path
    masks: Path
    listing: Path | None = None

    @property
    def is_flat(self) -> bool:
        """Whether the masks lie among or below the images, so that only images directly in the folder count."""
        return self.images == self.masks or self.images in self.masks.parents


def candidates(root: Path, split: str | None, places: Places) -> list[Folders]:
    """Return the folders that may hold the images and masks of a split; the documented ones alone if they are there.

    Raises:
        UnipError: A given folder is not there.
    """
    base = root / split if split else root
    if places.images is None and places.masks is None and is_dir(base / "images") and is_dir(base / "masks"):
        return [Folders(base / "images", base / "masks")]
    file = root / LISTS / f"{split}.txt"
    listing = file if split and is_file(file) else None
    images = _places(root, split, places.images, IMAGE_FOLDERS, listing, "--images")
    masks = _places(root, split, places.masks, MASK_FOLDERS, listing, "--masks")
    if not images and places.images is None and is_dir(base) and _has_images(base):
        images = [base]
    if places.masks is None:
        pairs = [Folders(i, m, _if_whole(listing, split, i)) for i in images for m in masks]
        return pairs or [Folders(i, i, _if_whole(listing, split, i)) for i in images]
    return [Folders(i, m, _if_whole(listing, split, i)) for i in images for m in masks]


def class_candidates(root: Path, split: str | None, places: Places) -> list[tuple[Folders, dict[str, Path]]]:
    """Return folders of images, each with the folders by name that may hold the masks of a class."""
    base = root / split if split else root
    images = _places(root, split, places.images, IMAGE_FOLDERS, None, "--images")
    if not images and is_dir(base) and _has_images(base):
        images = [base]
    above = [(base, "")] if split is None else [(base, ""), *((m, split) for m in (root, *_named(root, MASK_FOLDERS)))]
    found = []
    for folder in images:
        for place, inner in above:
            named = {path.name: path / inner for path in _folders(place) if is_dir(path / inner)}
            named = {name: path for name, path in named.items() if name.lower() not in (*IMAGE_FOLDERS, *MASK_FOLDERS)}
            others = {name: path for name, path in named.items() if path != folder and path not in folder.parents}
            found.append((Folders(folder, place), others))
    return found


def list_splits(root: Path, places: Places) -> list[str]:
    """Return the names of the splits that a folder seems to have, the usual ones first."""
    if not is_dir(root):
        return []
    folders = [path for path in list_folder(root) if is_dir(path)]
    found = {path.stem for path in root.glob(f"{LISTS}/*.txt")}
    image_folders = [path for path in folders if path.name.lower() in IMAGE_FOLDERS]
    mask_folders = [path for path in folders if path.name.lower() in MASK_FOLDERS]
    if places.images is not None and SPLIT not in places.images:
        image_folders = [root / places.images]
    if places.masks is not None and SPLIT not in places.masks:
        mask_folders = [root / places.masks]
    others = [folder for folder in folders if folder not in image_folders]
    of_masks = [*mask_folders, *others, *(inner for folder in mask_folders for inner in _folders(folder))]
    for folder in image_folders:
        found |= {path.name for path in _folders(folder) if any(is_dir(m / path.name) for m in of_masks)}
    for folder in set(folders) - {*image_folders, *mask_folders, *_above_given(root, places)}:
        inner = {path.name.lower() for path in _folders(folder)}
        given = (places.images, places.masks)
        is_given = any(text is not None and is_dir(folder / text.replace(SPLIT, folder.name)) for text in given)
        is_flat = folder.name in (*USUAL, *ALSO_USUAL) and _has_images(folder)
        if is_given or is_flat or inner & {*IMAGE_FOLDERS, *MASK_FOLDERS}:
            found.add(folder.name)
    return [name for name in USUAL if name in found] + sorted(found - set(USUAL))


def _above_given(root: Path, places: Places) -> set[Path]:
    """Return the folders above those that are given, such as ``annotations`` of ``annotations/masks``: no splits."""
    given = [root / text for text in (places.images, places.masks) if text is not None and SPLIT not in text]
    return {above for folder in given if is_dir(folder) for above in folder.parents}


def _places(
    root: Path, split: str | None, given: str | None, names: tuple[str, ...], listing: Path | None, option: str
) -> list[Path]:
    if given is None:
        above = [folder / split if split else folder for folder in _named(root, names)]
        return [
            folder
            for folder in (*above, *(_named(root / split, names) if split else ()), *_whole(root, names, listing))
            if is_dir(folder)
        ]
    if split is None or SPLIT in given:
        options = [root / given.replace(SPLIT, split or "")]
    else:
        options = [root / given / split, root / split / given, *([root / given] if listing else [])]
    found = [folder for folder in dict.fromkeys(options) if is_dir(folder)]
    if not found:
        hint = "" if split is None else f" {SPLIT} in {option} stands for the name of the split."
        hint += f" {WITHOUT_SPLITS}" if split and is_dir(root / given) else ""
        raise UnipError(
            f"{option} {given}: no such folder of {root}", f"Expected {' or '.join(map(str, options))}.{hint}"
        )
    return found


def _whole(root: Path, names: tuple[str, ...], listing: Path | None) -> Iterator[Path]:
    """Yield the folders that hold all splits, where a file lists the images of each."""
    if listing is not None:
        yield from _named(root, names)


def _if_whole(listing: Path | None, split: str | None, images: Path) -> Path | None:
    """Return the list, unless the folder holds this split alone."""
    return None if listing is None or split in images.parts[-2:] else listing


def _named(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the subfolders with one of some names, in any case, in the order of the names."""
    found = [path for path in _folders(root) if path.name.lower() in names]
    return sorted(found, key=lambda path: names.index(path.name.lower()))


def _folders(root: Path) -> list[Path]:
    return [path for path in list_folder(root) if is_dir(path)] if is_dir(root) else []


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES and is_file(path) for path in list_folder(folder))
