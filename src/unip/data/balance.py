"""Dividing groups of images such that every split gets its share of the images and of each class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unip.errors import UnipError
from unip.runtime.seeds import seed_for

ROUNDS = 20  # of improvement at most
ATTEMPTS = 8  # with few groups, from other orders, of which the best is taken
PAIRED = 2000  # groups up to which any two may change places: the work grows with the square

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def assign(
    names: list[str], groups: tuple[str, ...], counts: npt.NDArray[np.int64], shares: tuple[float, ...], seed: int
) -> list[int]:
    """Divide images by groups such that images and every class's pixels come close to the shares.

    The groups, largest first (ties and the rest of the order by the seed), go each to the split where it adds least to
    the squared distance from the shares, summed over the number of images and, with the same weight in all, the pixels
    of the classes. Then groups move alone, and change places two by two, as long as that lowers it; every split with a
    share keeps a group. With few groups this is done from several orders, and the best result is taken; it can then be
    that two seeds agree.

    Args:
        names: Of the images; their order in the arguments does not matter.
        groups: Of each image.
        counts: Pixels of the classes, ``(images, classes)``.
        shares: Of the splits, which add up to 1.
        seed: Of the order.

    Returns:
        The split of each image.

    Raises:
        UnipError: There are fewer groups than splits.
    """
    unique = sorted(set(groups))
    wanted = [k for k, share in enumerate(shares) if share > 0]
    if len(unique) < len(wanted):
        raise UnipError(
            f"{len(unique)} group{'s' * (len(unique) > 1)} of images cannot be divided into {len(wanted)} splits",
            "Name finer groups, or ask for fewer splits: set a share to 0, or give a smaller number of folds.",
        )
    place = {group: i for i, group in enumerate(unique)}
    member = np.array([place[group] for group in groups])
    features = np.zeros((len(unique), 1 + counts.shape[1]))
    np.add.at(features, member, np.column_stack([np.ones(len(names)), counts]))
    totals = features.sum(axis=0)
    weight = np.array([1.0, *np.full(counts.shape[1], 1.0 / counts.shape[1])])
    features = features / np.where(totals > 0, totals, 1) * np.sqrt(weight)
    target = np.outer(shares, np.where(totals > 0, np.sqrt(weight), 0))

    best, chosen = np.inf, np.full(len(unique), -1)
    for attempt in range(ATTEMPTS if len(unique) <= PAIRED // 4 else 1):
        order = np.random.default_rng([seed_for(seed, len(unique)), attempt]).permutation(len(unique))
        order = order[np.argsort(-features[order, 0], kind="stable")]
        where = _fill(features, target, order, wanted)
        cost = _improve(features, target, where, order, wanted)
        if cost < best - 1e-12:
            best, chosen = cost, where
    return [int(chosen[m]) for m in member]


def _fill(features: Floats, target: Floats, order: Ints, wanted: list[int]) -> Ints:
    """Give out the groups in order, each to where it adds least to the squared distance; return their splits."""
    held, where = np.zeros_like(target), np.full(len(order), -1)
    for n, group in enumerate(order):
        empty = [k for k in wanted if not (where == k).any()]
        options = empty if len(order) - n <= len(empty) else wanted  # the last groups fill what is empty
        cost = [((held[k] + features[group] - target[k]) ** 2 - (held[k] - target[k]) ** 2).sum() for k in options]
        where[group] = options[int(np.argmin(cost))]
        held[where[group]] += features[group]
    return where


def _improve(features: Floats, target: Floats, where: Ints, order: Ints, wanted: list[int]) -> float:
    """Move single groups, and exchange pairs, while that lowers the squared distance, in ``where``; return it."""
    held = np.zeros_like(target)
    np.add.at(held, where, features)
    for _ in range(ROUNDS):
        changed = False
        for group in order:
            here = where[group]
            # what moving `group` out and each other group (or none) in changes, for all of them at once
            others = np.flatnonzero(where != here) if len(order) <= PAIRED else np.empty(0, np.int64)
            own = features[group]
            gap_here, gaps = held[here] - target[here], (held - target)[where[others]]
            swap = features[others] - own
            change = ((gap_here + swap) ** 2 - gap_here**2 + (gaps - swap) ** 2 - gaps**2).sum(axis=1)
            moves = np.array([k for k in wanted if k != here and (where == here).sum() > 1], np.int64)
            gap_to = (held - target)[moves]
            alone = ((gap_here - own) ** 2 - gap_here**2 + (gap_to + own) ** 2 - gap_to**2).sum(axis=1)
            best = np.concatenate([alone, change])
            if len(best) == 0 or best.min() > -1e-12:
                continue
            choice = int(best.argmin())
            other = None if choice < len(moves) else int(others[choice - len(moves)])
            to = int(moves[choice]) if other is None else int(where[other])
            difference = own if other is None else own - features[other]
            held[here] -= difference
            held[to] += difference
            where[group] = to
            if other is not None:
                where[other] = here
            changed = True
        if not changed:
            break
    return float(((held - target) ** 2).sum())
