"""What labelled frames are like: sizes, classes, objects, colours. Settings are chosen from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import Pixels8
from unip.data.images.quality import FALSE_COLOUR, colour_spread
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import by_name, check_pairs
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.regions import regions

RARE_SHARE = 0.1  # of an equal share of the labelled pixels: cross-entropy hardly sees a class with less
MIN_OBJECT_PIXELS = 9  # pixels: smaller regions are more often slips of the labelling than objects


@dataclass(frozen=True)
class LabelFacts:
    """Facts of labelled frames.

    Attributes:
        pixels: Pixels by class name, in the order of the ids, and the rest as ``"ignore"``.
        sizes: Height and width of each frame in pixels, int64 ``(N, 2)``.
        objects: Sides of squares of the same area as the objects, in pixels, ``(M,)``. Objects are connected regions,
            specks left out, of all classes but the one with the most pixels: that is the ground they stand on.
        coloured: Share of the frames in natural colours: neither grey nor infrared under a colour map.
    """

    pixels: dict[str, int]
    sizes: npt.NDArray[np.int64]
    objects: npt.NDArray[np.float64]
    coloured: float = 0.0

    @property
    def images(self) -> int:
        """Number of labelled frames."""
        return len(self.sizes)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.pixels) - 1

    @property
    def size(self) -> tuple[int, int]:
        """Median height and width in pixels."""
        height, width = np.median(self.sizes, axis=0)
        return int(height), int(width)

    @property
    def object_side(self) -> float | None:
        """Half of the objects are at most this large across, in pixels; None where there are no objects."""
        return float(np.median(self.objects)) if len(self.objects) else None


def label_facts(data: SegmentationData, *, workers: int = 0) -> LabelFacts:
    """Decode every pair once, check it, and gather what the frames are like.

    Args:
        data: The pairs.
        workers: Threads; 0 means one for each core.

    Raises:
        UnipError: As :func:`unip.data.labelled.datasets.check_segmentation` does.
    """

    def measure(
        image: Pixels8, mask: Pixels8
    ) -> tuple[tuple[int, ...], npt.NDArray[np.int64], npt.NDArray[np.int64], bool]:
        ids, areas = regions(mask)
        whole = (ids != IGNORE) & (areas >= MIN_OBJECT_PIXELS)
        natural = image.ndim == 3 and colour_spread(image) >= FALSE_COLOUR
        return mask.shape, np.bincount(mask.ravel(), minlength=256), np.stack([ids[whole], areas[whole]]), natural

    sizes, counts, found, natural = zip(*check_pairs(data, measure, workers=workers), strict=True)
    total = np.sum(counts, axis=0)
    ground = int(np.argmax(total[: len(data.classes.names)]))
    ids, areas = np.concatenate(found, axis=1)
    return LabelFacts(
        pixels=by_name(total, data.classes),
        sizes=np.array(sizes, dtype=np.int64),
        objects=np.sqrt(areas[ids != ground].astype(np.float64)),
        coloured=float(np.mean(natural)),
    )


def rare_classes(pixels: dict[str, int]) -> dict[str, float]:
    """Return the share of the labelled pixels of each class that is rare, the rarest first.

    Rare is one that is shown, but with less than a tenth of an equal share.

    Args:
        pixels: Pixels by class name, and the rest as ``"ignore"``.
    """
    shown = {name: count for name, count in pixels.items() if count and name != "ignore"}
    labelled = sum(shown.values())
    found = sorted(
        (count / labelled, name) for name, count in shown.items() if count * len(shown) < RARE_SHARE * labelled
    )
    return {name: share for share, name in found}
