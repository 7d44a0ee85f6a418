"""Choosing labelled images to hold out of a training: whole groups, such that every class stays in the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.balance import assign
from unip.data.grouping import cut_blocks, guess_sequences, match_groups
from unip.data.labelled.datasets import list_splits
from unip.data.labelled.record import CheckedLabels
from unip.data.labelled.settings import Places
from unip.errors import UnipError
from unip.paths import is_file
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.held_out import HeldOut, image_keys
from unip.segmentation.settings import HELD_OUT
from unip.training.run_folder import RunFolder

SHARE = 0.1
MIN_IMAGES = 10  # with fewer, a tenth is none
BLOCK = 5  # images: neighbours are held out together
MAX_BLOCKS = 10  # more, and blocks grow instead: each has two neighbours in training
FAR = 2  # times the share that is wanted, or a part of it: then sequences are not held out whole

# HIT-UAV's names hold altitude and angle: each "sequence" shares its flights with others (docs/lab-notes.md)
GUESSED = (
    "videos or flights, guessed from numbers in file names; if the guess is wrong and two of them show the same place, "
    "scores are too high"
)

Chosen = npt.NDArray[np.bool_]  # (images,), whether each is held out


@dataclass(frozen=True)
class Holding:
    """What is held out, if anything, and the settings that say so.

    Attributes:
        held: What is held out; None: nothing.
        settings: What ``val`` and ``val_share`` become.
        lines: What to say about it.
    """

    held: HeldOut | None
    settings: dict[str, Any]
    lines: list[str]


def hold_out(config: FinetuneConfig, run: RunFolder, labels: CheckedLabels, *, continued: bool) -> Holding:
    """Decide what is held out of the labelled images, or take what the run that is continued held out.

    Args:
        config: The settings.
        run: Where to.
        labels: All that could be trained on.
        continued: Whether the run folder holds the run already.

    Raises:
        UnipError: The record of the run is gone, or there are too few groups.
    """
    if config.val not in (None, HELD_OUT):
        return Holding(None, {"val_share": 0.0} if config.val_share == "auto" and not continued else {}, [])
    if continued:
        return _continued(config, run)
    share, why = share_of(config, len(labels.data))
    held = choose(config, labels, share) if share else None
    if held is None:
        why = why or "every group has a class that no other group has"
        if config.eval_every is not None or config.val == HELD_OUT or (share > 0 and config.val_share != "auto"):
            raise UnipError(
                f"no labelled images are held out to evaluate on: {why}",
                "Add --val SPLIT, of other images than --split; or another --val-share.",
            )
        return Holding(None, {"val_share": 0.0}, [f"val share 0: {why}"])
    return Holding(held, {"val": HELD_OUT, "val_share": share}, held.describe())


def _continued(config: FinetuneConfig, run: RunFolder) -> Holding:
    if not is_file(run.held_out):
        if config.val == HELD_OUT or config.val_share not in ("auto", 0):
            raise UnipError(
                f"{run.held_out} is gone, which says what is not trained on",
                "Put it back, or start over with --overwrite.",
            )
        return Holding(None, {}, [])
    held = HeldOut.read(run.held_out)
    return Holding(held, {"val": HELD_OUT}, held.describe())


def share_of(config: FinetuneConfig, images: int) -> tuple[float, str]:
    """Return the share to hold out and, if it is 0, why."""
    if config.val_share != "auto":
        return config.val_share, "" if config.val_share else "as it is given"
    if config.recipe == "paper":
        return 0.0, "the paper's; the model is not evaluated, but with --val SPLIT or --val-share"
    if config.label_budget is not None:
        return 0.0, "a label budget is all trained on; the model is not evaluated, but with --val SPLIT or --val-share"
    others = [name for name in list_splits(config.data, Places.of(config)) if name != config.split]
    if others:
        example = "val" if "val" in others else others[0]
        return 0.0, f"the data has {', '.join(others)} to evaluate on, which --val {example} does at the end"
    if images < MIN_IMAGES:
        return 0.0, f"{images} labelled images are too few to hold some out, so the model is not evaluated"
    return SHARE, ""


def choose(config: FinetuneConfig, labels: CheckedLabels, share: float) -> HeldOut | None:
    """Choose images; the same names, masks and seed give the same ones.

    Raises:
        UnipError: All images are of one group, or the pattern does not fit.
    """
    images = labels.data.images
    pixels = np.array([facts.pixels[:-1] for facts in labels.facts], np.int64)
    wanted = max(1, round(share * len(images)))
    if config.group is not None:
        groups, how = match_groups(images, config.group), f"named by the pattern {config.group!r}"
        if len(set(groups)) < 2:
            raise UnipError(
                f"group {config.group!r}: all {len(images)} labelled images are of one group, {groups[0]}",
                "Give a pattern that tells videos or flights apart, or leave it out.",
            )
        chosen = choose_groups(groups, pixels, share, config.seed)
    else:
        groups, how, chosen = _guess(images, pixels, share, wanted, config.seed)
    if chosen is None:
        return None
    held = {key: group for key, group, out in zip(image_keys(images, config.data), groups, chosen, strict=True) if out}
    return HeldOut(config.split, len(images), len(set(groups)), how, held)


def _guess(
    images: Sequence[Path], pixels: npt.NDArray[np.int64], share: float, wanted: int, seed: int
) -> tuple[list[str], str, Chosen | None]:
    """Hold whole sequences out, as file names tell them, if some have about the share that is wanted; else blocks."""
    sequences = guess_sequences(images)
    if sequences is not None:
        chosen = choose_groups(sequences, pixels, share, seed)
        if chosen is not None and wanted / FAR <= chosen.sum() <= wanted * FAR:
            return sequences, GUESSED, chosen
    groups = cut_blocks(images, max(min(BLOCK, wanted), math.ceil(wanted / MAX_BLOCKS)), sequences)
    why = "file names show no videos" if sequences is None else "videos, guessed from file names, are too long"
    how = f"blocks of neighbours by file name ({why}): images at their ends are like some in training"
    return groups, how, choose_groups(groups, pixels, share, seed)


def choose_groups(groups: Sequence[str], pixels: npt.NDArray[np.int64], share: float, seed: int) -> Chosen | None:
    """Choose groups with about a share of the images and of each class, without which every class is still there.

    Args:
        groups: Of each image.
        pixels: Of each class, ``(images, classes)``.
        share: Of the images.
        seed: Of the choice.

    Returns:
        Which images are chosen; None if no group can be.
    """
    names, member = np.unique(np.array(groups), return_inverse=True)
    if len(names) < 2:
        return None
    assigned = np.array(assign(list(groups), tuple(groups), pixels, (1 - share, share), seed))
    held = np.zeros(len(names), bool)
    held[member[assigned == 1]] = True
    sizes = np.bincount(member)
    shown = np.zeros((len(names), pixels.shape[1]), np.int64)
    np.add.at(shown, member, pixels)
    there = shown > 0
    while (lost := there.any(0) & ~there[~held].any(0)).any():
        with_it = np.flatnonzero(held & there[:, lost.argmax()])
        held[with_it[sizes[with_it].argmin()]] = False
    if not held.any():
        total = there.sum(0)
        spare = [group for group in range(len(names)) if not (there[group] & (total == 1)).any()]
        if not spare:
            return None
        held[min(spare, key=lambda group: abs(sizes[group] - share * len(groups)))] = True
    return np.asarray(held[member])
