"""The kinds of findings of `unip data check`, and what is wrong with images, told from the facts of their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from unip.data.images.quality import FALSE_COLOUR
from unip.data.labelled.statistics import MIN_OBJECT_PIXELS
from unip.data.manifests.facts import FileFacts
from unip.data.manifests.hamming import near_groups
from unip.data.manifests.rows import Row

Severity = Literal["error", "warning", "note"]  # cannot be used; may do harm; worth a look


@dataclass(frozen=True)
class Kind:
    """A kind of finding: how bad it is, what it means, and what to do."""

    severity: Severity
    meaning: str
    fix: str


# In the order of reports.
FINDING_KINDS = {
    "unreadable": Kind("error", "missing, empty, or not an image", "Copy the files again or remove them."),
    "damaged": Kind("error", "cut off, or its bytes are broken", "Copy the files again or remove them."),
    "bomb": Kind("error", "claims more pixels than may be decoded", "Split real images into tiles, remove others."),
    "bad mask": Kind("error", "a mask that cannot be read", "Save the masks as PNG with one channel of class ids."),
    "mask size": Kind("error", "a mask that has not the size of its frame", "Save masks at the size of their frames."),
    "unknown id": Kind(
        "error", "a mask with ids outside the classes", "Add the classes to classes.json, or use --remap ID=CLASS."
    ),
    "no image": Kind("error", "a mask without a frame", "Add the frames, or move the masks away."),
    "doubtful ids": Kind("error", "masks whose ids may mean two things", "Say what they mean with --remap."),
    "labels": Kind(
        "warning",
        "labels that seem to be there, but were not checked",
        "Do what each line says, or name them with --data.",
    ),
    "no mask": Kind("warning", "a frame without a mask, which training leaves out", "Label or remove the frames."),
    "shifted": Kind(
        "warning",
        "a mask whose borders would fit the edges of its frame better somewhere else",
        "Compare frame and mask: a crop, another resolution or another camera may have moved the masks.",
    ),
    "across splits": Kind(
        "warning",
        "a frame that shows nearly the same as one of another split, so scores are too good",
        "Split by video or flight: unip data split --group.",
    ),
    "empty class": Kind(
        "warning",
        "a class without a pixel: it is not learnt from such a split, or has no score on it",
        "Split again, label more frames, or merge the class with --remap.",
    ),
    "small": Kind("warning", "a side is shorter than the limit", "Leave the frames out, or lower --min-side."),
    "constant": Kind("warning", "all pixels are equal", "Leave the frames out."),
    "flat": Kind("warning", "hardly any contrast", "Leave the frames out, or lower --min-contrast."),
    "black and white": Kind(
        "warning", "a mask rather than a frame", "Give the folder of the frames alone, and labels with --data."
    ),
    "saturated": Kind("warning", "many pixels at an end of the range", "Export them with a wider temperature range."),
    "false colour": Kind(
        "warning", "a palette was applied to an infrared frame", "--palette invert brings its grey levels back."
    ),
    "colour": Kind(
        "warning", "colours where grey is expected, of no palette that is known", "Give visible images as rgb=FOLDER."
    ),
    "bit depth": Kind("warning", "another bit depth than most of its source", "Export all frames with one bit depth."),
    "slivers": Kind(
        "note",
        f"pieces of a class of fewer than {MIN_OBJECT_PIXELS} pixels",
        "Often slips of the labelling, unless objects are that small.",
    ),
}

NEGATIVE_RADIUS = 6  # bits between a frame and the negative of another of the same scene
DC = np.uint64(1) << np.uint64(63)  # the hash's first bit, the mean, which a negative does not turn over
MIN_POLARITY_SHARE = 0.1  # of a source's frames that each of two polarities must have
MIN_SEPARATION = 4.0  # Ashman's D; 2.7 for a normal distribution cut in two, 3.5 for a uniform one
MIN_FRAMES = 20


@dataclass(frozen=True)
class Limits:
    """See the fields of the same names of :class:`unip.data.config.CheckConfig`."""

    min_side: int = 64
    min_contrast: float = 8
    max_saturated: float = 0.2


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one image, one mask or a whole set.

    Attributes:
        path: The file or folder.
        source: Its data set.
        kind: A key of ``FINDING_KINDS``.
        detail: With the numbers.
        badness: Larger is worse, within a kind.
        frames: Frames that show it, worst first, where it concerns a whole set and ``path`` is its folder.
        count: How many things of the kind it stands for.
    """

    path: bytes
    source: str
    kind: str
    detail: str
    badness: float
    frames: tuple[bytes, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class SourceCount:
    """How many images of a source were looked at, and how many findings of each kind there are."""

    source: str
    images: int
    kinds: dict[str, int]


def find_problems(rows: Sequence[Row], limits: Limits) -> tuple[list[Finding], list[str]]:
    """Return the findings in the files that were read, and hints on whole sources."""
    findings: list[Finding] = []
    hints: list[str] = []
    by_source: dict[str, list[tuple[str, FileFacts]]] = {}
    for row in rows:
        if row.facts:
            by_source.setdefault(row.source, []).append((row.modality, row.facts))
            found = _problems(row.facts, row.modality, limits)
            findings += (Finding(row.facts.path, row.source, *problem) for problem in found)
    for source, members in sorted(by_source.items()):
        good = [(modality, facts) for modality, facts in members if not facts.problem]
        findings += _mixed_depth(source, [facts for _, facts in good])
        hints += _hints(source, [facts for modality, facts in good if modality == "infrared"])
    return findings, hints


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings as reports have them: by kind, worst first."""
    places = {kind: place for place, kind in enumerate(FINDING_KINDS)}
    return sorted(findings, key=lambda finding: (places[finding.kind], -finding.badness, finding.path))


def _problems(facts: FileFacts, modality: str, limits: Limits) -> list[tuple[str, str, float]]:
    if facts.problem:
        bomb, damaged = "million pixels" in facts.problem, "truncated or damaged" in facts.problem
        return [("bomb" if bomb else "damaged" if damaged else "unreadable", facts.problem, 0.0)]
    found = []
    side = min(facts.width, facts.height)
    if side < limits.min_side:
        found.append(("small", f"{facts.width} x {facts.height} pixels", -float(side)))
    if facts.saturated == 1 and facts.std:
        return [*found, ("black and white", "every pixel is at one end of the range or the other", 0.0)]
    span = facts.high - facts.low
    unit = "levels" if facts.bits == 8 else "counts"
    if facts.std == 0:
        found.append(("constant", f"every pixel is {facts.mean:.0f}", 0.0))
    elif span < limits.min_contrast:
        found.append(("flat", f"{span:.0f} {unit} between the 0.5 and 99.5 percentiles", -span))
    if facts.saturated > limits.max_saturated and facts.std:
        # Photographs of things on white come last: theirs is no fault.
        badness = facts.saturated - (modality == "rgb")
        found.append(("saturated", f"{100 * facts.saturated:.0f} % of the pixels", badness))
    if modality == "infrared" and not facts.grey:
        mapped = bool(facts.palette) or facts.colours < FALSE_COLOUR
        off_curve = f"colours lie {100 * facts.colours:.1f} % of their extent off a curve"
        of_none = off_curve if mapped else "three channels, no known palette"
        if facts.colours == 1:  # see colour_spread
            of_none += "; too little colour or area to tell more, so perhaps grey with noise in its colours"
        detail = f"palette {facts.palette}" if facts.palette else of_none
        found.append(("false colour" if mapped else "colour", detail, -facts.colours))
    return found


def _mixed_depth(source: str, good: Sequence[FileFacts]) -> list[Finding]:
    depths = Counter(facts.bits for facts in good)
    if len(depths) < 2:
        return []
    (usual, count), *_ = depths.most_common()
    detail = f"bits, but {count} of {len(good)} images of {source} have {usual}"
    return [
        Finding(facts.path, source, "bit depth", f"{facts.bits} {detail}", 0.0) for facts in good if facts.bits != usual
    ]


def _hints(source: str, good: Sequence[FileFacts]) -> list[str]:
    """Look for white-hot and black-hot frames in one source: by negatives of one scene, and by the sky."""
    hints = []
    lively = [facts for facts in good if facts.std]
    negatives = count_negatives(np.array([facts.phash for facts in lively], dtype=np.uint64))
    if negatives:
        hints.append(
            f"{source}: {negatives} frames look like the negative of another one; polarities may be mixed "
            "(white-hot and black-hot)"
        )
    tilts = np.array([facts.tilt for facts in lively])
    split = two_polarities(tilts)
    if split:
        dark, bright = split
        hints.append(
            f"{source}: in {dark} frames the top is dark, in {bright} it is bright, and few lie between; if the top "
            "is sky, white-hot and black-hot frames are mixed"
        )
    return hints


def count_negatives(hashes: npt.NDArray[np.uint64]) -> int:
    """Count the frames whose negative is within ``NEGATIVE_RADIUS`` bits of another frame.

    The negative of an image has the complement of its perceptual hash, but for the first bit, the mean.
    """
    if not len(hashes):
        return 0
    both = np.concatenate([hashes | DC, ~hashes | DC])
    labels = near_groups(both, NEGATIVE_RADIUS)
    frames, negatives = labels[: len(hashes)], labels[len(hashes) :]
    return int(np.isin(frames, negatives).sum())


def two_polarities(tilts: npt.NDArray[np.float64]) -> tuple[int, int] | None:
    """Say whether the tilts of a source's frames have two well separated modes of opposite sign.

    The frames are cut in two at 0. Ashman's D = sqrt(2) |m1 - m2| / sqrt(s1^2 + s2^2) (Astronomical Journal 108, 1994)
    says how far the parts are apart.

    Returns:
        How many have a dark top and a bright one, or None.
    """
    dark, bright = tilts[tilts < 0], tilts[tilts > 0]
    if len(tilts) < MIN_FRAMES or min(len(dark), len(bright)) < MIN_POLARITY_SHARE * len(tilts):
        return None
    spread = float(np.sqrt(dark.var() + bright.var()))
    apart = np.sqrt(2) * float(bright.mean() - dark.mean()) / max(spread, 1e-9)
    return (len(dark), len(bright)) if apart >= MIN_SEPARATION else None
