"""What lies in a plain folder of images and masks, and how it is said: guesses with examples, and refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from unip.data.images.files import WAYS_ON
from unip.data.labelled.binary_masks import JPEG_ENDINGS, THRESHOLD
from unip.data.labelled.readers.guesses import guess_annotations, guess_kind
from unip.data.labelled.readers.places import WITHOUT_SPLITS, Folders, candidates, list_splits
from unip.data.labelled.saying import inside, say_left_out, say_once
from unip.data.labelled.settings import Places
from unip.errors import UnipError

EXAMPLES = 3  # pairs that are shown
OTHER_KINDS = {
    ".txt": "If these are polygons of YOLO, give yolo-seg:{root}.",
    ".json": "If this is COCO, LabelMe or Label Studio, give coco:{root}, labelme:{root} or label-studio:{root}.",
    ".xml": "If this is an export of CVAT, give cvat:{root}.",
    **dict.fromkeys((".npy", ".npz", ".mat"), "Save the masks as PNG: one channel, whose values are the ids."),
}
KINDS_TO_GUESS = (".txt", ".json", ".xml")

Stems = dict[Path, list[Path]]  # files by their path inside a folder, without ending


@dataclass(frozen=True)
class FolderPairs:
    """Images of a folder that have masks.

    Attributes:
        images: The image files.
        masks: The files of each image's mask: one, or one for each class that it shows.
        names: The classes that have a folder of binary masks each; none: a mask holds all classes.
        suffix: What follows an image's name in its mask's.
        unlabelled: Images without a mask.
        others: Files among the masks that are none, such as previews.
    """

    images: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    names: tuple[str, ...] = ()
    suffix: str = ""
    unlabelled: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Found:
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
        """Whether there are pairs."""
        return bool(self.suffixes or self.by_class)


def class_of(path: Path, names: tuple[str, ...]) -> str:
    """Return the class in whose folder a mask is."""
    return next(part for part in reversed(path.parts[:-1]) if part in names)


def describe_found(pairs: FolderPairs, folders: Folders, root: Path, split: str | None) -> None:
    """Say what was guessed, with examples, and which files are left out; for the documented layout, only the latter."""
    title = f"{root}, split {split}" if split else str(root)
    base = root / split if split else root
    endings = {path.suffix.lower() for files in pairs.masks for path in files}
    documented = (folders.images, folders.masks) == (base / "images", base / "masks") and endings == {".png"}
    if not documented or pairs.suffix or pairs.names:
        kinds = f"one binary mask for each of {', '.join(pairs.names)}" if pairs.names else "one mask for each image"
        named = f"named like the image and {pairs.suffix!r}" if pairs.suffix else "named like the image"
        examples = list(zip(pairs.images, pairs.masks, strict=True))[:EXAMPLES]
        rows = [f"\n  {inside(i, root)} - {', '.join(inside(path, root) for path in files)}" for i, files in examples]
        say_once(
            f"{title}: images in {inside(folders.images, root)}, masks in {inside(folders.masks, root)}, {kinds}, "
            f"{named} (--images, --masks and --mask-suffix change that). Pairs: {len(pairs.images)}, such as"
            + "".join(rows)
        )
    if pairs.names:
        _say_absent_classes(pairs, root, title)
    if not endings.isdisjoint(JPEG_ENDINGS):
        say_once(
            f"{title}: masks are JPEG, read as binary: {THRESHOLD} and above count as "
            f"{'the class' if pairs.names else '255'}, the rest as {'background' if pairs.names else '0'}"
        )
    say_left_out(title, pairs.unlabelled, len(pairs.unlabelled) + len(pairs.images), "no mask", root)
    if pairs.others:
        say_once(
            f"{title}: not used, since the name only begins like that of an image: {len(pairs.others)} files in "
            f"{inside(folders.masks, root)}, the first: {pairs.others[0].name}"
        )


def _say_absent_classes(pairs: FolderPairs, root: Path, title: str) -> None:
    shown = [{class_of(path, pairs.names) for path in files} for files in pairs.masks]
    absent = {
        name: [i for i, there in zip(pairs.images, shown, strict=True) if name not in there] for name in pairs.names
    }
    parts = [
        f"{name} in {len(images)} of {len(shown)} (such as {inside(images[0], root)})"
        for name, images in absent.items()
        if images
    ]
    if parts:
        say_once(f"{title}: a class without a file is not in the image: {', '.join(parts)}")


def refuse_several(fitting: list[Found]) -> None:
    """Raise a UnipError that names two places that both make pairs, and the option that decides."""
    first, second = fitting[:2]
    same_masks = first.folders.masks == second.folders.masks
    kind, option = ("images", "--images") if same_masks else ("masks", "--masks")
    folders = [getattr(found.folders, kind) for found in (first, second)]
    raise UnipError(
        f"{folders[0]} and {folders[1]} both hold {kind} that make pairs", f"Name one of them with {option} FOLDER."
    )


def no_pairs(root: Path, split: str | None, places: Places, tried: list[Found], also: str) -> UnipError:
    """Return the error for a folder without pairs: what is there, and what was expected."""
    base = root / split if split else root
    there = [name for name in list_splits(root, places) if name != split]
    splits = f" Splits in {root}: {', '.join(there)}." if there else ""
    if split and not there and candidates(root, None, places) and not guess_annotations(root):
        splits = f" {WITHOUT_SPLITS}"
    seen = next((found for found in tried if found.images), None)
    if seen is None or seen.folders.images == seen.folders.masks:
        return UnipError(f"{base} is not a segmentation folder", expected(root, split, also) + splits)
    folders = seen.folders
    stem = next(iter(seen.images))
    wanted = folders.masks / stem.with_name(f"{stem.name}{places.mask_suffix or ''}.png")
    other = next((path for path in sorted(folders.masks.rglob("*")) if path.suffix in OTHER_KINDS), None)
    if not seen.masks and other is not None:
        fix = guess_annotations(root) if other.suffix in KINDS_TO_GUESS else None
        fix = fix or OTHER_KINDS[other.suffix].format(root=root)
        return UnipError(f"{folders.masks} holds no masks, but files such as {other.name}", fix)
    masks = f", where a mask is called {next(iter(seen.masks))}" if seen.masks else ", which holds no image files"
    return UnipError(
        f"no image has a mask: none of {len(seen.images)} in {folders.images} has one in {folders.masks}{masks}",
        f"Expected such as {wanted}. {_way_to_pairs(seen)} Name other folders with --images and --masks.",
    )


def _way_to_pairs(found: Found) -> str:
    """Say how images and masks of different names can be paired: the suffix that fits most, or other names."""
    names = {path.name for path in found.images}
    after = Counter(
        mask.name[len(name) :]
        for mask in found.masks
        for name in (mask.name[:end] for end in range(1, len(mask.name)))
        if name in names
    )
    if after:
        suffix, count = max(after.items(), key=lambda item: (item[1], len(item[0])))
        return f"{count} masks are named like an image and {suffix!r}: give --mask-suffix={suffix}."
    return "--mask-suffix names what follows the image's name; if the names differ otherwise, rename the masks."


def not_a_folder(file: Path) -> UnipError:
    """Return the error for a file in place of a folder."""
    way = WAYS_ON.get(file.suffix.lower())
    fix = guess_kind(file) or (f"A folder is needed; {way}." if way else "Give the folder of images and masks.")
    return UnipError(f"{file} is a file, not a segmentation folder", fix)


def expected(root: Path, split: str | None, also: str) -> str:
    """Say what a segmentation folder holds; ``also``: beside images and masks."""
    base = root / split if split else root
    kind = guess_kind(root) or "Other layouts are named: KIND:PATH, see --help."
    return (
        f"Expected {base / 'images'} and {base / 'masks'} (or other usual places, or --images and --masks), and {also}."
        f" {kind}"
    )
