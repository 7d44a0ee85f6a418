"""Run a model over images and measure its layers, holding one layer's maps at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unip.attention.capture import attention_logits, visiting, visiting_features
from unip.attention.feature_measures import cka, high_frequency_amplitude, token_gram
from unip.attention.measures import (
    attention_distance,
    grid_diagonal,
    nmi,
    nmi_of_rows,
    prefix_share,
    row_entropy,
)
from unip.errors import UnipError
from unip.vit.shape import class_tokens, depth_of, patch_size, prefix_tokens

MAP_BYTES = 16 * 2**20  # of maps made at once (four of that size are alive while they are measured)

#: What is measured of each head, and of each layer's features (the last), with the label of a plot's axis.
MEASURES = {
    "nmi": "NMI",
    "distance": "attention distance (patches)",
    "distance_share": "attention distance (share of the diagonal)",
    "entropy": "attention entropy (nats)",
    "entropy_share": "attention entropy (share of log L)",
    "class_share": "attention on the class token",
    "register_share": "attention on registers",
    "high_frequency": "high-frequency amplitude (Δ log)",
}


@dataclass(frozen=True)
class LayerMeasures:
    """What was measured of one layer, image by image, float32 on the CPU.

    Attributes:
        heads: For each measure of the attention, (N images, H heads).
        features: For each measure of the features, (N images,).
    """

    heads: dict[str, Tensor]
    features: dict[str, Tensor]


@dataclass(frozen=True)
class ModelMeasures:
    """What was measured of a model.

    Attributes:
        layers: By 1-based layer.
        cka: (N images, depth, depth); NaN on grids of fewer than four patches.
    """

    layers: dict[int, LayerMeasures]
    cka: Tensor


@torch.inference_mode()
def measure_nmi(model: nn.Module, batches: Iterable[Tensor], layers: Sequence[int] | None = None) -> dict[int, Tensor]:
    """Measure the NMI of each layer and head, and nothing else.

    Args:
        model: A timm ViT, on the device it should run on; put into eval mode here.
        batches: Normalised images (B, 3, H, W), moved to the model's device here.
        layers: 1-based; all when None.

    Returns:
        For each layer the NMI (N images, H heads), float32 on the CPU.
    """
    layers = range(1, depth_of(model) + 1) if layers is None else layers
    found: dict[int, list[Tensor]] = {layer: [] for layer in layers}

    def visit(layer: int, q: Tensor, k: Tensor, scale: float) -> None:
        found[layer].append(nmi(q, k, scale).float().cpu())

    model.eval()
    device = next(model.parameters()).device
    with visiting(model, list(layers), visit):
        for images in batches:
            model.forward_features(images.to(device))  # type: ignore[operator]
    return {layer: torch.cat(values) for layer, values in found.items()}


@torch.inference_mode()
def measure_layers(model: nn.Module, batches: Iterable[Tensor]) -> ModelMeasures:
    """Measure the attention and the features of every layer in one pass.

    Only one layer's maps exist at any time, and of those some ``MAP_BYTES`` at once.

    Args:
        model: A timm ViT, on the device it should run on; put into eval mode here.
        batches: Normalised images (B, 3, H, W), all of one size, sides whole numbers of patches; moved to the
            model's device here.

    Returns:
        The measures named in ``MEASURES``.

    Raises:
        UnipError: A layer's attention is not finite.
    """
    depth = depth_of(model)
    heads: list[dict[str, list[Tensor]]] = [{} for _ in range(depth)]
    features: list[dict[str, list[Tensor]]] = [{} for _ in range(depth)]
    grams: list[Tensor] = []
    similarity: list[Tensor] = []
    side, prefix, classes = patch_size(model), prefix_tokens(model), class_tokens(model)
    device = next(model.parameters()).device
    grid = (0, 0)

    def visit_attention(layer: int, q: Tensor, k: Tensor, scale: float) -> None:
        part = max(1, MAP_BYTES // (4 * q.shape[-2] ** 2))
        flat = (q.flatten(0, 1)[:, None], k.flatten(0, 1)[:, None])  # images and heads alike
        pieces = [
            measure_maps(attention_logits(a, b, scale).log_softmax(-1), grid, classes, prefix - classes)
            for a, b in zip(*(torch.split(t, part) for t in flat), strict=True)
        ]
        for name in pieces[0]:
            values = torch.cat([piece[name] for piece in pieces]).float()
            heads[layer - 1].setdefault(name, []).append(values.reshape(q.shape[:2]))

    def visit_features(layer: int, tokens: Tensor) -> None:
        patches = tokens[:, prefix:]
        maps = patches.transpose(1, 2).reshape(len(patches), -1, *grid)
        features[layer - 1].setdefault("high_frequency", []).append(high_frequency_amplitude(maps))
        if patches.shape[1] >= 4:
            grams.append(token_gram(maps))

    model.eval()
    with visiting(model, list(range(1, depth + 1)), visit_attention), visiting_features(model, visit_features):
        for images in batches:
            grid = (images.shape[-2] // side, images.shape[-1] // side)
            grams.clear()
            model.forward_features(images.to(device))  # type: ignore[operator]
            undefined = torch.full((len(images), depth, depth), torch.nan)
            similarity.append(cka(torch.stack(grams, dim=1)) if grams else undefined)
    layers = {
        layer: LayerMeasures(_joined(heads[layer - 1]), _joined(features[layer - 1])) for layer in range(1, depth + 1)
    }
    for layer, values in layers.items():
        if not values.heads["nmi"].isfinite().all():
            raise UnipError(
                f"layer {layer} gives attention that is not finite",
                "The weights are damaged or too large for float32; check where they come from.",
            )
    return ModelMeasures(layers, torch.cat(similarity).cpu())


def measure_maps(log_attention: Tensor, grid: tuple[int, int], classes: int, registers: int) -> dict[str, Tensor]:
    """Measure attention maps.

    Args:
        log_attention: Logarithm of the attention (..., L, L): class token, registers, then patches row by row.
        grid: Patch rows and columns.
        classes: Number of class tokens, 0 or 1.
        registers: Number of register tokens.

    Returns:
        For each measure of attention in ``MEASURES``, (...); NaN for the share of tokens that there are none of.
    """
    attention = log_attention.exp()
    prefix = classes + registers
    distance = attention_distance(attention, grid, prefix)
    rows = row_entropy(attention, log_attention)
    entropy = rows.mean(-1)
    return {
        "nmi": nmi_of_rows(attention, rows),
        "distance": distance,
        "distance_share": distance / grid_diagonal(grid),
        "entropy": entropy,
        "entropy_share": entropy / max(torch.tensor(log_attention.shape[-1]).log().item(), 1e-12),
        "class_share": prefix_share(attention, 0, classes, prefix),
        "register_share": prefix_share(attention, classes, prefix, prefix),
    }


def _joined(pieces: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat(values).cpu() for name, values in pieces.items()}  # once: each copy would wait for a GPU
