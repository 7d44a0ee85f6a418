"""Whether a split leaks: frames of one video or flight, or near duplicates, in several parts of it."""

from __future__ import annotations

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unip.data.grouping import MIN_MEAN_FRAMES
from unip.data.labelled.readers.places import ALSO_USUAL, USUAL
from unip.data.manifests.hamming import Hashes, near_groups

RADIUS = 4  # bits in which the perceptual hashes of near duplicates differ at most, as in `unip data dedup`
SHOWN = 3  # sequences that a message names

#: What may name the sequence of an image, the coarsest first: the folder above the image's folder, the folder, and what
#: comes before the last number of the name.
PATTERNS = (r"([^/]+)/[^/]+/[^/]+$", r"([^/]+)/[^/]+$", r"([^/]+)[_-]\d+[^/\d]*$", r"([^/]*[^/\d])\d+[^/\d]*$")


@dataclass(frozen=True)
class Guess:
    """A regular expression for ``--group``, and the sequences that it finds."""

    pattern: str
    sequences: tuple[str, ...]


def guess_pattern(images: Sequence[Path], least: int) -> Guess | None:
    """Return the pattern that tells sequences by their names, the one with the fewest; None if there is none.

    Args:
        images: The image files.
        least: Sequences that there have to be.
    """
    paths = [path.as_posix() for path in images]
    for pattern in PATTERNS:
        matches = [re.search(pattern, path) for path in paths]
        found = sorted({match.group(1) for match in matches if match}, key=os.fsencode)
        splits = {name.lower() for name in found} <= {*USUAL, *ALSO_USUAL}
        if all(matches) and not splits and max(2, least) <= len(found) <= len(paths) / MIN_MEAN_FRAMES:
            return Guess(pattern, tuple(found))
    return None


def describe_no_groups(images: Sequence[Path], least: int) -> str:
    """Return what to say where nothing tells which images belong together; see :func:`guess_pattern`."""
    text = (
        "note: every image is its own group, so neighbouring frames of a video or flight may be in different splits, "
        "and scores too high. "
    )
    guess = guess_pattern(images, least)
    if guess is None:
        return text + "If frames follow each other, say which belong together: --group or --groups."
    shown = ", ".join(guess.sequences[:SHOWN]) + (", ..." if len(guess.sequences) > SHOWN else "")
    return (
        f"{text}By their names, the images are of {len(guess.sequences)} sequences ({shown}). To keep each of them in "
        f"one split: --group {shlex.quote(guess.pattern)}"
    )


def describe_near_duplicates(images: Sequence[Path], hashes: Hashes, splits: Sequence[str]) -> str | None:
    """Return what to say of near duplicates in different splits; None if there are none.

    Args:
        images: The image files.
        hashes: Perceptual hash of each, ``(N,)`` uint64.
        splits: The split of each.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(near_groups(hashes, RADIUS).tolist()):
        members[label].append(index)
    leaking = [group for group in members.values() if len({splits[i] for i in group}) > 1]
    if not leaking:
        return None
    first = leaking[0][0]
    other = next(i for i in leaking[0] if splits[i] != splits[first])
    count = sum(map(len, leaking))
    return (
        f"note: {count} of {len(images)} images have a near duplicate in another split, such as {images[first]} "
        f"({splits[first]}) and {images[other]} ({splits[other]}), so scores are too high. Keep them in one group, or "
        "leave duplicates out: unip data dedup finds them"
    )
