"""`unip data split`: training, validation and test parts that keep videos and flights whole and classes balanced.

The result is a segmentation folder, whatever the layout it comes from, so this also converts layouts:

```
OUT/classes.json        the classes, after remapping
OUT/train/images/*      links to the images, or copies
OUT/train/masks/*.png   the masks, rewritten with ids from 0, on the pixels as stored; with the image's EXIF orientation
OUT/splits.csv          image, its name in OUT, group, split
```

With ``folds``, ``OUT/fold-1``, ``OUT/fold-2`` ... are such folders with ``train`` and ``test``. Each image is in the
test part of one fold, and a link to it in the training parts of all others.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.table import Table

from unip.config import verb
from unip.data.balance import assign
from unip.data.config import SplitConfig
from unip.data.grouping import match_groups, refuse_without_group
from unip.data.images.decoding import to_grey8
from unip.data.images.orientation import save_options
from unip.data.labelled.binary import refuse_doubtful_masks
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.data.labelled.outlines import look_at_picture
from unip.data.labelled.pairs import SegmentationData, read_channel
from unip.data.labelled.settings import Places
from unip.data.leakage import describe_near_duplicates, describe_no_groups
from unip.data.manifests.facts import perceptual_hash
from unip.errors import UnipError
from unip.files import read_table
from unip.log import TableMessage
from unip.outputs import FILES_NAMED, OutputFolder, output_folder, write_json, writing
from unip.paths import resolve
from unip.runtime.workers import map_threads

log = logging.getLogger(__name__)

NAMES = ("train", "val", "test")
FOLD = "fold-"


@dataclass(frozen=True)
class SplitResult:
    """Where the folder is (or would be), and the image, group and split (or fold) of every pair."""

    out: Path
    images: tuple[Path, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]


@verb(SplitConfig)
def split(config: SplitConfig) -> SplitResult:
    """Divide labelled images, a group never between two splits, and write a segmentation folder.

    The same seed, names and masks give the same split, wherever the data lies and in whatever order it is listed.

    Raises:
        UnipError: Data is bad, a group is not told for an image, there are too few groups, or out is there.
    """
    if min(config.shares) < 0 or abs(sum(config.shares) - 1) > 1e-6:
        raise UnipError(f"shares {config.shares} do not add up to 1", "Write such as --shares 0.8 0.1 0.1.")
    if config.folds is not None and "shares" in config.model_fields_set:
        raise UnipError("both folds and shares are given", "Folds are of equal size: leave out --shares.")
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        written = any(outputs.wrote(file) for file in ("classes.json", "splits.csv"))
        if not config.overwrite and not outputs.is_empty() and (not outputs.known or written):
            raise UnipError(f"{config.out} exists", "Choose another --out, or add --overwrite to replace it.")
        return _split(config, outputs)


def part_names(config: SplitConfig) -> tuple[str, ...]:
    """Return the names of the parts that images are divided into: splits, or folds."""
    return NAMES if config.folds is None else tuple(f"{FOLD}{number + 1}" for number in range(config.folds))


def _split(config: SplitConfig, outputs: OutputFolder) -> SplitResult:
    parts_of_out = part_names(config)
    shares = config.shares if config.folds is None else (1 / config.folds,) * config.folds
    outputs.check("classes.json", "splits.csv", folders=parts_of_out)
    places = Places.of(config)
    parts = config.splits or tuple(list_splits(config.data, places)) or ("",)
    opened = [open_segmentation(config.data, part or None, remap=config.remap, places=places) for part in parts]
    if any(data.classes.names != opened[0].classes.names for data in opened):
        raise UnipError(f"the splits of {config.data} have different classes", "Use one classes.json for all.")
    pairs = [(data, i) for data in opened for i in range(len(data))]
    images = tuple(data.images[i] for data, i in pairs)
    within, sources = resolve(config.out), (config.data, *images)
    if any(path.is_relative_to(within) for each in sources for path in (resolve(each), Path(os.path.abspath(each)))):
        raise UnipError(f"{config.out} holds the images that are to be divided", "Choose another --out.")
    names = unique_names(images)
    groups = tuple(find_groups(images, names, config))

    def look(pair: tuple[SegmentationData, int]) -> tuple[npt.NDArray[np.int64], int]:
        data, index = pair
        found = data.read(index)
        return np.bincount(found.mask.ravel(), minlength=256), perceptual_hash(to_grey8(found.image))

    looked = list(map_threads(look, pairs, "checking pairs", workers=config.workers, unit="pairs"))
    counts = np.stack([pixels for pixels, _ in looked])
    refuse_doubtful_masks(opened[0], counts.sum(axis=0).tolist())
    counts = counts[:, : len(opened[0].classes.names)]
    chosen = assign(names, groups, counts, shares, config.seed)
    splits = tuple(parts_of_out[k] for k in chosen)
    log.info(TableMessage(split_table(splits, groups, counts, opened[0].classes.names, parts_of_out)))
    _say_leaks(config, images, [phash for _, phash in looked], splits)
    if config.dry_run:
        log.info(f"dry run, not written: {config.out}")
    else:
        _write(pairs, names, groups, splits, config, outputs)
        if kept := [file for file in outputs.files("") if not outputs.wrote(file)]:
            log.warning(f"kept in {config.out}, because unip did not write it: {', '.join(kept[:FILES_NAMED])}")
        log.info(f"written: {config.out}")
    return SplitResult(config.out, images, groups, splits)


def _say_leaks(config: SplitConfig, images: tuple[Path, ...], hashes: list[int], splits: tuple[str, ...]) -> None:
    if config.group is None and config.groups is None:
        log.warning(describe_no_groups(images, config.folds or sum(share > 0 for share in config.shares)))
    if near := describe_near_duplicates(images, np.array(hashes, np.uint64), splits):
        log.warning(near)


def find_groups(images: tuple[Path, ...], names: list[str], config: SplitConfig) -> list[str]:
    """Return each image's video or flight: from the CSV file, by the pattern, else its own name.

    Raises:
        UnipError: The file or the pattern is bad, or says nothing about an image.
    """
    if config.group is not None and config.groups is not None:
        raise UnipError("both group and groups are given", "Give a pattern or a CSV file.")
    if config.groups is not None:
        known = read_groups(config.groups, config.file_column, config.group_column)
        found = [
            known.get(path.stem) or known.get(path.name) or known.get(name)
            for path, name in zip(images, names, strict=True)
        ]
        return refuse_without_group(images, found, f"{config.groups} does not name")
    return names if config.group is None else match_groups(images, config.group)


def read_groups(path: Path, file_column: str, group_column: str) -> dict[str, str]:
    """Read a CSV file of images and their groups.

    Raises:
        UnipError: It cannot be read, has not the columns, or gives an image two groups.
    """
    fix = "Name the columns with --file-column and --group-column."
    groups: dict[str, str] = {}
    for row in read_table(path, (file_column, group_column), fix):
        if groups.setdefault(row[file_column], row[group_column]) != row[group_column]:
            raise UnipError(f"{path} gives {row[file_column]} two groups", "Use names that are different.")
    return groups


def unique_names(images: tuple[Path, ...]) -> list[str]:
    """Return short names without ending, all different: the file's, with as many folders before it as that takes."""
    depth, longest = 1, max(len(path.parts) for path in images)
    names = [path.stem for path in images]
    while len(set(names)) < len(names) and depth < longest:
        depth += 1
        names = ["__".join(path.with_suffix("").parts[-depth:]).replace("/", "") for path in images]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UnipError(f"two images are called {twice}", "Rename one.")
    return names


def split_table(
    splits: tuple[str, ...],
    groups: tuple[str, ...],
    counts: npt.NDArray[np.int64],
    names: tuple[str, ...],
    parts: tuple[str, ...] = NAMES,
) -> Table:
    """Lay out images, groups and the share of each class's pixels that each split (of ``parts``) has."""
    table = Table("", title="Split: images, groups, and where the pixels of each class are, %")
    there = [name for name in parts if name in splits]
    chosen = {name: np.array([s == name for s in splits]) for name in there}
    for name in there:
        table.add_column(name, justify="right")
    table.add_row("images", *(f"{chosen[name].sum():,}" for name in there))
    table.add_row("groups", *(f"{len({g for g, s in zip(groups, splits, strict=True) if s == n}):,}" for n in there))
    table.add_section()
    for i, label in enumerate(names):
        total = counts[:, i].sum()
        table.add_row(label, *(f"{100 * counts[chosen[n], i].sum() / total:.1f}" if total else "-" for n in there))
    return table


def _write(
    pairs: list[tuple[SegmentationData, int]],
    names: list[str],
    groups: tuple[str, ...],
    splits: tuple[str, ...],
    config: SplitConfig,
    outputs: OutputFolder,
) -> None:
    """Write all files beside an earlier split, then put them in its place; ``classes.json`` comes last."""
    first = pairs[0][0]
    described = {**first.classes.to_dict(), "ignore_index": IGNORE}
    if first.conversion is not None:
        described["conversion"] = first.conversion.model_dump(mode="json")
    own = "" if config.folds is None else "test"  # where a fold's own images are in it
    with ExitStack() as stack:
        parts = {part: stack.enter_context(writing(config.out / part)) for part in sorted(set(splits))}
        for part in parts.values():
            (part / own / "images").mkdir(parents=True)
            (part / own / "masks").mkdir()

        def write(item: int) -> str:
            (data, index), part = pairs[item], parts[splits[item]] / own
            path, name = data.images[index], names[item]
            target = part / "images" / f"{name}{'.png' if data.channel is not None else path.suffix}"
            if data.channel is not None:
                Image.fromarray(read_channel(path, data.channel)).save(target)
            elif config.copy_images:
                shutil.copyfile(path, target)
            else:
                target.symlink_to(os.path.abspath(path))
            says = save_options(1 if data.channel is not None else look_at_picture(path).orientation)
            Image.fromarray(data.read_mask(index)).save(part / "masks" / f"{name}.png", compress_level=1, **says)
            return (Path(splits[item]) / own / "images" / target.name).as_posix()

        written = list(map_threads(write, range(len(pairs)), "writing pairs", workers=config.workers, unit="pairs"))
        if config.folds is not None:
            _link_training_parts(parts, written, described)
        outputs.remove("classes.json", "splits.csv")  # what a kill leaves from here on is no split
    outputs.remove(*(part for part in (*NAMES, *stale_folds(outputs)) if part not in splits))
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["image", "file", "group", "split"])
    for (data, index), file, group, split_name in zip(pairs, written, groups, splits, strict=True):
        table.writerow([data.images[index].as_posix(), file, group, split_name])
    with writing(config.out / "splits.csv") as temporary:
        temporary.write_text(rows.getvalue(), encoding="utf-8", errors="surrogateescape")
    if config.folds is None:
        write_json(config.out / "classes.json", described)


def stale_folds(outputs: OutputFolder) -> list[str]:
    """Return the folders of folds that an earlier call wrote."""
    return sorted({name.partition("/")[0] for name in outputs.known if name.startswith(FOLD)})


def _link_training_parts(parts: dict[str, Path], written: list[str], described: dict[str, object]) -> None:
    """Give each fold its classes, and links to the test parts of all others; they are right once all are in place."""
    for fold, folder in parts.items():
        write_json(folder / "classes.json", described)
        for kind in ("images", "masks"):
            (folder / "train" / kind).mkdir(parents=True)
        for file in written:
            image = Path(file)
            if image.parts[0] == fold:
                continue
            mask = image.parent.with_name("masks") / f"{image.stem}.png"
            for path, kind in ((image, "images"), (mask, "masks")):
                (folder / "train" / kind / path.name).symlink_to(Path("../../..") / path)
