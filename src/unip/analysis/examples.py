"""Example maps: what a few query tokens of a few images attend to, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from unip.analysis.records import ModelRecord
from unip.analysis.report import ExampleMaps
from unip.attention.capture import attention_map, visiting
from unip.attention.pictures import Picture, attention_picture, patch_rows
from unip.vit.shape import depth_of, patch_size, prefix_tokens

Rows = dict[int, npt.NDArray[np.floating]]


def grid_of(model: nn.Module, size: int) -> tuple[int, int]:
    """Patch rows and columns of a square image of ``size`` pixels."""
    return size // patch_size(model), size // patch_size(model)


@torch.inference_mode()
def example_rows(model: nn.Module, pixels: torch.Tensor, queries: Sequence[dict[str, int]]) -> Rows:
    """Run images and keep what some queries attend to, mean over heads.

    Args:
        model: A timm ViT in eval mode.
        pixels: Normalised images (N, 3, S, S) on its device.
        queries: For each image its patch numbers by name.

    Returns:
        By layer (N, queries, rows, columns).
    """
    grid, prefix = grid_of(model, pixels.shape[-1]), prefix_tokens(model)
    found: dict[int, list[npt.NDArray[np.floating]]] = {}
    for image, named in zip(pixels, queries, strict=True):
        chosen = list(named.values())

        def visit(layer: int, q: torch.Tensor, k: torch.Tensor, scale: float, chosen: list[int] = chosen) -> None:
            rows = patch_rows(attention_map(q, k, scale)[0].mean(0).cpu().numpy(), chosen, prefix, grid)
            found.setdefault(layer, []).append(rows)

        with visiting(model, range(1, depth_of(model) + 1), visit):
            model.forward_features(image[None])  # type: ignore[operator]
    return {layer: np.stack(rows) for layer, rows in found.items()}


def layers_to_show(record: ModelRecord) -> list[tuple[int, str]]:
    """Choose a local, a hybrid and a global layer to show, as far as the model has them.

    Local is the layer of the NMI peak, hybrid the recommended one (else the first), global the last; a model
    without one of them shows its first, middle or last layer there.

    Returns:
        1-based layers in rising order, each with its pattern.
    """
    patterns = [layer.pattern for layer in record.layers]
    nmi = [layer.measures["nmi"].mean or 0 for layer in record.layers]
    middle = patterns.index("hybrid") + 1 if "hybrid" in patterns else len(nmi) // 2 + 1
    chosen = {nmi.index(max(nmi)) + 1, record.choice.layer or middle, len(nmi)}
    return [(layer, patterns[layer - 1]) for layer in sorted(chosen)]


def example_maps(
    record: ModelRecord, pictures: Sequence[Picture], queries: Sequence[dict[str, int]], rows: Rows
) -> list[ExampleMaps]:
    """Draw the maps of :func:`layers_to_show` for the report, one block per image."""
    layers = layers_to_show(record)
    on = "" if record.images == "images" else f", {record.images}"
    columns = ("image", *(f"layer {layer} ({pattern})" for layer, pattern in layers))
    blocks = []
    for number, (picture, named) in enumerate(zip(pictures, queries, strict=True)):
        plain = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        drawn = tuple(
            (name, (plain, *(attention_picture(picture, rows[layer][number, place], query) for layer, _ in layers)))
            for place, (name, query) in enumerate(named.items())
        )
        blocks.append(ExampleMaps(f"{record.name}, image {number + 1}{on}", columns, drawn))
    return blocks
