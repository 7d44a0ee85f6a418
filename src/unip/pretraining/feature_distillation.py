"""Feature distillation: the student's tokens, through a linear map, point where the teachers' tokens point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from unip.attention.capture import TokenTrunk
from unip.pretraining.objective import Distillation, patch_grid, weighted_mean
from unip.pretraining.pictures import draw_components
from unip.pretraining.teachers import Target, Teachers
from unip.pretraining.tokens import TokenSelection
from unip.vit.shape import depth_of


class FeatureDistillation(Distillation):
    """Cosine distance between the teachers' layers and linear maps of the student's tokens.

    Patch tokens are compared, and the class token if both sides have one. Where a teacher sees the images enlarged, its
    patches that lie in one of the student's are averaged. All of the student up to its last layer of ``layers`` is
    trained. The maps are not part of the exported student.

    Args:
        targets: The teachers' layers; the loss is the weighted mean of their distances.
        student: A timm ViT.
        size: Side of the square training crops, in pixels.
        layers: Layers of the student, 1-based, whose tokens feed the maps side by side, as a linear probe reads them;
            none: the last one behind the final norm.

    Raises:
        UnipError: Layer out of range, or no input size gives a teacher and the student the same patch grid.
    """

    def __init__(self, targets: Sequence[Target], student: nn.Module, *, size: int, layers: Sequence[int] = ()) -> None:
        super().__init__()
        self.targets = tuple(targets)
        self.teachers = Teachers(targets, TokenTrunk, grid=patch_grid(student, size))
        self.student_trunk = TokenTrunk(student, layers or [depth_of(student)], norm=not layers)
        freeze_unread(student, layers)
        width = _width(student) * len(self.student_trunk.layers)
        device = next(student.parameters()).device
        self.maps = nn.ModuleList(nn.Linear(width, _width(target.model), device=device) for target in targets)
        self.extra = {"maps": self.maps}
        self.parts = (self.teachers, self.student_trunk)

    def tokens(
        self, images: torch.Tensor, flips: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Run uint8 grey images (B, 1, S, S); return each teacher's and the student's mapped tokens, all of them."""
        pixels, seen = self.views(images, flips, positions)
        taught = [
            pool_patches(tokens, target.zoom, self.teachers.trunk(number).num_prefix_tokens)
            for number, (target, tokens) in enumerate(zip(self.targets, self.teachers(pixels), strict=True))
        ]
        learnt = torch.cat(list(self.student_trunk(seen).values()), dim=-1)
        return [(theirs, to_teacher(learnt)) for theirs, to_teacher in zip(taught, self.maps, strict=True)]

    def forward(
        self, images: torch.Tensor, flips: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Compute the loss, and each target's distance where there is more than one; see :class:`Objective`."""
        distances = {}
        tokens = self.tokens(images, flips, positions)
        for number, (target, (theirs, ours)) in enumerate(zip(self.targets, tokens, strict=True)):
            selection = self.teachers.selection(number, self.student_trunk)
            with torch.autocast(images.device.type, enabled=False):
                distances[f"cosine/{target.name}"] = cosine_distance(_of(selection[0], theirs), _of(selection[1], ours))
        mean = weighted_mean(list(distances.values()), [target.weight for target in self.targets])
        return {"loss": mean, **(distances if len(distances) > 1 else {})}

    def draw(self, images: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Draw the three main components of each teacher's patch tokens, and the student's in the same colours."""
        columns = {}
        for number, (target, (theirs, ours)) in enumerate(zip(self.targets, self.tokens(images), strict=True)):
            name = target.name if len(self.targets) > 1 else "teacher"
            patches = [
                _normalised(theirs)[:, self.teachers.trunk(number).num_prefix_tokens :],
                ours.float()[:, self.student_trunk.num_prefix_tokens :],
            ]
            columns[name] = (patches[0], patches[1])
        return draw_components(images, columns)


def freeze_unread(student: Any, layers: Sequence[int]) -> None:
    """Freeze what lies behind the last of ``layers``, where some are named: the loss never reaches it."""
    if layers:
        for module in (*student.blocks[max(layers) :], student.norm):
            module.requires_grad_(False)


def pool_patches(tokens: torch.Tensor, zoom: int, prefix: int) -> torch.Tensor:
    """Average the patches of each ``zoom`` x ``zoom`` block of a square grid; prefix tokens stay.

    Args:
        tokens: (B, prefix + (zoom n)^2, C).
        zoom: Patches along a block's side.
        prefix: Class and register tokens.

    Returns:
        (B, prefix + n^2, C).
    """
    if zoom == 1:
        return tokens
    side = math.isqrt(tokens.shape[1] - prefix)
    grid = tokens[:, prefix:].transpose(1, 2).reshape(len(tokens), -1, side, side)
    return torch.cat([tokens[:, :prefix], F.avg_pool2d(grid, zoom).flatten(2).transpose(1, 2)], dim=1)


def cosine_distance(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cos(teacher token, student token).

    Args:
        teacher: Tokens (B, L, C), layer-normalised here without an affine map, so that no single channel rules.
        student: Tokens (B, L, C).

    Returns:
        A scalar, 0..2, float32 or better.
    """
    return (1 - F.cosine_similarity(_normalised(teacher), _precise(student), dim=-1)).mean()


def _normalised(tokens: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(_precise(tokens), tokens.shape[-1:])


def _precise(tokens: torch.Tensor) -> torch.Tensor:
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))


def _of(selection: TokenSelection, tokens: torch.Tensor) -> torch.Tensor:
    return selection.of(tokens[:, None])[:, 0]


def _width(model: nn.Module) -> int:
    return int(model.embed_dim)  # type: ignore[arg-type]
