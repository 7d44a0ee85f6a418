"""The student of a run: from random weights, or from another model's."""

from __future__ import annotations

import torch
from torch import nn

from unip.pretraining.config import PretrainConfig
from unip.pretraining.teachers import Target
from unip.training.optim import count_parameters
from unip.vit.backbone import Backbone
from unip.vit.shape import heads_of
from unip.vit.spec import BackboneSpec, build_backbone, has_own_last_heads, last_heads, set_last_heads
from unip.vit.student import student_spec


def make_student(
    config: PretrainConfig, start: Backbone | None, targets: list[Target]
) -> tuple[nn.Module, BackboneSpec]:
    """Build the student; for attention distillation its last block gets as many heads as the layer it learns first."""
    heads = None
    if config.attentive:
        first = config.student_layers.index(max(config.student_layers)) if config.student_layers else 0
        heads = heads_of(targets[first].model, targets[first].layer)
    torch.manual_seed(config.seed)
    if start is None:
        spec = student_spec(config.student, last_heads=heads)
        return build_backbone(spec, drop_path=config.drop_path), spec
    if heads is not None:
        set_last_heads(start.model, heads)
    own = last_heads(start.model) if has_own_last_heads(start.model) else None
    return start.model, start.spec.model_copy(update={"last_heads": own})


def describe_student(config: PretrainConfig, student: nn.Module) -> str:
    """Say what is trained."""
    millions = count_parameters(student.parameters()) / 1e6
    trained = count_parameters(p for p in student.parameters() if p.requires_grad) / 1e6
    name = config.student if config.init == "random" else f"as {config.init}"
    return (
        f"student {name}: {millions:.2f} M parameters, {trained:.2f} M trained, "
        f"{last_heads(student)} heads in the last block"
    )
