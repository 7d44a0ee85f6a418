"""NMI-HAD: the student's last attention, on request others too, learns that of the teachers' hybrid layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from unip.attention.capture import AttentionTrunk
from unip.pretraining.loss import attention_kl
from unip.pretraining.objective import Distillation, patch_grid, weighted_mean
from unip.pretraining.pictures import draw_attention
from unip.pretraining.teachers import Target, Teachers
from unip.pretraining.tokens import AttentionSide
from unip.vit.shape import depth_of


class AttentionDistillation(Distillation):
    """Teachers cut at their hybrid layers and student cut at its last wanted queries and keys (and values).

    Teachers and student see the same tensor (paper: InfMix normalisation for both). A teacher with other patches sees
    it resized so that both patch grids agree. Where a teacher has another head count than the student's block,
    the student's queries and keys are split into as many heads, as MiniLMv2's relation heads are (Wang et al.,
    Findings of ACL 2021, section 3.1).

    Args:
        targets: The teachers' layers; the loss is the weighted mean of their divergences.
        student: A timm ViT.
        size: Side of the square training crops, in pixels.
        layers: The student's layer that learns each target's, 1-based, the last one among them; none: all the last.
        values_weight: Factor on the divergence of value relations, softmax(v v^T * scale) (MiniLM: Wang et al.,
            NeurIPS 2020, equation 8); 0 leaves them out, and the last block's values get no gradient.
        dtype: Half precision of the teachers and of the student's residual stream; None leaves both to autocast.

    Raises:
        UnipError: Layer out of range, or no input size gives a teacher and the student the same patch grid.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        student: nn.Module,
        *,
        size: int,
        layers: Sequence[int] = (),
        values_weight: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.targets, self.values_weight = tuple(targets), values_weight
        values = values_weight > 0
        grid = patch_grid(student, size)
        self.teachers = Teachers(
            targets, lambda model, layers: AttentionTrunk(model, layers, values=values), grid=grid, dtype=dtype
        )
        self.layers = tuple(layers) or (depth_of(student),) * len(self.targets)
        self.student_trunk = AttentionTrunk(student, sorted(set(self.layers)), values=values)
        self.student_trunk.residual = dtype
        freeze_unused(student)
        self.extra = {}
        self.parts = (self.teachers, self.student_trunk)

    def sides(
        self, images: torch.Tensor, flips: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> list[tuple[AttentionSide, AttentionSide]]:
        """Run uint8 grey images (B, 1, S, S); return teacher and student, split into as many heads, for each target."""
        pixels, seen = self.views(images, flips, positions)
        taught = self.teachers(pixels)
        learnt = self.student_trunk(seen)
        found = []
        for number, (target, layer, theirs) in enumerate(zip(self.targets, self.layers, taught, strict=True)):
            heads = theirs[0].shape[1]
            ours = tuple(split_heads(t, heads) for t in learnt[layer])
            own = heads == self.student_trunk.heads[layer]
            scale = self.student_trunk.scale[layer] if own else ours[0].shape[-1] ** -0.5
            kept = self.teachers.selection(number, self.student_trunk)
            teacher = AttentionSide.of(theirs, self.teachers.trunk(number).scale[target.layer], kept[0])
            found.append((teacher, AttentionSide.of(ours, scale, kept[1])))
        return found

    def forward(
        self, images: torch.Tensor, flips: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Compute the loss, and each target's divergences where there is more than one; see :class:`Objective`."""
        losses, parts = [], {}
        for target, (teacher, student) in zip(self.targets, self.sides(images, flips, positions), strict=True):
            with torch.autocast(images.device.type, enabled=False):  # it would round the logits to half precision
                loss = attention_kl(teacher, student)
                parts[f"kl/{target.name}"] = loss
                if self.values_weight:
                    values = attention_kl(teacher.of_values(), student.of_values())
                    parts[f"values/{target.name}"] = values
                    loss = loss + self.values_weight * values
            losses.append(loss)
        mean = weighted_mean(losses, [target.weight for target in self.targets])
        return {"loss": mean, **(parts if len(parts) > 1 else {})}

    def draw(self, images: torch.Tensor) -> npt.NDArray[np.uint8]:
        """Draw what three query tokens attend to, mean over heads, in each teacher and the student."""
        columns: dict[str, tuple[AttentionSide, int]] = {}
        several = len(self.targets) > 1
        for number, (target, (teacher, student)) in enumerate(zip(self.targets, self.sides(images), strict=True)):
            columns[target.name if several else "teacher"] = teacher, self.teachers.trunk(number).num_prefix_tokens
            name = f"student {number + 1}" if several else "student"
            columns[name] = student, self.student_trunk.num_prefix_tokens
        return draw_attention(images, columns)


def split_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Split (B, H, L, D) into (B, ``heads``, L, ceil(H D / heads)); the last heads are filled up with zeros."""
    if tensor.shape[1] == heads:
        return tensor
    together = tensor.transpose(1, 2).flatten(2)
    width = -(-together.shape[-1] // heads)
    padded = F.pad(together, (0, heads * width - together.shape[-1]))
    return padded.reshape(*padded.shape[:2], heads, width).transpose(1, 2)


def freeze_unused(student: Any) -> None:
    """Freeze what the loss never reaches: the last block beyond its projections, the final norm, class heads."""
    last = student.blocks[-1]
    reached = {id(p) for part in (last.norm1, last.attn) for p in part.parameters()}
    reached -= {
        id(p) for name in ("proj", "norm", "gate") if (m := getattr(last.attn, name, None)) for p in m.parameters()
    }
    for parameter in last.parameters():
        if id(parameter) not in reached:
            parameter.requires_grad_(False)
    for name in ("norm", "fc_norm", "head"):
        module = getattr(student, name, None)
        if isinstance(module, nn.Module):
            module.requires_grad_(False)
