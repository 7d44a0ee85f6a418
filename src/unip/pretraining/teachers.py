"""Frozen teachers, each run once for all layers that are learnt from it, on an input that gives the student's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unip.attention.capture import Trunk
from unip.errors import UnipError
from unip.pretraining.inputs import resize_to
from unip.pretraining.loss import Kept, Prefix, shared_tokens
from unip.vit.shape import patch_size


@dataclass(frozen=True)
class Target:
    """One layer of one teacher that the student learns from.

    Attributes:
        model: A timm ViT; several targets may share one.
        layer: 1-based.
        weight: Of its loss in the weighted mean.
        name: What the log calls it.
    """

    model: nn.Module
    layer: int
    weight: float = 1.0
    name: str = "teacher"


class Teachers(nn.Module):
    """All targets' teachers, cut behind their last wanted layer.

    A teacher with other patches than the student sees the images resized so that both patch grids agree.

    Args:
        targets: What is wanted; teachers are frozen here.
        cut: Makes the trunk of a teacher from the model and the wanted layers.
        grid: Patches along a side of the student's crops.

    Raises:
        UnipError: A layer is out of range, or a teacher makes another patch grid.
    """

    def __init__(self, targets: Sequence[Target], cut: Callable[[nn.Module, list[int]], Trunk], *, grid: int) -> None:
        super().__init__()
        models = list({id(target.model): target.model for target in targets}.values())
        self.places = [(next(n for n, m in enumerate(models) if m is target.model), target.layer) for target in targets]
        self.trunks = nn.ModuleList(
            cut(model, [target.layer for target in targets if target.model is model]) for model in models
        )
        self.trunks.requires_grad_(False)
        super().train(False)
        self.sides = [grid * patch_size(model) for model in models]
        self._check_grids(grid)

    def _check_grids(self, grid: int) -> None:
        for trunk, side in zip(self.trunks, self.sides, strict=True):
            device = next(trunk.parameters()).device
            with torch.no_grad():
                found = next(iter(trunk(torch.zeros(1, 3, side, side, device=device)).values()))
            tokens = found if isinstance(found, torch.Tensor) else found[0]
            patches = tokens.shape[-2] - trunk.num_prefix_tokens  # type: ignore[operator]
            if patches != grid**2:
                raise UnipError(
                    f"patch grids cannot match: the teacher makes {patches} patches, the student {grid**2}",
                    "Use a teacher that takes other input sizes, or another --size.",
                )

    def trunk(self, number: int) -> Any:
        """Return the trunk that serves a target."""
        return self.trunks[self.places[number][0]]

    def kept(self, number: int, student: Trunk) -> tuple[Kept, Kept]:
        """Return which tokens of a target and of the student are compared."""
        theirs, ours = (Prefix(side.num_prefix_tokens, side.has_class_token) for side in (self.trunk(number), student))
        return shared_tokens(theirs, ours), shared_tokens(ours, theirs)

    def train(self, mode: bool = True) -> Teachers:
        """Change nothing: teachers stay in evaluation."""
        return self

    def forward(self, pixels: torch.Tensor) -> list[Any]:
        """Run normalised images (B, 3, S, S); return for each target what its trunk gives of its layer."""
        with torch.no_grad():
            resized = {side: resize_to(pixels, side) for side in sorted(set(self.sides))}
            found = [trunk(resized[side]) for trunk, side in zip(self.trunks, self.sides, strict=True)]
        return [found[model][layer] for model, layer in self.places]
