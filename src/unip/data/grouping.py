"""Which images belong together: by a pattern, by names that count up, or as blocks of neighbouring names.

Frames of one video or flight look alike. If some of them are trained on and others evaluated on, scores are too high.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from unip.errors import UnipError

LAST_NUMBER = re.compile(r"^(.*?)\d+(\D*)$", re.DOTALL)
MIN_MEAN_FRAMES = 2  # of a sequence; below that, numbers in names do not count frames


def match_groups(images: Sequence[Path], pattern: str) -> list[str]:
    """Return the group of each image: what the pattern's first capture group finds in its path, or all that it finds.

    Raises:
        UnipError: The pattern is no regular expression, or does not fit an image.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UnipError(f"group {pattern!r} is not a regular expression: {error}") from None
    matches = [compiled.search(path.as_posix()) for path in images]
    found = [match and (match.group(1) if compiled.groups else match.group()) for match in matches]
    return refuse_without_group(images, found, f"the pattern {pattern!r} does not fit")


def refuse_without_group(images: Sequence[Path], found: Sequence[str | None], source: str) -> list[str]:
    """Return the groups that were found, if every image has one.

    Raises:
        UnipError: Some image has none; ``source`` says what did not name it.
    """
    missing = [path for path, group in zip(images, found, strict=True) if not group]
    if missing:
        raise UnipError(
            f"{source} {len(missing)} of {len(images)} images, the first: {missing[0]}",
            "Every image must belong to a video or flight, or splits would leak.",
        )
    return [str(group) for group in found]


def guess_sequences(images: Sequence[Path]) -> list[str] | None:
    """Return the sequence of each image as its file name tells: the name with ``*`` for its last number.

    So ``flight2/0017.png`` is of ``flight2/*`` and ``62_658.webp`` of ``62_*``.

    Returns:
        None if the names show no sequences: all images would be of one, or hardly two of the same.
    """
    found = [LAST_NUMBER.sub(r"\1*\2", name) for name in _short_names(images)]
    count = len(set(found))
    return found if 1 < count <= len(found) / MIN_MEAN_FRAMES else None


def cut_blocks(images: Sequence[Path], length: int, within: Sequence[str] | None = None) -> list[str]:
    """Return the block of each image: neighbours by name, each block a sequence's own.

    Args:
        images: The image files.
        length: Images of a block; the last one of a sequence may be shorter, by less than half, or longer.
        within: The sequence of each image; None: all are one.
    """
    names = _short_names(images)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(names)), key=lambda index: _natural(names[index])):
        members["" if within is None else within[index]].append(index)
    blocks = [""] * len(names)
    for indices in members.values():
        count = max(1, round(len(indices) / length))
        for number in range(count):
            block = indices[number * len(indices) // count : (number + 1) * len(indices) // count]
            for index in block:
                blocks[index] = f"{names[block[0]]} to {names[block[-1]]}" if len(block) > 1 else names[index]
    return blocks


def _short_names(images: Sequence[Path]) -> list[str]:
    """Return names without ending and without the folder that all images share, so that the place does not matter."""
    parents = [os.path.abspath(path.parent) for path in images]
    shared = os.path.commonpath(parents) if parents else ""
    below = [os.path.relpath(parent, shared) for parent in parents]
    names = [Path(folder, path.stem).as_posix() for folder, path in zip(below, images, strict=True)]
    twice = Counter(names)
    return [name if twice[name] == 1 else f"{name}{path.suffix}" for name, path in zip(names, images, strict=True)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort numbers by their value: ``9`` before ``10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
