"""What all objectives of pre-training have in common: images in, a loss out, a student that learns by it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from unip.errors import UnipError
from unip.pretraining.distort import distorted
from unip.pretraining.inputs import normalise, normalise_crops
from unip.vit.normalisation import INFMIX_MEAN, INFMIX_STD
from unip.vit.shape import patch_size

AT_ONCE = 256  # crops: their noise, drawn as 64-bit integers, takes a megabyte each


class Objective(nn.Module):
    """A student and what it learns from; called with crops, it gives the loss.

    Attributes:
        extra: Trained parts beside the student, by name: they belong to a checkpoint, not to the exported student.
        parts: Modules that compile whole.
    """

    extra: dict[str, nn.Module]
    parts: tuple[nn.Module, ...]

    def forward(
        self, images: torch.Tensor, flips: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Compute the loss.

        Args:
            images: Grey crops (B, 1, S, S) uint8.
            flips: (B,) bool, which of them to mirror; None mirrors none.
            positions: (B,) int64, of the samples in training; what is random about a sample depends on it.

        Returns:
            Scalars by name: ``loss``, and what else is worth a line in the log.
        """
        raise NotImplementedError

    def draw(self, images: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Draw the state of training on grey images (N, 1, S, S) uint8, as an RGB picture."""
        raise NotImplementedError

    def saved(self, student: nn.Module) -> nn.Module:
        """Return all trained parts under one roof: what a checkpoint holds."""
        return nn.ModuleDict({"student": student, **self.extra}) if self.extra else student


class Distillation(Objective):
    """An objective with teachers.

    Attributes:
        distort: Share of the images that only the student sees distorted (:mod:`unip.pretraining.distort`).
        seed: Of the distortions.
        camera: Whether stripes, dead pixels and the other polarity are among them.
    """

    distort: float = 0.0
    seed: int = 0
    camera: bool = False

    def views(
        self, images: torch.Tensor, flips: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the teachers and what the student sees of grey crops (B, 1, S, S) uint8, normalised.

        Without positions, both see the crops as they are.
        """
        clean = normalise_crops(images, flips)
        if not self.distort or positions is None:
            return clean, clean
        grey = clean * INFMIX_STD + INFMIX_MEAN
        parts = zip(torch.split(grey, AT_ONCE), torch.split(positions, AT_ONCE), strict=True)
        distort = partial(distorted, seed=self.seed, probability=self.distort, camera=self.camera)
        changed = [distort(part, places) for part, places in parts]
        return clean, normalise(torch.cat(changed))


def patch_grid(student: nn.Module, size: int) -> int:
    """Return how many patches of the student a crop is high and wide.

    Raises:
        UnipError: The crop is not a multiple of the patches.
    """
    side = patch_size(student)
    if size % side:
        raise UnipError(
            f"patch grids cannot match: crops of {size} px are not a multiple of the student's {side}-px patches",
            f"Choose --size as a multiple of {side}.",
        )
    return size // side


def weighted_mean(values: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Return the weighted mean of scalars."""
    return sum((v * w for v, w in zip(values, weights, strict=True)), torch.zeros_like(values[0])) / sum(weights)
