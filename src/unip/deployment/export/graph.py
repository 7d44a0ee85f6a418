"""The graph that is exported: one frame of any size in, class ids, confidence and logits of its own size out.

It computes what ``unip predict --window whole`` does. Where that code takes another way depending on sizes, tracing
would keep the way of the example's size for all. So the steps that depend on sizes are written anew here, without ways
to choose from, and parts of the model that choose are replaced.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from timm.layers import PatchEmbed
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models import eva, vision_transformer
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx.experimental import _config
from torch.nn import functional as F

from unip.deployment.export.config import InputType
from unip.deployment.export.levels import to_levels
from unip.deployment.export.resampling import (
    along_columns,
    along_rows,
    bicubic_weights,
    larger,
    pooling_weights,
    product,
    resize_levels,
    resized_length,
    smaller,
)
from unip.segmentation import heads
from unip.segmentation.model import Segmenter

EXAMPLE = (37, 53)  # height and width of the frame that is traced with


def trace(
    segmenter: Segmenter, kind: InputType, channels: int, *, bfloat16: bool = False, temperature: float = 1.0
) -> ExportedProgram:
    """Return the graph of a model, for frames of any size.

    Args:
        segmenter: On the CPU; it stays as it is.
        kind: The type of the samples.
        channels: 1 for frames ``(H, W)``, 3 for ``(H, W, 3)``.
        bfloat16: Let the model compute its large products in bfloat16.
        temperature: What logits are divided by before the softmax that gives the confidence.
    """
    example = torch.zeros(EXAMPLE if channels == 1 else (*EXAMPLE, channels), dtype=getattr(torch, kind))
    sides = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    graph = FrameToMask(copy.deepcopy(segmenter), kind, bfloat16=bfloat16, temperature=temperature).requires_grad_(
        False
    )
    # sizes of 0 and 1, such as maps of one column, are not told apart from others
    symbols: Any = _config
    any_size = symbols.patch(backed_size_oblivious=True)
    with torch.no_grad(), without_choices(), any_size, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch to those who write models
        return torch.export.export(graph, (example,), dynamic_shapes=(sides,), strict=False)


class FrameToMask(nn.Module):
    """Maps a frame to its mask.

    Args:
        segmenter: The model, which is changed: adaptive pooling becomes a product of matrices.
        kind: The type of the samples.
        bfloat16: Let the model compute its large products in bfloat16, as ``unip predict --precision bf16`` does.
        temperature: What logits are divided by before the softmax that gives the confidence.
    """

    def __init__(
        self, segmenter: Segmenter, kind: InputType, *, bfloat16: bool = False, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.in_bfloat16 = bfloat16
        self.segmenter = _without_adaptive_pooling(segmenter).eval()
        self.kind: InputType = kind
        self.temperature = temperature

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Segment a frame.

        Args:
            frame: ``(H, W)``, or ``(H, W, 3)`` uint8.

        Returns:
            Class ids uint8 ``(H, W)``; the softmax probability of these classes, float32 ``(H, W)``; logits float32
            ``(C, H, W)``.
        """
        height, width = frame.shape[0], frame.shape[1]
        model = self.segmenter
        shorter = smaller(height, width)
        tall, wide = (resized_length(side, shorter, model.spec.short_side) for side in (height, width))
        padded = padded_length(tall, model.patch), padded_length(wide, model.patch)
        levels = resize_levels(to_levels(frame, model.spec.conversion, self.kind), (tall, wide), padded)
        # the padding is made with the image, not by an operation that tracing leaves out if the example has none
        inside = (torch.arange(padded[0]) < tall)[:, None] & (torch.arange(padded[1]) < wide)
        scaled = (levels[None].expand(1, 3, -1, -1) / 255 - model.mean) / model.std * inside
        with torch.autocast("cpu", torch.bfloat16) if self.in_bfloat16 else nullcontext():
            maps = model.head(model.pyramid(model.features(scaled)))
        # not by slices, of which tracing asks whether they are the whole
        large = (
            interpolate(maps.float(), padded).index_select(2, torch.arange(tall)).index_select(3, torch.arange(wide))
        )
        logits = interpolate(large, (height, width))[0]
        confidence = 1 / torch.exp((logits - logits.amax(0)) / self.temperature).sum(0)
        return logits.argmax(0).to(torch.uint8), confidence, logits


def padded_length(side: int, patch: int) -> int:
    """Return a side as whole patches, at least two, as :meth:`.Segmenter.padded_size` does."""
    return larger(2, (side + patch - 1) // patch) * patch


def interpolate(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Do what :func:`unip.segmentation.heads.resize` does, without asking whether the size stays the same."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class AdaptivePooling(nn.Module):
    """Adaptive average pooling as a product of matrices, for maps whose size is known only when the graph runs.

    Args:
        size: Rows and columns that it gives.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(B, C, h, w)`` to ``(B, C, size, size)``."""
        (batch, channels, height, width), size = maps.shape, self.size
        short = along_rows(maps.float().reshape(batch * channels, height, width), pooling_weights(width, size))
        return along_columns(short, pooling_weights(height, size)).reshape(batch, channels, size, size)


def _without_adaptive_pooling(segmenter: Segmenter) -> Segmenter:
    for module in list(segmenter.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d):
                assert isinstance(child.output_size, int)
                setattr(module, name, AdaptivePooling(child.output_size))
    return segmenter


@contextmanager
def without_choices() -> Iterator[None]:
    """Let the model compute in the way that is right for every size while a graph is made of it.

    timm's ViTs fit their positions to a grid by products of matrices and count its patches in whole numbers (floats are
    rounded up to one patch more by engines whose division is not exact, and tie DINOv3's positions to the grid of the
    example), and decoders always interpolate.
    """
    with (
        patch.object(PatchEmbed, "dynamic_feat_size", _whole_patches),
        patch.object(RotaryEmbeddingDinoV3, "_create_embed", _rotary_embedding),
        patch.object(heads, "upsample", interpolate),
        patch.object(vision_transformer, "resample_abs_pos_embed", _resample_positions),
        patch.object(eva, "resample_abs_pos_embed", _resample_positions),
    ):
        yield


def _whole_patches(embedding: Any, size: tuple[int, int]) -> tuple[int, int]:
    (height, width), (tall, wide) = size, embedding.patch_size
    return height // tall, width // wide


def _rotary_embedding(rope: Any, shape: tuple[int, int], no_aug: bool = False) -> Tensor:
    """Do what timm's DINOv3 does in evaluation: sines and cosines of patch centres, which lie within -1..1."""
    sides = (shape[1], shape[0]) if rope.grid_indexing == "xy" else shape
    by = {"max": (larger(*sides),) * 2, "min": (smaller(*sides),) * 2, "separate": sides}[rope.normalize_coords]
    axes = [(torch.arange(side) + (0.5 + rope.grid_offset)) / length for side, length in zip(sides, by, strict=True)]
    centres = 2 * torch.stack(torch.meshgrid(axes, indexing=rope.grid_indexing), dim=-1).flatten(0, 1) - 1
    return torch.cat(rope._get_pos_embed_from_coords(centres), dim=-1)


def _resample_positions(
    positions: Tensor, new_size: tuple[int, int], old_size: tuple[int, int], num_prefix_tokens: int = 1, **_: Any
) -> Tensor:
    """Do what ``timm.layers.resample_abs_pos_embed`` does: bicubic with antialiasing; prefix tokens stay."""
    prefix, grid = positions[:, :num_prefix_tokens], positions[:, num_prefix_tokens:]
    (rows, columns), (tall, wide), channels = old_size, new_size, positions.shape[2]
    # the grid is first flattened by what lies beside its rows, as a product's constant factor
    down = product(bicubic_weights(rows, tall), grid.reshape(rows, columns * channels)).reshape(tall, columns, channels)
    flat = product(bicubic_weights(columns, wide), down.transpose(0, 1).reshape(columns, tall * channels))
    across = flat.reshape(wide, tall, channels).transpose(0, 1).reshape(1, tall * wide, channels)
    return torch.cat([prefix, across], dim=1)
