"""Decode heads: maps of features in, class logits out, at the stride of their finest input."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Return a size-keeping convolution without bias, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(B, C, h, w)`` maps to ``size`` bilinearly, pixel centres kept in place."""
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def upsample(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Do what :func:`resize` does, for the small maps of a decoder, in the way that is faster on the device.

    On GPUs that is :func:`enlarge` for what is learnt, and for bfloat16.
    """
    larger = all(new >= old for old, new in zip(features.shape[-2:], size, strict=True))
    products = features.is_cuda and larger and (features.requires_grad or features.dtype == torch.bfloat16)
    return enlarge(features, size) if products else resize(features, size)


def enlarge(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Do what :func:`resize` does to maps that become no smaller, as two matrix products in their own type.

    In evaluations with the light decoder on an H200, ``F.interpolate`` took a third of the time, and its gradient adds
    up to 256 pixels into one, one after the other. Products cost more the larger the maps are, and spread infinities.

    Args:
        features: ``(B, C, h, w)``, no larger than ``size``.
        size: Wanted height and width.

    Returns:
        ``(B, C, *size)`` of the same type.
    """
    if features.shape[-2:] == size:
        return features
    exact = torch.promote_types(features.dtype, torch.float32)
    rows, columns = (
        bilinear_weights(old, new, features.device, exact).to(features.dtype)
        for old, new in zip(features.shape[-2:], size, strict=True)
    )
    with torch.autocast(features.device.type, enabled=False):
        return rows @ features.contiguous() @ columns.T


def bilinear_weights(old: int, new: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the weights ``(new, old)`` of bilinear enlarging along an axis, pixel centres kept in place."""
    centres = ((torch.arange(new, device=device, dtype=dtype) + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
    return (1 - (centres[:, None] - torch.arange(old, device=device, dtype=dtype)).abs()).clamp(min=0)


class UPerNetHead(nn.Module):
    """Pyramid pooling on the coarsest level, then a top-down pyramid (Xiao et al., ECCV 2018, arXiv 1807.10221).

    Args:
        width: Channels of each of the four levels.
        channels: Channels inside the head; the paper uses the backbone's width.
        classes: Number of classes.
        dropout: Share of channels dropped before the classifier.
        pool_scales: Grid sizes of the pyramid pooling.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        classes: int,
        *,
        dropout: float = 0.1,
        pool_scales: tuple[int, ...] = (1, 2, 3, 6),
    ) -> None:
        super().__init__()
        self.pools = nn.ModuleList(
            [nn.Sequential(nn.AdaptiveAvgPool2d(s), conv_norm_relu(width, channels, 1)) for s in pool_scales]
        )
        self.bottleneck = conv_norm_relu(width + len(pool_scales) * channels, channels, 3)
        self.laterals = nn.ModuleList([conv_norm_relu(width, channels, 1) for _ in range(3)])
        self.smooths = nn.ModuleList([conv_norm_relu(channels, channels, 3) for _ in range(3)])
        self.fuse = conv_norm_relu(4 * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Map four ``(B, width, h, w)`` levels, finest first, to ``(B, classes, h0, w0)`` logits."""
        coarsest = levels[-1]
        pooled = [upsample(pool(coarsest), _size(coarsest)) for pool in self.pools]
        path = [self.bottleneck(torch.cat([coarsest, *pooled], dim=1))]
        for lateral, level in zip(reversed(self.laterals), reversed(levels[:-1]), strict=True):
            path.insert(0, lateral(level) + upsample(path[0], _size(level)))
        smooth = [smoother(level) for smoother, level in zip(self.smooths, path[:-1], strict=True)]
        finest = _size(levels[0])
        merged = torch.cat([upsample(level, finest) for level in (*smooth, path[-1])], dim=1)
        return self.classifier(self.dropout(self.fuse(merged)))  # type: ignore[no-any-return]


class FCNHead(nn.Module):
    """One convolution and a classifier; the auxiliary head of training (Long et al., CVPR 2015).

    Args:
        width: Channels of its input.
        channels: Channels after the convolution.
        classes: Number of classes.
        dropout: Share of channels dropped before the classifier.
    """

    def __init__(self, width: int, channels: int, classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv = conv_norm_relu(width, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, level: Tensor) -> Tensor:
        """Map one ``(B, width, h, w)`` level to ``(B, classes, h, w)`` logits."""
        return self.classifier(self.dropout(self.conv(level)))  # type: ignore[no-any-return]


class LinearHead(nn.Module):
    """Linear probe: the layers side by side, one 1x1 convolution, nothing else.

    Args:
        inputs: Channels of all layers together.
        classes: Number of classes.
        norm: Standardise each channel first (batch norm without scale and shift). Still linear once trained, and it
            makes layers of unlike magnitude learn equally fast; the paper has none.
    """

    def __init__(self, inputs: int, classes: int, *, norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, affine=False) if norm else nn.Identity()
        self.classifier = nn.Conv2d(inputs, classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map ``(B, width, h, w)`` features of equal size to ``(B, classes, h, w)`` logits."""
        return self.classifier(self.norm(torch.cat(features, dim=1)))  # type: ignore[no-any-return]


class LightHead(nn.Module):
    """A small decoder for quick runs and small devices: project, upsample, add, one 3x3 convolution, classify.

    Args:
        width: Channels of each level.
        channels: Channels inside the head.
        classes: Number of classes.
        dropout: Share of channels dropped before the classifier.
    """

    def __init__(self, width: int, channels: int, classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.projections = nn.ModuleList([nn.Conv2d(width, channels, 1) for _ in range(4)])
        self.fuse = nn.Sequential(nn.BatchNorm2d(channels), nn.GELU(), conv_norm_relu(channels, channels, 3))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Map four ``(B, width, h, w)`` levels, finest first, to ``(B, classes, h0, w0)`` logits."""
        finest = _size(levels[0])
        total = self.projections[0](levels[0])
        for project, level in zip(list(self.projections)[1:], levels[1:], strict=True):
            total = total + upsample(project(level), finest)
        return self.classifier(self.dropout(self.fuse(total)))  # type: ignore[no-any-return]


class ConvHead(nn.Module):
    """A small decoder for features of a frozen backbone: the layers side by side, projected, two 3x3 convolutions.

    It stays at the stride of the patches, so a step costs little more than a linear probe's.

    Args:
        inputs: Channels of all layers together.
        channels: Channels inside the head.
        classes: Number of classes.
        dropout: Share of channels dropped before the classifier.
    """

    def __init__(self, inputs: int, channels: int, classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, affine=False)  # layers differ in magnitude
        self.project = conv_norm_relu(inputs, channels, 1)
        self.convolutions = nn.Sequential(*[conv_norm_relu(channels, channels, 3) for _ in range(2)])
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map ``(B, width, h, w)`` features of equal size to ``(B, classes, h, w)`` logits."""
        projected = self.project(self.norm(torch.cat(features, dim=1)))
        return self.classifier(self.dropout(self.convolutions(projected)))  # type: ignore[no-any-return]


def _size(features: Tensor) -> tuple[int, int]:
    return features.shape[-2], features.shape[-1]
