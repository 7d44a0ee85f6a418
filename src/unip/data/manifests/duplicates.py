"""Which images of a set show the same as another: groups of exact copies and near duplicates, one of each kept.

The rule: images are taken from best to worst (most pixels, then sharpest, then first by source and bytes of the path).
One that no kept image is near to is kept; one that is near to a kept image is dropped in favour of the first such.
So every dropped image has a kept one within the radius. The other rule, ``chain``, keeps the best image of everything
that chains of near images connect; a slow pan becomes a single frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.manifests.hamming import Hashes, Labels, join, near_groups
from unip.data.manifests.rows import Row
from unip.data.manifests.settings import Rule
from unip.data.manifests.sources import printable

Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

BLOCK = 2048  # features compared at once, with as many


@dataclass(frozen=True)
class DuplicateThresholds:
    """When two images of one modality count as near duplicates: any of the three.

    Attributes:
        radius: Bits in which the perceptual hashes may differ; -1: only equal files.
        frame_radius: The same for two frames of one video or flight; None: as for all others.
        similarity: Least cosine of the features, where there are features.
    """

    radius: int = 4
    frame_radius: int | None = None
    similarity: float = 0.95


@dataclass(frozen=True)
class Duplicate:
    """An image that is dropped, the one that is kept for it, and how near they are.

    Attributes:
        row: Of the dropped image.
        exact: The files have the same bytes.
        distance: Bits in which the hashes differ.
        similarity: Cosine of the features, None without features.
    """

    row: Row
    exact: bool
    distance: int
    similarity: float | None


@dataclass(frozen=True)
class Group:
    """A kept image and those dropped for it, in the order of their paths."""

    kept: Row
    dropped: list[Duplicate]


def find_duplicates(
    rows: Sequence[Row], thresholds: DuplicateThresholds, rule: Rule = "near", features: Features | None = None
) -> list[Group]:
    """Group the images that can be used; those of different modalities are never duplicates of each other.

    Args:
        rows: The images; dropped ones are passed over.
        thresholds: When two are near.
        rule: Which are kept, see the top of this file.
        features: ``(N, D)`` float32 of length 1, one for each image, or None.

    Returns:
        The groups of two images and more, largest first.
    """
    used = np.array([i for i, row in enumerate(rows) if row.kept], dtype=np.int64)
    rows = [rows[i] for i in used.tolist()]
    if not rows:
        return []
    sharp = [row.facts.sharpness if row.facts else 0.0 for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (-rows[i].width * rows[i].height, -sharp[i], i))
    hashes = np.array([row.phash for row in rows], dtype=np.uint64)
    files = np.unique([row.sha256 for row in rows], return_inverse=True)[1]
    videos = np.unique([f"{row.source}\0{row.group}" if row.group else "" for row in rows], return_inverse=True)[1]
    videos[[not row.group for row in rows]] = -1
    kinds = np.unique([row.modality for row in rows], return_inverse=True)[1]
    vectors = None if features is None else features[used]
    frames = thresholds.radius if thresholds.frame_radius is None else thresholds.frame_radius

    def near(best: int, others: Indices) -> npt.NDArray[np.bool_]:
        distance = np.bitwise_count(hashes[others] ^ hashes[best]).astype(np.int64)
        same_video = (videos[others] == videos[best]) & (videos[best] >= 0)
        found: npt.NDArray[np.bool_] = (files[others] == files[best]) | (
            distance <= np.where(same_video, frames, thresholds.radius)
        )
        if vectors is not None:
            found |= vectors[others] @ vectors[best] >= thresholds.similarity
        found &= kinds[others] == kinds[best]
        return found

    labels = _connected(kinds, files, np.arange(len(rows)))
    if thresholds.radius >= 0:
        labels = _connected(kinds, hashes, labels, lambda part: near_groups(part, thresholds.radius))
    if frames > thresholds.radius:
        keys = np.where(videos >= 0, videos, -1)
        labels = _connected(keys, hashes, labels, lambda part: near_groups(part, frames), skip=-1)
    if vectors is not None:
        labels = _connected(kinds, vectors, labels, lambda part: near_features(part, thresholds.similarity))
    keepers = choose_kept(labels, order, near if rule == "near" else None)
    return _groups(rows, keepers, hashes, files, vectors)


def choose_kept(
    labels: Labels, order: Sequence[int], near: Callable[[int, Indices], npt.NDArray[np.bool_]] | None
) -> Indices:
    """Choose for each item the one that is kept for it.

    Args:
        labels: ``(N,)`` of the connected group of each item.
        order: The items from best to worst.
        near: Says which of some items (indices) are near to one; None: all of its group are.

    Returns:
        ``(N,)`` int64; a kept item has its own index.
    """
    keepers = np.arange(len(labels))
    ranked = np.asarray(order, dtype=np.int64)
    ranked = ranked[np.argsort(labels[ranked], kind="stable")]
    for members in np.split(ranked, np.flatnonzero(np.diff(labels[ranked])) + 1):
        left = members
        while len(left) > 1:
            close = near(int(left[0]), left) if near else np.ones(len(left), dtype=bool)
            close[0] = True
            keepers[left[close]] = left[0]
            left = left[~close]
    return keepers


def near_features(features: Features, similarity: float) -> Labels:
    """Group feature vectors of length 1 that chains of similar ones connect, by comparing all with all.

    Args:
        features: ``(N, D)`` float32.
        similarity: Least cosine.

    Returns:
        ``(N,)`` int64: the smallest index of each one's group.
    """
    labels = np.arange(len(features))
    for low in range(0, len(features), BLOCK):
        for other in range(low, len(features), BLOCK):
            cosine = features[low : low + BLOCK] @ features[other : other + BLOCK].T
            left, right = np.nonzero(cosine >= similarity)
            labels = join(labels, left + low, right + other)
    return labels


def mark(rows: Sequence[Row], groups: Sequence[Group]) -> list[Row]:
    """Return the rows, those of duplicates with ``kept`` false and the reason."""
    reasons = {
        (
            duplicate.row.path,
            duplicate.row.source,
        ): f"{describe_duplicate(duplicate)} {printable(group.kept.path or b'')}"
        for group in groups
        for duplicate in group.dropped
    }
    marked = []
    for row in rows:
        reason = reasons.get((row.path, row.source))
        marked.append(row if reason is None else replace(row, kept=False, reason=reason))
    return marked


def describe_duplicate(duplicate: Duplicate) -> str:
    """Say how a duplicate is one, in the words in front of the kept image's path."""
    if duplicate.exact:
        return "exact copy of"
    also = "" if duplicate.similarity is None else f", similarity {duplicate.similarity:.3f}"
    return f"near duplicate ({duplicate.distance} bits{also}) of"


def _connected(
    keys: npt.NDArray[np.int64],
    values: npt.NDArray[Any],
    labels: Labels,
    search: Callable[[npt.NDArray[Any]], Labels] | None = None,
    skip: int | None = None,
) -> Labels:
    """Merge groups within each set of items of one key: those ``search`` finds, or those of equal values."""
    for key in np.unique(keys).tolist():
        if key == skip:
            continue
        members = np.flatnonzero(keys == key)
        part = values[members]
        if search is None:
            first, inverse = np.unique(part, return_index=True, return_inverse=True)[1:]
            local = first[inverse]
        else:
            local = search(part)
        labels = join(labels, members, members[local])
    return labels


def _groups(
    rows: Sequence[Row], keepers: Indices, hashes: Hashes, files: Indices, vectors: Features | None
) -> list[Group]:
    dropped: dict[int, list[Duplicate]] = {}
    for index in np.flatnonzero(keepers != np.arange(len(rows))).tolist():
        keeper = int(keepers[index])
        duplicate = Duplicate(
            row=rows[index],
            exact=bool(files[index] == files[keeper]),
            distance=int(np.bitwise_count(hashes[index] ^ hashes[keeper])),
            similarity=None if vectors is None else float(vectors[index] @ vectors[keeper]),
        )
        dropped.setdefault(keeper, []).append(duplicate)
    return [
        Group(rows[keeper], members) for keeper, members in sorted(dropped.items(), key=lambda kv: (-len(kv[1]), kv[0]))
    ]
