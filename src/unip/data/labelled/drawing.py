"""A label budget: which of the labelled images are used, such that every class occurs and few ones are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unip.data.labelled.pairs import SegmentationData, classes_shown
from unip.data.labelled.settings import check_label_budget
from unip.errors import UnipError
from unip.runtime.seeds import seed_for

FEW = 50  # images: with fewer, neighbours of one video would be a waste
SHOWN = 5  # images that a message names


def choose_labels(
    data: SegmentationData, label_budget: float, seed: int, sequences: Sequence[str] | None = None
) -> list[int]:
    """Choose few pairs as :func:`choose` does; ``label_budget`` is a share up to 1 and a whole number of images above.

    Raises:
        UnipError: ``label_budget`` is not possible, or a mask is bad.
    """
    check_label_budget(label_budget)
    return choose(data, float(label_budget) if label_budget <= 1 else int(label_budget), seed, sequences)


def choose(
    data: SegmentationData, label_budget: float | int, seed: int, sequences: Sequence[str] | None = None
) -> list[int]:
    """Keep few labels: a seeded choice in which every class occurs as long as there is room for it.

    Classes are served from the rarest on, each with a random image that shows it, unless one chosen before does;
    the rest is random. Fewer than :data:`FEW` are spread over the sequences: an image of a sequence of which fewer are
    chosen comes first. With the same seed, a smaller choice is contained in a larger one, if both are spread or none.

    Args:
        data: The pairs.
        label_budget: A share in (0, 1] when a float, a number of images when an int.
        seed: Seed of the choice.
        sequences: The video or flight of each pair; None: each pair stands for itself.

    Returns:
        The numbers of the chosen pairs, rising.

    Raises:
        UnipError: ``label_budget`` is not possible, or a mask is bad.
    """
    if isinstance(label_budget, float):
        if not 0.0 < label_budget <= 1.0:
            raise UnipError(f"a share of labels must lie in (0, 1], but is {label_budget}")
        count = max(1, round(label_budget * len(data)))
    else:
        count = label_budget
    if not 1 <= count <= len(data):
        raise UnipError(
            f"{count} labelled images are asked for, but there are {len(data)}",
            f"Ask for 1 to {len(data)}, or for a share such as 0.1.",
        )
    if count == len(data):
        return list(range(count))

    present = classes_shown(data.read_mask, len(data), len(data.classes.names))
    shuffled = np.random.default_rng(seed_for(seed, len(data))).permutation(len(data))
    rarest_first = [int(each) for each in np.argsort(present.sum(axis=0), kind="stable")]
    chosen: list[int] = []
    for class_id in rarest_first:
        if present[:, class_id].any() and not present[chosen, class_id].any():
            chosen.append(int(next(i for i in shuffled if present[i, class_id])))
    chosen += [int(i) for i in shuffled if i not in set(chosen)]
    if sequences is not None and count < FEW:
        chosen = spread(chosen, present, rarest_first, sequences)
    return sorted(chosen[:count])


def spread(
    order: list[int], present: npt.NDArray[np.bool_], rarest_first: list[int], sequences: Sequence[str]
) -> list[int]:
    """Return :data:`FEW` images such that the first ones show every class and are of many sequences.

    Args:
        order: Images by their numbers, in the order that decides where all else is equal.
        present: Which classes each image shows, ``(images, classes)``.
        rarest_first: The classes.
        sequences: Of each image.
    """
    left, found, used = list(order), [], Counter[str]()

    def take(candidates: list[int]) -> None:
        image = min(candidates, key=lambda each: used[sequences[each]])
        used[sequences[image]] += 1
        found.append(image)
        left.remove(image)

    for class_id in rarest_first:
        showing = [image for image in left if present[image, class_id]]
        if showing and not present[found, class_id].any():
            take(showing)
    while left and len(found) < FEW:
        take(left)
    return found


def describe_drawn(chosen: Sequence[str], all_images: int, seed: int, sequences: tuple[int, int] | None) -> str:
    """Say which images a label budget drew.

    Args:
        chosen: Names of the chosen images.
        all_images: How many there are.
        seed: Of the choice.
        sequences: How many sequences the chosen ones are of, and how many there are; None: file names show none.
    """
    more = f" and {len(chosen) - SHOWN} more" * (len(chosen) > SHOWN)
    of = f", from {sequences[0]} of {sequences[1]} sequences" if sequences else ""
    return (
        f"{len(chosen)} of {all_images} labelled images are drawn (label_seed {seed}){of}: "
        f"{', '.join(chosen[:SHOWN])}{more}"
    )
