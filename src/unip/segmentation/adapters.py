"""Training a part of a backbone, for few labels: its first layers frozen, or low-rank adapters on frozen weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unip.errors import UnipError
from unip.segmentation.model import Segmenter
from unip.vit.spec import blocks

SCALE = 16.0  # of an adapter of rank 1; one of rank r is scaled by SCALE / r, so that r needs no other learning rate


def freeze_layers(segmenter: Segmenter, layers: int) -> None:
    """Freeze the patch embedding, the tokens and positions, and the first ``layers`` blocks.

    Raises:
        UnipError: There are fewer blocks.
    """
    if layers > segmenter.depth:
        raise UnipError(
            f"{layers} layers cannot be frozen: the backbone has {segmenter.depth}", "Lower --freeze-layers."
        )
    for name, parameter in segmenter.backbone.named_parameters():
        first, *rest = name.split(".")
        if first != "blocks" or int(rest[0]) < layers:
            parameter.requires_grad_(False)


class LowRank(nn.Module):
    """What makes a weight ``W`` into ``W + scale * up @ down``: a LoRA adapter (Hu et al., 2021, arXiv 2106.09685).

    As in the paper ``down`` starts at random and ``up`` at 0, so training starts from ``W``. It is the weight that
    changes, not the layer's output, since timm's blocks with rotary positions take the weight and leave the layer.

    Args:
        weight: ``(outputs, inputs)``.
        rank: At most the smaller side.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)  # what a linear layer starts with
        self.scale = SCALE / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        return weight + self.scale * (self.up @ self.down)


def add_adapters(segmenter: Segmenter, rank: int, *, frozen_layers: int = 0) -> list[nn.Linear]:
    """Freeze the backbone and put an adapter on each linear layer of its blocks: attention's and the MLP's.

    On all of them, since adapters on attention alone fall behind full fine-tuning (Dettmers et al., "QLoRA", 2023,
    arXiv 2305.14314, section 4).

    Args:
        segmenter: Changed in place.
        rank: Of every adapter.
        frozen_layers: So many first blocks get none.

    Returns:
        The linear layers that have one.

    Raises:
        UnipError: The rank is above what a weight can have, or no block that is used is left.
    """
    segmenter.backbone.requires_grad_(False)
    used = blocks(segmenter.backbone)[frozen_layers : segmenter.used_layers[-1]]
    adapted = [module for block in used for module in block.modules() if isinstance(module, nn.Linear)]
    if not adapted:
        raise UnipError(
            f"{frozen_layers} layers are frozen, the decoder sees layer {segmenter.used_layers[-1]}: none is left to "
            f"adapt",
            "Lower --freeze-layers, or leave --lora out.",
        )
    most = min(min(module.weight.shape) for module in adapted)
    if rank > most:
        raise UnipError(f"lora {rank} is above the full rank of the backbone's weights, {most}", "4 to 64 are usual.")
    for module in adapted:
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank))
    return adapted


def merge_adapters(segmenter: Segmenter) -> None:
    """Turn adapters into plain weights, in place; what the model computes stays the same."""
    for module in list(segmenter.backbone.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
