"""The regions of a mask as polygons, for annotation tools and maps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import contourpy
import numpy as np
import numpy.typing as npt

from unip.data.labelled.classes import Classes, foreground_ids

Corners = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Polygon:
    """The outline of a region of pixels of one class.

    Corners are x, y in pixels from the left and top edges of the frame as it is stored: the centre of its first pixel
    is (0.5, 0.5). The outline runs halfway between pixel centres, so that exactly the region's centres lie within.

    Attributes:
        name: Of the class.
        class_id: Its id.
        outline: ``(N, 2)``, closed: the last corner is the first.
        holes: Outlines of what lies within and is no part of it.
        area: Without the holes, in pixels.
    """

    name: str
    class_id: int
    outline: Corners
    holes: tuple[Corners, ...]
    area: float


def outline_regions(mask: npt.NDArray[np.uint8], classes: Classes, *, min_area: float = 0.0) -> list[Polygon]:
    """Return the outlines of all regions but those of a background class, class by class.

    Args:
        mask: Class ids ``(H, W)``.
        classes: Their names.
        min_area: Leave out regions of a smaller area, in pixels.
    """
    found = []
    for class_id in foreground_ids(classes.names):
        inside = mask == class_id
        if not inside.any():
            continue
        padded = np.pad(inside, 1).astype(np.float64)  # so that outlines close at the frame's edge
        generator = contourpy.contour_generator(z=padded, fill_type=contourpy.FillType.OuterOffset)
        for corners, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
            lines = [corners[first:last] - 0.5 for first, last in pairwise(offsets)]
            area = abs(signed_area(lines[0])) - sum(abs(signed_area(line)) for line in lines[1:])
            if area >= min_area:
                found.append(Polygon(classes.names[class_id], class_id, lines[0], tuple(lines[1:]), area))
    return found


def signed_area(corners: Corners) -> float:
    """Return the area of a closed outline ``(N, 2)`` by the shoelace formula; its sign tells the direction."""
    x, y = corners[:, 0], corners[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)
