"""Feature pyramids for plain ViTs: four maps of different strides made from tokens of one stride."""

from __future__ import annotations

from torch import Tensor, nn


def spread_layers(depth: int) -> tuple[int, ...]:
    """Return four layers at one third, one half, two thirds and the end of a ViT, counted from 1.

    ``(4, 6, 8, 12)`` of 12 blocks and ``(8, 12, 16, 24)`` of 24, as the paper uses for the plain FPN and the linear
    probe. Very shallow models name a layer twice.

    Args:
        depth: Number of blocks.
    """
    return tuple(max(1, round(depth * share)) for share in (1 / 3, 1 / 2, 2 / 3, 1))


def scale_operations(width: int) -> nn.ModuleList:
    """Return the four operations x4, x2, x1 and /2 on maps of ``width`` channels (LL-FPN part of the UNIP paper).

    With 16-pixel patches they lead to strides 4, 8, 16 and 32.
    """
    return nn.ModuleList(
        [
            nn.Sequential(
                nn.ConvTranspose2d(width, width, 2, stride=2),
                nn.BatchNorm2d(width),
                nn.GELU(),
                nn.ConvTranspose2d(width, width, 2, stride=2),
            ),
            nn.ConvTranspose2d(width, width, 2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(2),
        ]
    )


class FPN(nn.Module):
    """Plain pyramid: each of four layers gets one scale, the earliest the finest.

    Args:
        width: Channels of the tokens and of every level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scales = scale_operations(width)

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        """Return the layers to feed it, counted from 1."""
        return spread_layers(depth)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map four ``(B, width, h, w)`` maps to levels of ``(4h, 4w)``, ``(2h, 2w)``, ``(h, w)``, ``(h//2, w//2)``."""
        return [scale(feature) for scale, feature in zip(self.scales, features, strict=True)]


class LLFPN(FPN):
    """Last-layer pyramid: only the last layer's tokens feed all four scales (LL-FPN part of the UNIP paper).

    The distilled layer is the last one, and its hybrid attention makes it the best one to segment from.
    """

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        """Return the layers to feed it, counted from 1."""
        return (depth,)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map one ``(B, width, h, w)`` map to levels of ``(4h, 4w)``, ``(2h, 2w)``, ``(h, w)``, ``(h//2, w//2)``."""
        (last,) = features
        return [scale(last) for scale in self.scales]
