"""What labelled frames are like: sizes, classes, objects, colours. Settings are chosen from it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unip.data.images.palettes import recognise
from unip.data.images.quality import FALSE_COLOUR, colour_spread
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.datasets import by_name, check_pairs, count_pixels, try_read
from unip.data.labelled.pairs import Pair, SegmentationData
from unip.data.labelled.regions import regions
from unip.runtime.memory import Cache, use_ram

RARE_SHARE = 0.1  # of an equal share of the labelled pixels: cross-entropy hardly sees a class with less
MIN_OBJECT_PIXELS = 9  # pixels: smaller regions are more often slips of the labelling than objects


@dataclass(frozen=True, eq=False)
class PairFacts:
    """Facts of one labelled frame; of a frame to evaluate on, sizes and pixels alone.

    Attributes:
        size: Height and width in pixels.
        bytes: Of the decoded image and mask.
        pixels: Pixels of each class, in the order of the ids, then those without a label.
        objects: Id and area in pixels of each labelled region, specks left out, int64 ``(M, 2)``.
        is_coloured: Whether it is in natural colours: neither grey nor infrared under a colour map.
        is_8_bit: Whether the samples of the image's file have 8 bits.
        is_grey: Whether it is grey.
        palette: The name of the palette in whose colours it is; empty if of none that is known.
        nodata: What looks like the value of samples without a measurement, but is not declared to be.
    """

    size: tuple[int, int]
    bytes: int
    pixels: tuple[int, ...]
    objects: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    is_coloured: bool = False
    is_8_bit: bool = False
    is_grey: bool = True
    palette: str = ""
    nodata: float | None = None


Measure = Callable[[Pair, Classes], PairFacts]


def count_pair(pair: Pair, classes: Classes) -> PairFacts:
    """Count the pixels of a pair."""
    counts = tuple(count_pixels(pair, classes).tolist())
    height, width = pair.mask.shape
    return PairFacts((height, width), pair.image.nbytes + pair.mask.nbytes, counts)


def measure_pair(pair: Pair, classes: Classes) -> PairFacts:
    """Count the pixels of a pair, and say what else training depends on."""
    ids, areas = regions(pair.mask)
    whole = (ids != IGNORE) & (areas >= MIN_OBJECT_PIXELS)
    palette = recognise(pair.image) if pair.image.ndim == 3 else None
    has_colours = pair.image.ndim == 3 and palette is None
    return dataclasses.replace(
        count_pair(pair, classes),
        objects=np.stack([ids[whole], areas[whole]], axis=1),
        is_coloured=has_colours and colour_spread(pair.image) >= FALSE_COLOUR,
        is_8_bit=pair.is_8_bit,
        is_grey=pair.image.ndim == 2,
        palette=palette.name if palette else "",
        nodata=pair.nodata,
    )


def read_pairs(
    data: SegmentationData, measure: Measure, cache: Cache = "none"
) -> tuple[list[PairFacts], list[Pair] | None]:
    """Decode every pair once: check it, measure it, and keep it if wanted.

    Args:
        data: The pairs.
        measure: :func:`count_pair` or :func:`measure_pair`.
        cache: Whether decoded pairs are kept; ``"auto"``: where all fit, if they are as large as the first one.

    Returns:
        The facts of each pair, and the pairs if they are kept.

    Raises:
        UnipError: As :func:`unip.data.labelled.datasets.check_segmentation` does.
    """
    first = try_read(data, 0) if cache == "auto" else None
    fits = isinstance(first, Pair) and use_ram(cache, (first.image.nbytes + first.mask.nbytes) * len(data))
    keep = cache == "ram" or fits

    def look(pair: Pair) -> tuple[PairFacts, Pair | None]:
        return measure(pair, data.classes), pair if keep else None

    found = check_pairs(data, look, first=first)
    kept = [pair for _, pair in found if pair is not None]
    return [facts for facts, _ in found], kept if keep else None


@dataclass(frozen=True)
class LabelFacts:
    """Facts of labelled frames.

    Attributes:
        pixels: Pixels by class name, in the order of the ids, and the rest as ``"ignore"``.
        sizes: Height and width of each frame in pixels, int64 ``(N, 2)``.
        objects: Sides of squares of the same area as the objects, in pixels, ``(M,)``. Objects are connected regions,
            specks left out, of all classes but the one with the most pixels: that is the ground they stand on.
        coloured: Share of the frames in natural colours: neither grey nor infrared under a colour map.
        palettes: Frames in the colours of each known palette, by name.
    """

    pixels: dict[str, int]
    sizes: npt.NDArray[np.int64]
    objects: npt.NDArray[np.float64]
    coloured: float = 0.0
    palettes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, pairs: Sequence[PairFacts], data: SegmentationData) -> LabelFacts:
        """Put the facts of frames together, as :func:`measure_pair` gives them; infrared ones have no natural colours.

        Args:
            pairs: The facts.
            data: Says what the classes are, and whether the frames were given as infrared.
        """
        total = np.sum([pair.pixels for pair in pairs], axis=0)
        ground = int(np.argmax(total[:-1]))
        ids, areas = np.concatenate([pair.objects for pair in pairs]).T
        return cls(
            pixels=by_name(total, data.classes),
            sizes=np.array([pair.size for pair in pairs], dtype=np.int64),
            objects=np.sqrt(areas[ids != ground].astype(np.float64)),
            coloured=0.0 if data.is_infrared else float(np.mean([pair.is_coloured for pair in pairs])),
            palettes=dict(Counter(pair.palette for pair in pairs if pair.palette)),
        )

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
