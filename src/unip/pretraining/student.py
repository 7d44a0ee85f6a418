"""The student of a run: from random weights, or from another model's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from unip.pretraining.config import PretrainConfig
from unip.pretraining.teachers import Target
from unip.training.optim import count_parameters
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import Backbone
from unip.vit.normalisation import INFMIX_RGB, renormalise
from unip.vit.shape import heads_of
from unip.vit.spec import build_backbone, has_own_last_heads, last_heads, set_last_heads
from unip.vit.student import student_spec


def make_student(
    config: PretrainConfig, init: Backbone | None, targets: list[Target]
) -> tuple[nn.Module, BackboneSpec]:
    """Build the student; for attention distillation its last block gets as many heads as the layer it learns first.

    Another model's weights are rewritten for InfMix's normalisation, so that it starts as what that model is.
    """
    heads = None
    if config.attentive:
        first = config.student_layers.index(max(config.student_layers)) if config.student_layers else 0
        heads = heads_of(targets[first].model, targets[first].layer)
    torch.manual_seed(config.seed)
    if init is None:
        spec = student_spec(config.student, last_heads=heads)
        return build_backbone(spec, drop_path=config.drop_path), spec
    renormalise(init.model, (init.mean, init.std), INFMIX_RGB)
    if heads is not None:
        set_last_heads(init.model, heads)
    own = last_heads(init.model) if has_own_last_heads(init.model) else None
    return init.model, init.spec.model_copy(update={"last_heads": own})


@torch.no_grad()
def average_with_init(student: nn.Module, init: Mapping[str, torch.Tensor], share: float) -> None:
    """Move the student's weights, in place, by ``share`` of the way back to where they started.

    The mean of a model and what it was trained from often does better on other data than either of them (WiSE-FT:
    Wortsman et al., CVPR 2022, arXiv 2109.01903).

    Args:
        student: After training.
        init: Its state before, by name.
        share: From 0, the trained weights, to 1, those of the start.
    """
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(init[name].to(tensor), share)


def describe_student(config: PretrainConfig, student: nn.Module) -> str:
    """Say what is trained."""
    millions = count_parameters(student.parameters()) / 1e6
    trained = count_parameters(p for p in student.parameters() if p.requires_grad) / 1e6
    name = config.student if config.init == "random" else f"as {config.init}"
    text = (
        f"student {name}: {millions:.2f} M parameters, {trained:.2f} M trained, "
        f"{last_heads(student)} heads in the last block"
    )
    if config.init_share:
        text += f", averaged with its init at the end (share {config.init_share:g})"
    if config.init != "random" and student.patch_embed.proj.bias is None:  # type: ignore[union-attr]
        text += "; without a bias in its patch embedding, it is used with InfMix's normalisation"
    return text
