"""The labelled images of a fine-tuning: checked before it starts, and recorded in the run folder for the next call."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace

import numpy as np

from unip.data.labelled.binary import refuse_doubtful
from unip.data.labelled.classes import foreground_ids
from unip.data.labelled.datasets import choose_labels
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.record import CheckedLabels, LabelRecord, check_labels, read_records
from unip.data.labelled.statistics import LabelFacts, count_pair, measure_pair
from unip.errors import UnipError
from unip.outputs import write_text
from unip.runtime.memory import Cache
from unip.segmentation.config import FinetuneConfig
from unip.training.run_folder import RunFolder

SHOWN = 3  # changed files that a message names


@dataclass(frozen=True)
class TaskLabels:
    """What a fine-tuning is trained and evaluated on; both can be read.

    Attributes:
        train: Pairs to train on.
        facts: What they are like.
        val: Pairs to evaluate on, if there are any.
        stored: What the run folder records of them.
    """

    train: CheckedLabels
    facts: LabelFacts
    val: CheckedLabels | None
    stored: dict[str, LabelRecord]

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
        if self.val is not None:
            records["val"] = self.val.record
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
    train = check_labels(
        data,
        f"{config.data} ({config.split})",
        measure_pair,
        known=stored.get("train"),
        limit=lambda: choose_labels(data, config.label_budget or 1.0, config.label_seed),
        cache="none" if config.dry_run else pair_cache(config),
    )
    facts = LabelFacts.of(train.facts, data)
    check_classes_shown(config, data, facts)
    return TaskLabels(train, facts, judged, stored)


def check_classes_shown(config: FinetuneConfig, data: SegmentationData, facts: LabelFacts) -> None:
    """Refuse to train classes that nothing is labelled as, unless they are named or labels are few on purpose.

    The classes of a released data set are not its user's choice: of them, a note is enough.

    Raises:
        UnipError: There are such classes, or masks whose meaning is in doubt.
    """
    name, names = f"{config.data} ({config.split})", data.classes.names
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
    total = np.sum([pair.pixels for pair in checked.facts], axis=0).tolist()
    if config.eval_every is not None and not any(total[i] for i in foreground_ids(val.classes.names)):
        what = "labelled pixel of any class but the background" if any(total[:-1]) else "labelled pixel"
        raise UnipError(f"{config.val} has no {what} to choose weights by", "Choose another --val.")
    return checked


def pair_cache(config: FinetuneConfig) -> Cache:
    """Return whether decoded pairs are kept; a GPU takes them from memory, and where features are, they need not be."""
    if config.mode == "linear" and config.cache_features is not False:
        return "none"
    return "ram" if config.cache == "gpu" else config.cache
