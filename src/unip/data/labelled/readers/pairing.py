"""Pairing the images of a plain folder with their masks by name, and saying what was guessed."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unip.data.images.files import SUFFIXES, list_images
from unip.data.labelled.binary_masks import JPEG_ENDINGS, THRESHOLD
from unip.data.labelled.readers.places import Folders, candidates, list_splits
from unip.data.labelled.settings import Places
from unip.errors import UnipError
from unip.files import read_lines

log = logging.getLogger(__name__)

MASK_SUFFIXES = ("_mask", "_masks", "_label", "_labels", "_gt", "_seg")  # in any case
EXAMPLES = 3  # pairs that are shown

Stems = dict[Path, list[Path]]  # files by their path inside a folder, without ending


@dataclass(frozen=True)
class FolderPairs:
    """Images of a folder that have masks.

    Attributes:
        images: The image files.
        masks: The files of each image's mask: one, or one for each class that it shows.
        names: The classes that have a folder of binary masks each; none: a mask holds all classes.
    """

    images: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """What lies in two folders.

    Attributes:
        folders: The folders.
        images: Images by stem.
        masks: Masks by stem.
        suffixes: How many masks fit an image with each suffix.
        by_class: How many masks of each subfolder fit an image, where no mask fits one in the same subfolder.
    """

    folders: Folders
    images: Stems
    masks: Stems
    suffixes: Counter[str]
    by_class: Counter[str]

    @property
    def fits(self) -> bool:
        return bool(self.suffixes or self.by_class)


def find_pairs(root: Path, split: str | None, places: Places, also: str) -> FolderPairs:
    """Find the pairs of a split of a plain folder, and say what was guessed and left out.

    Args:
        root: The folder.
        split: The split; None: the folder itself.
        places: What is given.
        also: What else belongs into such a folder, for the message.

    Raises:
        UnipError: There are none, several places or suffixes fit, or a mask has no image.
    """
    if not root.is_dir():
        raise UnipError(f"no such folder: {root}", _expected(root, split, also))
    if places.mask_suffix is not None and Path(places.mask_suffix).suffix.lower() in SUFFIXES:
        places = dataclasses.replace(places, mask_suffix=str(Path(places.mask_suffix).with_suffix("")))
    tried = [_look(folders, places.mask_suffix) for folders in candidates(root, split, places)]
    fitting = [found for found in tried if found.fits]
    if not fitting:
        raise _no_pairs(root, split, places, tried, also)
    if len(fitting) > 1:
        _refuse_several(fitting)
    return _pair(fitting[0], root, split, places)


def _look(folders: Folders, given: str | None) -> _Found:
    masks = _by_stem(folders.masks, _files(folders.masks, folders.images == folders.masks))
    images = masks if folders.images == folders.masks else _by_stem(folders.images, _files_of(folders))
    suffixes: Counter[str] = Counter()
    by_class: Counter[str] = Counter()
    for stem in masks:
        suffix = _suffix_of(stem, images, given, folders.images == folders.masks)
        if suffix is not None:
            suffixes[suffix] += 1
    if not suffixes:
        for stem in masks:
            inner = Path(*stem.parts[1:])
            if len(stem.parts) > 1 and _suffix_of(inner, images, given or "", False) is not None:
                by_class[stem.parts[0]] += 1
    return _Found(folders, images, masks, suffixes, by_class)


def _pair(found: _Found, root: Path, split: str | None, places: Places) -> FolderPairs:
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
    _refuse_orphans(found, suffix, images, {path for files in masks.values() for path in files})
    wanted = list(images) if folders.listing is None else _listed(folders.listing, images, folders.images)
    labelled = [stem for stem in wanted if masks[stem]]
    unlabelled = [images[stem][0] for stem in wanted if not masks[stem]]
    if not labelled:
        raise UnipError(f"none of the {len(wanted)} images of {folders.listing} has a mask in {folders.masks}")
    result = FolderPairs(
        tuple(images[stem][0] for stem in labelled),
        tuple(masks[stem] for stem in labelled),
        tuple(sorted(found.by_class)),
    )
    _say(result, folders, root, split, suffix, unlabelled)
    return result


def _choose_suffix(found: _Found, places: Places) -> str:
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


def _refuse_orphans(found: _Found, suffix: str, images: Stems, used: set[Path]) -> None:
    """Refuse masks without an image; files that go on after the name of an image, as previews do, are passed over."""
    is_flat = found.folders.images == found.folders.masks

    def is_orphan(stem: Path) -> bool:
        if found.by_class and len(stem.parts) > 1:
            stem = Path(*stem.parts[1:])
        if stem in images or (is_flat and not stem.name.endswith(suffix)):
            return False
        return not any(stem.with_name(stem.name[:i]) in images for i in _word_ends(stem.name))

    orphans = [files[0] for stem, files in found.masks.items() if used.isdisjoint(files) and is_orphan(stem)]
    if orphans:
        count = f"{len(orphans)} masks have" if len(orphans) > 1 else "1 mask has"
        name = orphans[0].stem.removesuffix(suffix)
        raise UnipError(
            f"{count} no image, the first: {orphans[0]}",
            f"Expected an image {found.folders.images / name}.*; add it or move the mask away. If the masks are those "
            "of other images, name the folders with --images and --masks, or what follows a name with --mask-suffix.",
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


def _say(
    pairs: FolderPairs, folders: Folders, root: Path, split: str | None, suffix: str, unlabelled: list[Path]
) -> None:
    """Say what was guessed, with examples, and which images have no mask; nothing for the documented layout."""
    title = f"{root} {split}" if split else str(root)
    base = root / split if split else root
    documented = (folders.images, folders.masks) == (base / "images", base / "masks")
    if (
        not documented
        or suffix
        or pairs.names
        or any(path.suffix.lower() != ".png" for files in pairs.masks for path in files)
    ):
        rows = [f"  {_inside(i, root)} - {', '.join(_inside(path, root) for path in m)}" for i, m in _examples(pairs)]
        kinds = f"one binary mask for each of {', '.join(pairs.names)}" if pairs.names else "one mask for each image"
        named = f"named like the image and {suffix!r}" if suffix else "named like the image"
        _once(
            f"{title}: images in {_inside(folders.images, root)}, masks in {_inside(folders.masks, root)}, {kinds}, "
            f"{named} (--images, --masks and --mask-suffix change that). Pairs: {len(pairs.images)}, such as\n"
            + "\n".join(rows)
        )
    if any(path.suffix.lower() in JPEG_ENDINGS for files in pairs.masks for path in files):
        _once(
            f"{title}: masks are JPEG, read as binary: {THRESHOLD} and above count as "
            f"{'the class' if pairs.names else '255'}, the rest as {'background' if pairs.names else '0'}"
        )
    if unlabelled:
        _once(
            f"{title}: {len(unlabelled)} of {len(unlabelled) + len(pairs.images)} images have no mask and are left "
            f"out, the first: {_inside(unlabelled[0], root)}"
        )


@functools.lru_cache(maxsize=1024)  # a verb may open the same data several times
def _once(message: str) -> None:
    log.info(message)


def _examples(pairs: FolderPairs) -> list[tuple[Path, tuple[Path, ...]]]:
    return list(zip(pairs.images, pairs.masks, strict=True))[:EXAMPLES]


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _files_of(folders: Folders) -> list[Path]:
    return _files(folders.images, folders.is_flat)


def _files(folder: Path, is_flat: bool) -> list[Path]:
    """Return the image files of a folder, sorted; an empty list if there are none."""
    if is_flat:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
        return sorted((path for path in found if not path.name.startswith(".")), key=os.fsencode)
    try:
        return list_images(folder)
    except UnipError:
        return []


def _by_stem(folder: Path, files: list[Path]) -> Stems:
    stems: Stems = {}
    for path in files:
        stems.setdefault(path.relative_to(folder).with_suffix(""), []).append(path)
    return stems


def _refuse_several(fitting: list[_Found]) -> None:
    first, second = fitting[:2]
    same_masks = first.folders.masks == second.folders.masks
    kind, option = ("images", "--images") if same_masks else ("masks", "--masks")
    folders = [getattr(found.folders, kind) for found in (first, second)]
    raise UnipError(
        f"{folders[0]} and {folders[1]} both hold {kind} that make pairs", f"Name one of them with {option} FOLDER."
    )


def _no_pairs(root: Path, split: str | None, places: Places, tried: list[_Found], also: str) -> UnipError:
    base = root / split if split else root
    there = [name for name in list_splits(root, places) if name != split]
    splits = f" Splits in {root}: {', '.join(there)}." if there else ""
    if split and not there and candidates(root, None, places):
        splits = ' Without splits, give --split "".'
    seen = next((found for found in tried if found.images), None)
    if seen is None or seen.folders.images == seen.folders.masks:
        return UnipError(f"{base} is not a segmentation folder", _expected(root, split, also) + splits)
    folders = seen.folders
    stem = next(iter(seen.images))
    wanted = folders.masks / stem.with_name(f"{stem.name}{places.mask_suffix or ''}.png")
    other = next((path for path in sorted(folders.masks.rglob("*")) if path.suffix in OTHER_KINDS), None)
    if not seen.masks and other is not None:
        kind = OTHER_KINDS[other.suffix]
        return UnipError(f"{folders.masks} holds no masks, but files such as {other.name}", kind.format(root=root))
    masks = f", where a mask is called {next(iter(seen.masks))}" if seen.masks else ", which holds no image files"
    return UnipError(
        f"no image has a mask: none of {len(seen.images)} in {folders.images} has one in {folders.masks}{masks}",
        f"Expected such as {wanted}. Name what follows the image's name with --mask-suffix, and other folders with "
        "--images and --masks.",
    )


OTHER_KINDS = {
    ".txt": "If these are polygons of YOLO, give yolo-seg:{root}.",
    ".json": "Give coco:{root}, labelme:{root} or label-studio:{root}, whichever it is.",
    ".xml": "If this is an export of CVAT, give cvat:{root}.",
    **dict.fromkeys((".npy", ".npz", ".mat"), "Save the masks as PNG: one channel, whose values are the ids."),
}


def _expected(root: Path, split: str | None, also: str) -> str:
    base = root / split if split else root
    return (
        f"Expected {base / 'images'} and {base / 'masks'} (or other usual places, or --images and --masks), and {also}."
        f" Other layouts are named, such as coco:{root}."
    )
