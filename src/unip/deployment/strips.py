"""Results of large frames, which are run in strips: only ids, and what else is wanted of each pixel, are held whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unip.deployment.engine import Wanted
from unip.segmentation.strips import Backend, Grid, Image8, Logits, is_large, rows_in_strips


class Finisher(Backend, Protocol):
    """What runs windows, and makes results of their logits."""

    def finish(self, logits: Logits, wanted: Wanted) -> tuple[Any, Any, Any]:
        """Return ids ``(n, W)``, confidence and probabilities of logits ``(C, n, W)``, of numpy, as far as wanted."""


def segment_in_strips(
    image: Image8, grid: Grid, backend: Finisher, wanted: Wanted
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
    """Segment a frame.

    Args:
        image: The frame, uint8 ``(H, W)`` or ``(H, W, 3)``; of other types only if it is not resized.
        grid: Where its windows lie.
        backend: Runs them.
        wanted: What to compute.

    Returns:
        Ids uint8 ``(H, W)``; confidence float32 ``(H, W)`` and probabilities float32 ``(C, H, W)`` if they are wanted.
    """
    if not wanted.of_large and is_large(grid.classes, grid.frame):
        wanted = replace(wanted, probabilities=False)
    ids = np.zeros(grid.frame, np.uint8)
    confidence = np.zeros(grid.frame, np.float32) if wanted.confidence else None
    probabilities = np.zeros((grid.classes, *grid.frame), np.float32) if wanted.probabilities else None
    for first, logits in rows_in_strips(image, grid, backend):
        found_ids, found_confidence, found_probabilities = backend.finish(logits, wanted)
        rows = slice(first, first + found_ids.shape[0])
        ids[rows] = found_ids
        if confidence is not None:
            confidence[rows] = found_confidence
        if probabilities is not None:
            probabilities[:, rows] = found_probabilities
    return ids, confidence, probabilities
