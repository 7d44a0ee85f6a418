"""Run a model over images and measure its layers, holding one layer's maps at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from unip.attention.capture import visiting
from unip.attention.measures import nmi
from unip.vit.shape import depth_of


@torch.inference_mode()
def measure_nmi(
    model: nn.Module, batches: Iterable[torch.Tensor], layers: Sequence[int] | None = None
) -> dict[int, torch.Tensor]:
    """Measure the NMI of each layer and head.

    Args:
        model: A timm ViT, on the device it should run on; put into eval mode here.
        batches: Normalised images (B, 3, H, W), moved to the model's device here.
        layers: 1-based; all when None.

    Returns:
        For each layer the NMI (N images, H heads), float32 on the CPU.
    """
    layers = range(1, depth_of(model) + 1) if layers is None else layers
    found: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}

    def visit(layer: int, q: torch.Tensor, k: torch.Tensor, scale: float) -> None:
        found[layer].append(nmi(q, k, scale).float().cpu())

    model.eval()
    device = next(model.parameters()).device
    with visiting(model, list(layers), visit):
        for images in batches:
            model.forward_features(images.to(device))  # type: ignore[operator]
    return {layer: torch.cat(values) for layer, values in found.items()}
