"""Labelled images held out of a training to evaluate on: which they are, and the record of them in the run folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unip.data.grouping import guess_sequences, match_groups
from unip.data.labelled.datasets import list_splits, open_segmentation, split_kind
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.record import read_records
from unip.data.labelled.settings import Places
from unip.errors import UnipError
from unip.files import read_json
from unip.paths import is_file
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.model_folder import model_folder
from unip.segmentation.settings import HELD_OUT

FILE = "held_out.json"
SHOWN = 4  # groups that a message names


@dataclass(frozen=True)
class HeldOut:
    """Labelled images that are not trained on.

    Attributes:
        split: Of the data, which they are part of.
        images: How many labelled images there were, these among them.
        groups: How many groups those were of.
        how: How groups were found.
        held: The group of each image held out, by its path from the data's folder.
    """

    split: str | None
    images: int
    groups: int
    how: str
    held: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, path: Path) -> HeldOut:
        """Read what a run recorded.

        Raises:
            UnipError: It is damaged.
        """
        return read_json(path, cls, file_names=True, fix="Start over with --overwrite.")

    def among(self, images: Sequence[Path], data: Path | str) -> dict[int, str]:
        """Return which images of a data set are held out, by their numbers, and the group of each."""
        keys = enumerate(image_keys(images, data))
        return {number: self.held[key] for number, key in keys if key in self.held}

    def describe(self) -> list[str]:
        """Say which and how many they are."""
        names = sorted(set(self.held.values()))
        more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
        return [
            f"{len(self.held)} of {self.images} labelled images are held out to evaluate the model on, {len(names)} of "
            f"{self.groups} groups: {', '.join(names[:SHOWN])}{more}",
            f"groups are {self.how}. To choose yourself: --group REGEX on paths, or --val SPLIT; --val-share 0: none",
        ]


def image_keys(images: Sequence[Path], data: Path | str) -> list[str]:
    """Return the path of each image from the data's folder, which is the same wherever the data lies."""
    root = os.path.abspath(split_kind(data)[1])
    return [Path(os.path.relpath(os.path.abspath(image), root)).as_posix() for image in images]


def recorded_with(model: Path) -> HeldOut | None:
    """Return what the fine-tuning of a model held out, if its run folder is there and says so."""
    if is_file(model):
        return None  # an exported file has no run folder
    folder = model_folder(model)
    path = folder.parent / FILE
    return HeldOut.read(path) if folder.name == "model" and is_file(path) else None


def trained_on(model: Path, images: Sequence[Path], data: Path | str) -> list[int] | None:
    """Return which images of a data set, by their numbers, the fine-tuning of a model trained on.

    They are known by their paths, from the run folder's record of labelled files; and in a split of which some images
    were held out, the others were trained on.

    Returns:
        None if there is no run folder that could tell.
    """
    if is_file(model):
        return None
    folder = model_folder(model)
    record = recorded_with(model)
    held = {} if record is None else record.among(images, data)
    labels = folder.parent / "labels.json"
    known = read_records(labels).get("train") if folder.name == "model" and is_file(labels) else None
    if known is None and not held:
        return None
    pairs = () if known is None else zip(known.files, known.facts, strict=True)
    read = {os.path.realpath(files.image) for files, facts in pairs if facts is not None}
    return [i for i, image in enumerate(images) if i not in held and (held or os.path.realpath(image) in read)]


@dataclass(frozen=True)
class Evaluated:
    """What a model is evaluated on.

    Attributes:
        data: The pairs.
        groups: The group of each, such as its video; None: not known.
        notes: What a reader of the scores should know.
    """

    data: SegmentationData
    groups: list[str] | None
    notes: tuple[str, ...] = ()


def open_evaluated(config: EvaluateConfig) -> Evaluated:
    """Open the split to evaluate on, or what the model's fine-tuning held out of the data.

    Raises:
        UnipError: It is missing or damaged, nothing was held out, or the pattern for groups does not fit.
    """
    places = Places.of(config)
    record = recorded_with(config.model)
    by_name = config.split == HELD_OUT and HELD_OUT not in list_splits(config.data, places)
    if by_name and record is None:
        raise UnipError(
            f"the fine-tuning of {config.model} held no images out (there is no {FILE} in its run folder)",
            "Name a split of the data with --split.",
        )
    split = record.split if by_name and record is not None else config.split
    try:
        data = open_segmentation(config.data, split, remap=config.remap, places=places)
    except UnipError as error:
        if record is None or by_name:
            raise
        what = f"the {len(record.held)} images that the fine-tuning held out of its data"
        raise UnipError(error.what, " ".join(filter(None, (error.fix, f"--split {HELD_OUT} takes {what}.")))) from error
    held = {} if record is None else record.among(data.images, config.data)
    if by_name and record is not None:
        if not held:
            raise UnipError(
                f"{config.data} has none of the {len(record.held)} images that the fine-tuning held out",
                "Give the data of the fine-tuning, or name a split with --split.",
            )
        gone = len(record.held) - len(held)
        notes = (f"note: {gone} of {len(record.held)} images that were held out are gone",) * (gone > 0)
        return Evaluated(data.take(held), list(held.values()), notes)
    groups = guess_sequences(data.images) if config.group is None else match_groups(data.images, config.group)
    trained = (
        f"note: {len(data) - len(held)} of these {len(data)} images were trained on, so scores are far too high: "
        f"--split {HELD_OUT} evaluates on the {len(held)} that were held out",
    ) * bool(held)
    return Evaluated(data, groups, trained)
