"""Pairing the images of a plain folder with their masks by name."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from unip.data.images.files import SUFFIXES, list_images
from unip.data.labelled.binary_masks import read_binary
from unip.data.labelled.pairs import Unpaired
from unip.data.labelled.readers.found import (
    FolderPairs,
    Found,
    Stems,
    describe_found,
    expected,
    no_pairs,
    not_a_folder,
    refuse_several,
)
from unip.data.labelled.readers.places import Folders, candidates, class_candidates
from unip.data.labelled.settings import Places
from unip.errors import UnipError
from unip.files import read_lines
from unip.paths import is_dir, is_file

MASK_WORDS = ("mask", "masks", "label", "labels", "gt", "seg")
MASK_SUFFIXES = tuple(mark + word for mark in "_-" for word in MASK_WORDS)  # in any case


def find_pairs(
    root: Path, split: str | None, places: Places, also: str, unpaired: Unpaired | None = None
) -> FolderPairs:
    """Find the pairs of a split of a plain folder, and say what was guessed and left out.

    Args:
        root: The folder.
        split: The split; None: the folder itself.
        places: What is given.
        also: What else belongs into such a folder, for the message.
        unpaired: Gets images without a mask, and masks without an image, which are then no error.

    Raises:
        UnipError: There are none, several places or suffixes fit, or a mask has no image.
    """
    if is_file(root):
        raise not_a_folder(root)
    if not is_dir(root):
        raise UnipError(f"no such folder: {root}", expected(root, split, also))
    if places.mask_suffix is not None and Path(places.mask_suffix).suffix.lower() in SUFFIXES:
        places = dataclasses.replace(places, mask_suffix=str(Path(places.mask_suffix).with_suffix("")))
    tried = [_look(folders, places.mask_suffix) for folders in candidates(root, split, places)]
    fitting = [found for found in tried if found.fits]
    if not fitting and places.masks is None:
        looked = (_look_by_class(folders, named, places) for folders, named in class_candidates(root, split, places))
        fitting = [found for found in looked if found.fits]
    if not fitting:
        raise no_pairs(root, split, places, tried, also)
    if len(fitting) > 1:
        refuse_several(fitting)
    return _pair(fitting[0], root, split, places, unpaired)


def _look(folders: Folders, given: str | None) -> Found:
    shared = folders.images == folders.masks
    masks = _by_stem(folders.masks, _files(folders.masks, shared))
    images = masks if shared else _by_stem(folders.images, _files(folders.images, folders.is_flat))
    suffixes: Counter[str] = Counter()
    by_class: Counter[str] = Counter()
    for stem in masks:
        suffix = _suffix_of(stem, images, given, shared)
        if suffix is not None:
            suffixes[suffix] += 1
    if not suffixes:
        for stem in masks:
            inner = Path(*stem.parts[1:])
            if len(stem.parts) > 1 and _suffix_of(inner, images, given or "", False) is not None:
                by_class[stem.parts[0]] += 1
    return Found(folders, images, masks, suffixes, by_class)


def _look_by_class(folders: Folders, named: dict[str, Path], places: Places) -> Found:
    """Look for binary masks in a folder for each class.

    Raises:
        UnipError: Some of the folders that fit the images hold such masks, and some do not.
    """
    images = _by_stem(folders.images, _files(folders.images, folders.images == folders.masks))
    masks: Stems = {}
    by_class: Counter[str] = Counter()
    others: list[UnipError] = []
    for name, folder in named.items():
        inside = _by_stem(folder, _files(folder, False))
        fitting = [stem for stem in inside if _suffix_of(stem, images, places.mask_suffix or "", False) is not None]
        if fitting:
            try:
                read_binary(inside[fitting[0]][0])
            except UnipError as error:
                others.append(error)
                continue
            by_class[name] = len(fitting)
            masks |= {name / stem: files for stem, files in inside.items()}
    if by_class and others:
        raise UnipError(
            f"{folders.masks} has a folder of masks for {', '.join(by_class)}, but not all folders hold such: "
            f"{others[0].what}",
            "Put the folders of the classes into a folder masks, or move the others away.",
        )
    return Found(folders, images, masks, Counter(), by_class)


def _pair(found: Found, root: Path, split: str | None, places: Places, unpaired: Unpaired | None) -> FolderPairs:
    folders = found.folders
    suffix = _choose_suffix(found, places)
    if folders.images == folders.masks:
        images = {stem: files for stem, files in found.images.items() if not (suffix and stem.name.endswith(suffix))}
    else:
        images = found.images
    for stem, files in images.items():
        if len(files) > 1:
            raise UnipError(
                f"two images of {files[0].parent} are named {stem.name!r} and would share a mask", "Rename one."
            )
    classes = sorted(found.by_class) if found.by_class else [""]
    masks = {stem: _masks_of(stem, classes, suffix, found.masks) for stem in images}
    others, lonely = _other_files(found, suffix, images, {path for files in masks.values() for path in files})
    if lonely and unpaired is None:
        raise _no_image(lonely, suffix, folders)
    wanted = list(images) if folders.listing is None else _listed(folders.listing, images, folders.images)
    labelled = [stem for stem in wanted if masks[stem]]
    if not labelled:
        raise UnipError(f"none of the {len(wanted)} images of {folders.listing} has a mask in {folders.masks}")
    result = FolderPairs(
        tuple(images[stem][0] for stem in labelled),
        tuple(masks[stem] for stem in labelled),
        tuple(sorted(found.by_class)),
        suffix,
        tuple(images[stem][0] for stem in wanted if not masks[stem]),
        tuple(others),
    )
    if unpaired is not None:
        unpaired.images += result.unlabelled
        unpaired.masks += lonely
    describe_found(result, folders, root, split)
    return result


def _choose_suffix(found: Found, places: Places) -> str:
    if places.mask_suffix is not None:
        return places.mask_suffix
    pngs = {stem for stem, files in found.masks.items() if any(path.suffix.lower() == ".png" for path in files)}
    if found.by_class or (found.images is not found.masks and pngs >= set(found.images)):
        return ""  # the documented one: every image has a PNG of its name
    if len(found.suffixes) > 1:
        shown = " and ".join(f"{suffix!r} ({count} masks)" for suffix, count in found.suffixes.most_common())
        raise UnipError(
            f"masks in {found.folders.masks} fit their images in several ways, with the suffixes {shown}",
            f"Name one: --mask-suffix {found.suffixes.most_common(1)[0][0] or chr(34) * 2}.",
        )
    return next(iter(found.suffixes))


def _suffix_of(stem: Path, images: Stems, given: str | None, is_flat: bool) -> str | None:
    """Return what follows the name of the image of a mask; None if it is the mask of no image."""
    name = stem.name
    for suffix in ["", *MASK_SUFFIXES] if given is None else [given]:
        end = len(name) - len(suffix)
        same = name.endswith(suffix) if given is not None else name.lower().endswith(suffix)
        if same and end > 0 and not (is_flat and not suffix) and stem.with_name(name[:end]) in images:
            return name[end:]
    return None


def _masks_of(stem: Path, classes: list[str], suffix: str, masks: Stems) -> tuple[Path, ...]:
    """Return the mask files of an image, in the order of the classes; a PNG is taken before other formats."""
    chosen = []
    for name in classes:
        files = masks.get(Path(name) / stem.with_name(stem.name + suffix), [])
        pngs = [path for path in files if path.suffix.lower() == ".png"]
        files = pngs or files
        if len(files) > 1:
            raise UnipError(f"{files[0]} and {files[1].name} may both be the mask of {stem.name}", "Keep one of them.")
        chosen += files
    return tuple(chosen)


def _other_files(found: Found, suffix: str, images: Stems, used: set[Path]) -> tuple[list[Path], list[Path]]:
    """Return files among the masks whose names go on after that of an image, such as previews; and masks of none."""
    is_flat = found.folders.images == found.folders.masks
    orphans: list[Path] = []
    others: list[Path] = []
    for stem, files in found.masks.items():
        inner = Path(*stem.parts[1:]) if found.by_class and len(stem.parts) > 1 else stem
        if not used.isdisjoint(files) or (is_flat and not inner.name.endswith(suffix)):
            continue
        continues = any(inner.with_name(inner.name[:end]) in images for end in _word_ends(inner.name))
        (others if continues or inner in images else orphans).extend(files)
    return others, orphans


def _no_image(orphans: list[Path], suffix: str, folders: Folders) -> UnipError:
    count = f"{len(orphans)} masks have" if len(orphans) > 1 else "1 mask has"
    name = orphans[0].stem.removesuffix(suffix)
    return UnipError(
        f"{count} no image, the first: {orphans[0]}",
        f"Expected an image {folders.images / name}.*; add it or move the mask away. If the masks are those of other "
        "images, name the folders with --images and --masks, or what follows a name with --mask-suffix.",
    )


def _word_ends(name: str) -> Iterable[int]:
    return (i for i in range(1, len(name)) if not name[i].isalnum())


def _listed(listing: Path, images: Stems, folder: Path) -> list[Path]:
    """Return the stems that a list of Pascal VOC names: the first word of each line, with or without ending."""
    by_name: dict[str, list[Path]] = {}
    for stem in images:
        by_name.setdefault(stem.name, []).append(stem)
    found = []
    for line in read_lines(listing):
        if not line.strip():
            continue
        named = Path(line.strip().replace("\\", "/"))
        options = [named, named.with_suffix("")] if named.suffix.lower() in SUFFIXES else [named]
        first = Path(line.split()[0].replace("\\", "/"))
        options += [first, first.with_suffix("")] if first.suffix.lower() in SUFFIXES else [first]
        alone = by_name.get(options[-1].name, [])
        known = [option for option in options if option in images] or (alone if len(alone) == 1 else [])
        if not known:
            raise UnipError(
                f"{listing} names {line.strip()}, but there is no image of that name in {folder}",
                "Is the download complete, and the list of the same version?",
            )
        found.append(known[0])
    if not found:
        raise UnipError(f"{listing} names no image", "Copy it again.")
    return sorted(dict.fromkeys(found), key=os.fsencode)


def _files(folder: Path, is_flat: bool) -> list[Path]:
    """Return the image files of a folder, those directly in it if it is flat; an empty list if there are none."""
    try:
        found = list_images(folder)
    except UnipError:
        return []
    return [path for path in found if path.parent == folder] if is_flat else found


def _by_stem(folder: Path, files: list[Path]) -> Stems:
    stems: Stems = {}
    for path in files:
        stems.setdefault(path.relative_to(folder).with_suffix(""), []).append(path)
    return stems
