"""What is wrong with labels: pairs, sizes, ids, classes, slivers, shifted masks, frames that splits share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unip.data.findings import Finding
from unip.data.labelled.alignment import frame_shifts, misfit, set_shift
from unip.data.labelled.binary import refuse_doubtful_masks
from unip.data.labelled.mask_facts import MaskFacts, in_words
from unip.data.labelled.statistics import MIN_OBJECT_PIXELS
from unip.data.labelled_sets import LabelledSet, UnreadLabels, absolute
from unip.data.leakage import RADIUS
from unip.data.manifests.facts import FileFacts
from unip.data.manifests.sources import printable
from unip.errors import UnipError

EXAMPLES = 12  # frames that show what concerns a whole set
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassShare:
    """A class of a split: its name, colour, pixels, share of the labelled pixels, and how many masks show it."""

    name: str
    colour: tuple[int, int, int]
    pixels: int
    share: float
    masks: int


@dataclass(frozen=True)
class SetSummary:
    """What the labels of a split are like.

    Attributes:
        title: Data set and split.
        pairs: How many there are.
        used: Of how many the mask can be used.
        unlabelled: Share of the pixels without a label.
        pieces: Connected regions of the masks.
        slivers: How many of them are of a few pixels only.
        classes: The classes, in the order of their ids.
        misfits: Frames whose masks fit the edges least, worst first.
    """

    title: str
    pairs: int
    used: int
    unlabelled: float
    pieces: int
    slivers: int
    classes: tuple[ClassShare, ...]
    misfits: tuple[bytes, ...]


def summarise(labels: LabelledSet, masks: Mapping[bytes, MaskFacts]) -> SetSummary:
    """Put the facts of the masks of a split together."""
    good = _usable(labels, masks)
    counts = _pixels(good)
    total, shown = counts.sum(axis=0), (counts > 0).sum(axis=0)
    labelled = max(1, int(total[:255].sum()))
    classes = tuple(
        ClassShare(name, colour, int(total[i]), int(total[i]) / labelled, int(shown[i]))
        for i, (name, colour) in enumerate(zip(labels.data.classes.names, labels.data.classes.palette, strict=True))
    )
    worst = sorted((-misfit(facts.fit), path) for path, facts in good.items() if facts.fit)
    return SetSummary(
        labels.title,
        len(labels.data),
        len(good),
        float(total[255]) / max(1, int(total.sum())),
        sum(facts.pieces for facts in good.values()),
        int(_slivers(good).sum()),
        classes,
        tuple(path for _, path in worst[:EXAMPLES]),
    )


def find_label_problems(
    sets: Sequence[LabelledSet],
    unread: Sequence[UnreadLabels],
    masks: Mapping[bytes, MaskFacts],
    facts: Mapping[bytes, FileFacts],
) -> list[Finding]:
    """Return what is wrong with labels.

    Args:
        sets: The splits of labelled data.
        unread: Labels that could not be opened.
        masks: Facts of the masks, by the path of their frames.
        facts: Facts of the frames, by their paths.
    """
    found = [Finding(absolute(each.root), each.source, "labels", each.reason, 0.0) for each in unread]
    for labels in sets:
        good = _usable(labels, masks)
        found += _unusable(labels, masks)
        found += _empty_classes(labels, good)
        found += _sliver_finding(labels, good)
        found += _shifts(labels, good)
    by_root: dict[object, list[LabelledSet]] = {}
    for labels in sets:
        by_root.setdefault(labels.root, []).append(labels)
    for splits in by_root.values():
        found += _doubtful(splits, masks)
        found += _shared_frames(splits, facts)
    return found


def _usable(labels: LabelledSet, masks: Mapping[bytes, MaskFacts]) -> dict[bytes, MaskFacts]:
    found = {path: masks[path] for path in labels.images if path in masks}
    return {path: facts for path, facts in found.items() if facts.pixels is not None}


def _pixels(good: Mapping[bytes, MaskFacts]) -> Counts:
    """Return the pixels of each mask and id, ``(masks, 256)``."""
    return np.array([facts.pixels for facts in good.values()], np.int64).reshape(-1, 256)


def _slivers(good: Mapping[bytes, MaskFacts]) -> Counts:
    return np.array([facts.slivers for facts in good.values()], np.int64).reshape(-1, 256)


def _unusable(labels: LabelledSet, masks: Mapping[bytes, MaskFacts]) -> list[Finding]:
    source = labels.source
    found = [
        Finding(path, source, facts.problem, facts.detail, 0.0)
        for path in labels.images
        if (facts := masks.get(path)) and facts.problem
    ]
    found += [Finding(absolute(path), source, "no mask", labels.title, 0.0) for path in labels.unpaired.images]
    found += [Finding(absolute(path), source, "no image", labels.title, 0.0) for path in labels.unpaired.masks]
    return found


def _empty_classes(labels: LabelledSet, good: Mapping[bytes, MaskFacts]) -> list[Finding]:
    total = _pixels(good).sum(axis=0)
    empty = [name for i, name in enumerate(labels.data.classes.names) if not total[i]]
    if not good or not empty:
        return []
    verb = "has" if len(empty) == 1 else "have"
    detail = (
        f"{labels.title}: {', '.join(empty)} {verb} no pixel in {len(good):,} {'mask' if len(good) == 1 else 'masks'}"
    )
    return [Finding(_folder(labels), labels.source, "empty class", detail, float(len(empty)), count=len(empty))]


def _sliver_finding(labels: LabelledSet, good: Mapping[bytes, MaskFacts]) -> list[Finding]:
    counts = _slivers(good)
    of_mask, of_class = counts.sum(axis=1), counts.sum(axis=0)
    total, pieces = int(of_class.sum()), sum(facts.pieces for facts in good.values())
    if not total:
        return []
    names = labels.data.classes.names
    most = [f"{names[i]} {of_class[i]:,}" for i in np.argsort(-of_class, kind="stable")[:5] if of_class[i]]
    detail = (
        f"{labels.title}: {total:,} of {pieces:,} connected pieces have fewer than {MIN_OBJECT_PIXELS} pixels, in "
        f"{int((of_mask > 0).sum()):,} of {len(good):,} masks ({', '.join(most)})"
    )
    order = np.argsort(-of_mask, kind="stable")[:EXAMPLES].tolist()
    paths = list(good)
    frames = tuple(paths[i] for i in order if of_mask[i])
    return [Finding(_folder(labels), labels.source, "slivers", detail, total / pieces, frames, total)]


def _shifts(labels: LabelledSet, good: Mapping[bytes, MaskFacts]) -> list[Finding]:
    paths, fits = list(good), [facts.fit for facts in good.values()]
    found = []
    whole = set_shift(fits)
    if whole:
        judged = sum(fit is not None for fit in fits)
        frames = tuple(path for path, fit in zip(paths, fits, strict=True) if fit is not None)[:EXAMPLES]
        detail = f"{labels.title}: the {judged:,} masks together fit better {whole}"
        found.append(Finding(_folder(labels), labels.source, "shifted", detail, 1 + whole.gain, frames, judged))
    for i, shift in frame_shifts(fits).items():
        found.append(Finding(paths[i], labels.source, "shifted", f"its mask fits better {shift}", shift.gain))
    return found


def _doubtful(splits: Sequence[LabelledSet], masks: Mapping[bytes, MaskFacts]) -> list[Finding]:
    """Find masks whose 255 may mean an object, by what all splits hold together."""
    first = splits[0]
    total = np.sum([_pixels(_usable(labels, masks)).sum(axis=0) for labels in splits], axis=0)
    try:
        refuse_doubtful_masks(first.data, total.tolist())
    except UnipError as error:
        return [Finding(absolute(first.root), first.source, "doubtful ids", in_words(error), 0.0)]
    return []


def _shared_frames(splits: Sequence[LabelledSet], facts: Mapping[bytes, FileFacts]) -> list[Finding]:
    """Find frames of later splits that show nearly the same as one of an earlier split, by perceptual hashes."""
    found: dict[bytes, tuple[int, Finding]] = {}
    for one, other in itertools.combinations(splits, 2):
        paths, theirs = _lively(one, facts), _lively(other, facts)
        if not paths or not theirs or not one.split:
            continue
        hashes = np.array([facts[path].phash for path in paths], np.uint64)
        for path in theirs:
            distances = np.bitwise_count(hashes ^ np.uint64(facts[path].phash))
            nearest = int(distances.argmin())
            bits = int(distances[nearest])
            if bits <= RADIUS and bits < found.get(path, (RADIUS + 1,))[0]:
                same = facts[path].sha256 == facts[paths[nearest]].sha256
                how = "the same file as" if same else f"{bits} of 64 bits of the hash differ from"
                detail = f"{other.split}: {how} {one.split}: {printable(paths[nearest]).rsplit('/', 1)[-1]}"
                finding = Finding(path, other.source, "across splits", detail, float(-bits), (path, paths[nearest]))
                found[path] = bits, finding
    return [finding for _, finding in found.values()]


def _lively(labels: LabelledSet, facts: Mapping[bytes, FileFacts]) -> list[bytes]:
    """Return the frames whose hash says something: those that can be read and are not constant."""
    return [path for path in labels.images if path in facts and not facts[path].problem and facts[path].std > 0]


def _folder(labels: LabelledSet) -> bytes:
    return absolute(labels.root / labels.split)
