"""Training samples that are drawn for a class, so that rare classes are seen often enough."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unip.data.labelled.classes import Classes, foreground_ids
from unip.errors import UnipError
from unip.runtime.seeds import seed_for

RARE_STREAM = 2  # sets these draws apart from other uses of (seed, position)


class RareCrops:
    """Says for each position of training whether its sample is drawn for a class, and then for which in which image.

    A fixed share of the positions, evenly spread, is. The class is any foreground class with the same probability, and
    the image any that shows it; the crop is then cut around one of its pixels. It is the foreground oversampling of
    nnU-Net (Isensee et al., Nature Methods 18, 2021, supplement on training: a third of the samples), which cuts around
    the pixel as the centre.

    Args:
        shown: Which classes each image shows, ``(n, C)``.
        classes: All classes are foreground but the one that is called background.
        share: Of the positions, from 0 to 1.
        seed: Of the run.

    Raises:
        UnipError: No image shows a foreground class.
    """

    def __init__(self, shown: npt.NDArray[np.bool_], classes: Classes, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        holders = {class_id: np.flatnonzero(shown[:, class_id]) for class_id in foreground_ids(classes.names)}
        self.holders = [(class_id, images) for class_id, images in holders.items() if len(images)]
        if not self.holders:
            raise UnipError("no labelled image shows a class to draw crops for", "Leave rare_crops out.")

    def __call__(self, position: int) -> tuple[int, int] | None:
        """Return image and class id at ``position``, by (seed, position) alone; None for an ordinary sample."""
        if int((position + 1) * self.share) == int(position * self.share):
            return None
        rng = np.random.default_rng(seed_for(self.seed, position, RARE_STREAM))
        class_id, images = self.holders[rng.integers(len(self.holders))]
        return int(images[rng.integers(len(images))]), class_id
