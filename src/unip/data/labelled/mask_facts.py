"""What one mask is like beside its frame: whether it can be used, its classes, its slivers, its fit to the edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import Pixels8
from unip.data.labelled.alignment import EdgeFit, edge_fit
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.masks import translate
from unip.data.labelled.pairs import SegmentationData, check_pair
from unip.data.labelled.regions import regions
from unip.data.labelled.statistics import MIN_OBJECT_PIXELS
from unip.errors import UnipError

MaskProblem = Literal["bad mask", "mask size", "unknown id"]


@dataclass(frozen=True)
class MaskFacts:
    """Facts of a mask.

    Attributes:
        pixels: Pixels of each of 256 ids, int64 ``(256,)``; 255: without a label. None where the mask cannot be used.
        pieces: Connected regions with a label.
        slivers: How many of them are smaller than ``MIN_OBJECT_PIXELS``, of each id, int64 ``(256,)``.
        fit: How its borders fit the edges of the frame; None where that cannot be told.
        problem: Why it cannot be used.
        detail: The same in words, and what to do.
    """

    pixels: npt.NDArray[np.int64] | None = None
    pieces: int = 0
    slivers: npt.NDArray[np.int64] | None = None
    fit: EdgeFit | None = None
    problem: MaskProblem | None = None
    detail: str = ""


def look_at_mask(data: SegmentationData, index: int, grey: Pixels8) -> tuple[MaskFacts, Pixels8 | None]:
    """Read the mask of a pair once, and measure it beside its frame.

    Args:
        data: The pairs.
        index: Which.
        grey: The frame, ``(H, W)`` uint8.

    Returns:
        The facts, and the class ids ``(H, W)`` uint8 if the mask can be used; what is wrong with it is no exception.
    """
    source = data.masks[index]
    problem: MaskProblem = "bad mask"
    try:
        raw = source.read()
        problem = "mask size"
        check_pair(grey, raw, data.images[index], source.path)
        problem = "unknown id"
        mask = translate(raw, data.ids, data.classes, source.path)
    except (UnipError, OSError) as error:
        return MaskFacts(problem=problem, detail=in_words(error)), None
    ids, areas = regions(mask)
    labelled = ids != IGNORE
    slivers = np.bincount(ids[labelled & (areas < MIN_OBJECT_PIXELS)], minlength=256)
    pixels = np.bincount(mask.ravel(), minlength=256)
    return MaskFacts(pixels, int(labelled.sum()), slivers, edge_fit(grey, mask)), mask


def in_words(error: UnipError | OSError) -> str:
    """Return what is wrong and what to do about it on one line."""
    return ". ".join(filter(None, (error.what, error.fix))) if isinstance(error, UnipError) else str(error)
