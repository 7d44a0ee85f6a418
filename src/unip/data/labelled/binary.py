"""Masks that hold 0 and 255 alone: objects, or no label? Nothing is guessed where the classes leave it open."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.masks import Ids, MaskSource, make_ids
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError

log = logging.getLogger(__name__)

WHITE = 255  # what paint programs draw objects with


def binary_ids(masks: Iterable[MaskSource], classes: Classes) -> Ids | None:
    """Return what 0 and 255 mean in masks of two classes, if no ``ignore_index`` is stated: background and object.

    Masks are read until one has a pixel that is not 0. Should a later one hold 1, it is refused for an unknown id.

    Returns:
        The table of such masks; None where they hold class ids.

    Raises:
        UnipError: A mask cannot be read.
    """
    for mask in masks:
        values = set(np.unique(mask.read()).tolist()) - {0}
        if values == {WHITE}:
            log.info(
                f"masks hold 0 and {WHITE}, and classes.json states no ignore_index: {WHITE} is {classes.names[1]!r}"
            )
            return make_ids({0: 0, WHITE: 1})
        if values:
            return None
    return None


def refuse_doubtful(data: SegmentationData, pixels: Sequence[int]) -> None:
    """Refuse masks in which nothing but class 0 is labelled, and the rest has the id that stands for no label.

    Args:
        data: The pairs.
        pixels: Of all of them: of each class, in the order of the ids, then those without a label.

    Raises:
        UnipError: They are such; the message names both meanings and what to write for each.
    """
    if data.assumed_ignore is None or len(data.classes.names) < 2:
        return
    *counts, ignored = pixels
    zero = dict(data.ids).get(0, IGNORE)
    if zero == IGNORE:
        return
    others = [name for i, name in enumerate(data.classes.names) if i != zero]
    if counts[zero] and ignored and sum(counts) == counts[zero]:
        raw, names = data.assumed_ignore, (data.classes.names[zero], *others)
        raise UnipError(
            f"the masks in {data.masks[0].path.parent} hold two values alone: 0 ({names[0]}) and {raw}, which is the "
            f"ignore_index. No pixel is {' or '.join(names[1:4])}",
            f"If {raw} marks {names[1]}: --remap {raw}={names[1]}"
            + (", or have a classes.json that states no ignore_index" if len(names) == 2 else "")
            + f". If it marks pixels without a label: --remap {raw}=ignore.",
        )


def refuse_doubtful_masks(data: SegmentationData, counts: Sequence[int]) -> None:
    """Do the same, given the pixels of each of 256 ids."""
    refuse_doubtful(data, [*counts[: len(data.classes.names)], counts[IGNORE]])
