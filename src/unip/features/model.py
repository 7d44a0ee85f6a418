"""What features are taken from: a ViT with its normalisation, such as a segmentation model holds."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class FeatureSpec(Protocol):
    """Which features a model gives, and of which images."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the backbone, counted from 1."""

    @property
    def short_side(self) -> int:
        """What images are resized to, in pixels."""


class FeatureModel(Protocol):
    """A model that turns uint8 images into features; normalisation and padding are its business."""

    @property
    def spec(self) -> FeatureSpec:
        """Which features it gives."""

    @property
    def backbone(self) -> nn.Module:
        """The timm ViT."""

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""

    @property
    def mean(self) -> Tensor:
        """What it subtracts, ``(1, 3, 1, 1)``; features are computed on its device."""

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps ``(B, C, h, w)`` of ``spec.layers`` for normalised, padded images."""

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 ``(B, 3, H, W)`` into normalised floats, padded right and below to whole patches."""

    def padded_size(self, images: Tensor) -> tuple[int, int]:
        """Return the sides that images ``(..., H, W)`` have once they are padded, in pixels."""

    def eval(self) -> nn.Module:
        """Switch to evaluation mode."""
