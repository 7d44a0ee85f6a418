"""Frozen teachers, each run once for all layers that are learnt from it, on an input that gives the student's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unip.attention.capture import Trunk
from unip.errors import UnipError
from unip.pretraining.inputs import resize_to
from unip.pretraining.tokens import Prefix, TokenSelection, shared_tokens
from unip.vit.shape import patch_size


@dataclass(frozen=True)
class Target:
    """One layer of one teacher that the student learns from.

    Attributes:
        model: A timm ViT; several targets may share one.
        layer: 1-based.
        weight: Of its loss in the weighted mean.
        name: What the log calls it.
        zoom: How many times the teacher sees the images enlarged: it then makes so many patches along each side of
            one of the student's.
    """

    model: nn.Module
    layer: int
    weight: float = 1.0
    name: str = "teacher"
    zoom: int = 1


class Teachers(nn.Module):
    """All targets' teachers, cut behind their last wanted layer.

    A teacher with other patches than the student sees the images resized so that both patch grids agree; one with a
    zoom so that its grid is a whole multiple of the student's.

    Args:
        targets: What is wanted; teachers are frozen here.
        cut: Makes the trunk of a teacher from the model and the wanted layers.
        grid: Patches along a side of the student's crops.
        dtype: Of weights and of all arithmetic; None leaves weights as they are, and arithmetic to autocast.

    Raises:
        UnipError: A layer is out of range, or a teacher makes another patch grid.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        cut: Callable[[nn.Module, list[int]], Trunk],
        *,
        grid: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        views = {(id(target.model), target.zoom): (target.model, target.zoom) for target in targets}
        self.places = [(list(views).index((id(target.model), target.zoom)), target.layer) for target in targets]
        self.trunks = nn.ModuleList(
            cut(model, [target.layer for target in targets if (target.model, target.zoom) == (model, zoom)])
            for model, zoom in views.values()
        )
        self.trunks.requires_grad_(False)
        self.dtype = dtype
        if dtype is not None:
            self.trunks.to(dtype)
        super().train(False)
        grids = [grid * zoom for _, zoom in views.values()]
        self.sides = [side * patch_size(model) for side, (model, _) in zip(grids, views.values(), strict=True)]
        self._check_grids(grids)

    def _check_grids(self, grids: list[int]) -> None:
        for trunk, side, grid in zip(self.trunks, self.sides, grids, strict=True):
            some = next(trunk.parameters())
            with torch.no_grad():
                found = next(iter(trunk(torch.zeros(1, 1, side, side, device=some.device, dtype=some.dtype)).values()))
            tokens = found if isinstance(found, torch.Tensor) else found[0]
            patches = tokens.shape[-2] - trunk.num_prefix_tokens  # type: ignore[operator]
            if patches != grid**2:
                raise UnipError(
                    f"patch grids cannot match: the teacher makes {patches} patches, the student wants {grid**2}",
                    "Use a teacher that takes other input sizes, or another --size.",
                )

    def trunk(self, number: int) -> Any:
        """Return the trunk that serves a target."""
        return self.trunks[self.places[number][0]]

    def selection(self, number: int, student: Trunk) -> tuple[TokenSelection, TokenSelection]:
        """Return which tokens of a target and of the student are compared."""
        theirs, ours = (Prefix(side.num_prefix_tokens, side.has_class_token) for side in (self.trunk(number), student))
        return shared_tokens(theirs, ours), shared_tokens(ours, theirs)

    def train(self, mode: bool = True) -> Teachers:
        """Change nothing: teachers stay in evaluation."""
        return self

    def forward(self, pixels: torch.Tensor) -> list[Any]:
        """Run normalised images (B, 1, S, S); return for each target what its trunk gives of its layer."""
        own = self.dtype is not None
        # autocast would cast the weights again at each step, and keep norms and the residual stream in float32
        with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False) if own else nullcontext():
            resized = {side: resize_to(pixels, side).to(self.dtype) for side in sorted(set(self.sides))}
            found = [trunk(resized[side]) for trunk, side in zip(self.trunks, self.sides, strict=True)]
        return [found[model][layer] for model, layer in self.places]
