"""The labelled images of a fine-tuning: checked before it starts, and recorded in the run folder for the next call."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unip.data.grouping import guess_sequences, match_groups
from unip.data.labelled.binary import refuse_doubtful
from unip.data.labelled.classes import foreground_ids
from unip.data.labelled.drawing import choose_labels, describe_drawn
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.record import CheckedLabels, LabelRecord, check_labels, read_records
from unip.data.labelled.statistics import LabelFacts, count_pair, measure_pair
from unip.errors import UnipError
from unip.outputs import write_json, write_text
from unip.paths import is_file
from unip.runtime.memory import Cache
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.held_out import HeldOut
from unip.segmentation.holding_out import Holding, hold_out
from unip.segmentation.settings import HELD_OUT
from unip.training.run_folder import RunFolder

SHOWN = 3  # changed files that a message names


@dataclass(frozen=True)
class TaskLabels:
    """What a fine-tuning is trained and evaluated on; both can be read.

    Attributes:
        train: Pairs to train on.
        facts: What they are like.
        val: Pairs to evaluate on, if there are any.
        holding: What of the labelled images is held out of ``train`` and is ``val``.
        stored: What the run folder records of them.
        drawn: What the label budget drew, in a line; without a budget nothing.
    """

    train: CheckedLabels
    facts: LabelFacts
    val: CheckedLabels | None
    holding: Holding
    stored: dict[str, LabelRecord]
    drawn: tuple[str, ...] = ()

    def describe_changes(self) -> list[str]:
        """Name the files that changed since the run was started."""
        lines = []
        for part in (self.train, self.val):
            if part is not None and part.changed:
                more = f" and {len(part.changed) - SHOWN} more" * (len(part.changed) > SHOWN)
                lines.append(
                    f"note: {len(part.changed)} files of {part.name} changed since this run started, and are read "
                    f"again: {', '.join(part.changed[:SHOWN])}{more}"
                )
        return lines

    def refuse_other_classes(self) -> None:
        """Refuse to go on where classes, or what the ids mean, are not those that the run was started with.

        Raises:
            UnipError: They are not.
        """
        for part in (self.train, self.val):
            if part is not None and part.read_otherwise:
                raise UnipError(
                    f"{part.name} is not read as when this run started: {'; '.join(part.read_otherwise)}",
                    "Put the file that names the classes back; or choose another --out, or --overwrite to start over.",
                )

    def store(self, run: RunFolder) -> None:
        """Record them, unless they are."""
        records = self.stored | {"train": self.train.record}
        if self.val is not None and self.holding.held is None:
            records["val"] = self.val.record
        if self.holding.held is not None and not is_file(run.held_out):
            write_json(run.held_out, self.holding.held.to_dict())
        if records != self.stored:
            write_text(run.labels, json.dumps({name: each.to_dict() for name, each in records.items()}) + "\n")


def check_task(
    config: FinetuneConfig, run: RunFolder, data: SegmentationData, val: SegmentationData | None
) -> TaskLabels:
    """Decode the images and masks of a fine-tuning once, those that the run folder does not know.

    Args:
        config: The settings.
        run: Where to.
        data: The pairs of ``config.split``.
        val: Those of ``config.val``, if it is set.

    Raises:
        UnipError: A pair is damaged, nothing is labelled, or the classes of both differ.
    """
    continued = run.continues(config) or run.is_finished(config)
    known = continued and run.outputs.state(run.labels.name) == "ours"
    stored = read_records(run.labels) if known else {}
    judged = None if val is None else check_val(config, data, val, stored.get("val"))
    images, group = data.images, config.group
    sequences = guess_sequences(images) if group is None else match_groups(images, group)
    train = check_labels(
        data,
        f"{config.data} ({config.split or 'no split'})",
        measure_pair,
        known=stored.get("train"),
        limit=lambda: choose_labels(data, config.label_budget or 1.0, config.label_seed, sequences),
        cache="none" if config.dry_run else pair_cache(config),
    )
    drawn = () if config.label_budget is None else (say_drawn(config, data, train.data, sequences),)
    holding = hold_out(config, run, train, continued=continued)
    if holding.held is not None:
        train, judged = divide(train, config, holding.held)
    facts = LabelFacts.of(train.facts, data)
    check_classes_shown(config, data, facts)
    return TaskLabels(train, facts, judged, holding, stored, drawn)


def say_drawn(
    config: FinetuneConfig, data: SegmentationData, drawn: SegmentationData, sequences: list[str] | None
) -> str:
    """Say which images the label budget drew."""
    named = dict(zip(data.images, sequences or [], strict=False))
    counts = (len({named[image] for image in drawn.images}), len(set(named.values()))) if named else None
    names = [image.name for image in drawn.images]
    return describe_drawn(names, all_images=len(data), seed=config.label_seed, sequences=counts)


def divide(labels: CheckedLabels, config: FinetuneConfig, held: HeldOut) -> tuple[CheckedLabels, CheckedLabels]:
    """Divide labelled images into those to train on and those held out; the record is that of all.

    Raises:
        UnipError: None of those that were held out is there any more, or the weights cannot be chosen by them.
    """
    out = held.among(labels.data.images, config.data)
    if not out:
        raise UnipError(
            f"{labels.name} has none of the {len(held.held)} images that were held out when this run started",
            "Put them back, or start over with --overwrite.",
        )

    def part(indices: list[int]) -> dict[str, Any]:
        pairs = None if labels.pairs is None else [labels.pairs[index] for index in indices]
        return {"data": labels.data.take(indices), "facts": [labels.facts[index] for index in indices], "pairs": pairs}

    train = replace(labels, **part([index for index in range(len(labels.data)) if index not in out]))
    name = f"{config.data} ({HELD_OUT})"
    val = replace(labels, name=name, changed=(), read_otherwise=(), **part(list(out)))
    check_foreground(config, val, name)
    return train, replace(val, pairs=None)


def check_classes_shown(config: FinetuneConfig, data: SegmentationData, facts: LabelFacts) -> None:
    """Refuse to train classes that nothing is labelled as, unless they are named or labels are few on purpose.

    The classes of a released data set are not its user's choice: of them, a note is enough.

    Raises:
        UnipError: There are such classes, or masks whose meaning is in doubt.
    """
    name, names = f"{config.data} ({config.split or 'no split'})", data.classes.names
    if unknown := [each for each in config.empty_classes if each not in names]:
        raise UnipError(f"empty_classes: there is no class {unknown[0]!r}", f"Classes: {', '.join(names)}.")
    refuse_doubtful(data, list(facts.pixels.values()))
    if not any(facts.pixels[each] for each in names):
        raise UnipError(f"{name} has no labelled pixel", "Check the masks, and --remap.")
    absent = [each for each in names if not facts.pixels[each] and each not in config.empty_classes]
    if absent and config.label_budget is None and not data.released:
        raise UnipError(
            f"{name} has no labelled pixel of {', '.join(absent)}",
            f"Check the masks and their ids. To train without: --empty-classes {' '.join(map(shlex.quote, absent))}, "
            "or merge the class with another by --remap.",
        )


def check_val(
    config: FinetuneConfig, data: SegmentationData, val: SegmentationData, known: LabelRecord | None
) -> CheckedLabels:
    """Check the data to evaluate on now rather than after hours of training.

    Raises:
        UnipError: It is damaged, without any label, or has other classes than the training data.
    """
    if val.classes.names != data.classes.names:
        raise UnipError(
            f"{config.val} has the classes {list(val.classes.names)}, {config.split} {list(data.classes.names)}",
            "Use one classes.json for both.",
        )
    name = f"{config.data} ({config.val})"
    checked = check_labels(replace(val, conversion=data.conversion), name, count_pair, known=known)
    check_foreground(config, checked, config.val or "")
    return checked


def check_foreground(config: FinetuneConfig, val: CheckedLabels, name: str) -> None:
    """Refuse to choose weights by images on which all are alike.

    Raises:
        UnipError: Weights are chosen, and nothing but the background is labelled.
    """
    total = np.sum([pair.pixels for pair in val.facts], axis=0).tolist()
    if config.eval_every is not None and not any(total[i] for i in foreground_ids(val.data.classes.names)):
        what = "labelled pixel of any class but the background" if any(total[:-1]) else "labelled pixel"
        raise UnipError(f"{name} has no {what} to choose weights by", "Choose another --val.")


def pair_cache(config: FinetuneConfig) -> Cache:
    """Return whether decoded pairs are kept; a GPU takes them from memory, and where features are, they need not be."""
    if config.frozen and config.cache_features is not False:
        return "none"
    return "ram" if config.cache == "gpu" else config.cache
