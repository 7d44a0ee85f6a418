"""NMI-HAD: the student's last attention learns the teacher's hybrid one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from unip.attention.capture import QueryKeyTrunk
from unip.data.transforms import INFMIX_MEAN, INFMIX_STD
from unip.errors import UnipError
from unip.pretraining.loss import Prefix, attention_kl, shared_tokens
from unip.vit.shape import depth_of, patch_size


def normalise_grey(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 grey images (B, 1, H, W) into InfMix-normalised float ones (B, 3, H, W)."""
    pixels: torch.Tensor = (images.float() / 255 - INFMIX_MEAN) / INFMIX_STD
    return pixels.expand(-1, 3, -1, -1)


def resize_to(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Resize square float images (B, C, S, S) to ``side``, bicubic with antialiasing; as they are when they fit."""
    if pixels.shape[-1] == side:
        return pixels
    return F.interpolate(pixels, (side, side), mode="bicubic", antialias=True, align_corners=False)


def flip_some(images: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """Mirror the images (B, C, H, W) left to right where ``flips``, bool (B,), says so."""
    return torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)


class AttentionDistillation(nn.Module):
    """Teacher cut at its hybrid layer and student cut at its last queries and keys; called with images, gives the loss.

    Teacher and student see the same tensor (paper: InfMix normalisation for both). A teacher with other patches sees
    it resized so that both patch grids agree.

    Args:
        teacher: A timm ViT; frozen here.
        student: A timm ViT whose last block has as many heads as the teacher's layer.
        layer: The teacher's layer, 1-based.
        size: Side of the square training crops, in pixels.

    Raises:
        UnipError: Layer out of range, head counts differ, or no input size gives both the same patch grid.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, layer: int, size: int) -> None:
        super().__init__()
        self.teacher = QueryKeyTrunk(teacher, layer).requires_grad_(False).eval()
        self.student_trunk = QueryKeyTrunk(student, depth_of(student))
        freeze_unused(student)
        if self.teacher.num_heads != self.student_trunk.num_heads:
            raise UnipError(
                f"the teacher's layer has {self.teacher.num_heads} heads, the student's last block "
                f"{self.student_trunk.num_heads}",
                "Build the student with as many heads in its last block.",
            )
        if size % patch_size(student):
            raise UnipError(
                f"patch grids cannot match: crops of {size} px are no whole number of the student's "
                f"{patch_size(student)}-px patches",
                f"Choose --size as a multiple of {patch_size(student)}.",
            )
        self.teacher_size = size // patch_size(student) * patch_size(teacher)
        self._check_grids(size)

    def _check_grids(self, size: int) -> None:
        device = next(self.parameters()).device
        probe = torch.zeros(1, 1, size, size, dtype=torch.uint8, device=device)
        (q_t, _), (q_s, _) = self.both(probe)
        patches = [q.shape[2] - side.num_prefix_tokens for q, side in ((q_t, self.teacher), (q_s, self.student_trunk))]
        if patches[0] != patches[1]:
            raise UnipError(
                f"patch grids cannot match: the teacher makes {patches[0]} patches, the student {patches[1]}",
                "Use a teacher that takes other input sizes, or another --size.",
            )

    def train(self, mode: bool = True) -> AttentionDistillation:
        """Set the student's mode; the teacher stays in evaluation."""
        super().train(mode)
        self.teacher.eval()
        return self

    def both(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Run uint8 grey images (B, 1, S, S); return (q, k) of the teacher and of the student, all tokens."""
        pixels = normalise_grey(images)
        with torch.no_grad():
            taught = self.teacher(resize_to(pixels, self.teacher_size))
        return taught, self.student_trunk(pixels)

    def forward(self, images: torch.Tensor, flips: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Compute the loss of uint8 grey crops (B, 1, S, S), some of them mirrored: bool (B,)."""
        taught, learnt = self.both(images if flips is None else flip_some(images, flips))
        theirs, ours = (
            Prefix(side.num_prefix_tokens, side.has_class_token) for side in (self.teacher, self.student_trunk)
        )
        # autocast would round the logits to half precision
        with torch.autocast(images.device.type, enabled=False):
            loss = attention_kl(
                taught,
                learnt,
                teacher_scale=self.teacher.scale,
                student_scale=self.student_trunk.scale,
                teacher_kept=shared_tokens(theirs, ours),
                student_kept=shared_tokens(ours, theirs),
            )
        return {"loss": loss}


def freeze_unused(student: Any) -> None:
    """Freeze what the loss never reaches: the last block beyond its queries and keys, the final norm, class heads."""
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
