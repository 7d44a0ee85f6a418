"""Teachers that are made faster, and what is said and refused about them."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from unip.errors import UnipError
from unip.pretraining.attention_distillation import AttentionDistillation
from unip.pretraining.inputs import normalise_crops
from unip.pretraining.speed import speed_up
from unip.pretraining.teachers import Target
from unip.vit.frozen import Float8Linear, FusedGelu
from unip.vit.spec import build_backbone
from unip.vit.student import student_spec


def distillation(dtype: torch.dtype | None = None) -> AttentionDistillation:
    torch.manual_seed(0)
    teacher = VisionTransformer(img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3, num_classes=0)
    student = build_backbone(student_spec("unip_micro"))
    return AttentionDistillation([Target(teacher, 3, name="tiny-3")], student, size=64, dtype=dtype)


def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return normalise_crops(torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8, generator=generator))


@pytest.mark.parametrize(("precision", "kind", "count"), [("auto", FusedGelu, 2), ("fp8", Float8Linear, 8)])
def test_blocks_before_the_distilled_layer_are_changed_and_the_change_is_measured(precision, kind, count):
    model = distillation()
    (wanted,) = model.teachers(pixels())
    lines = speed_up(model.teachers, model.targets, pixels(), precision=precision, tolerance=0.05)
    assert sum(isinstance(m, kind) for m in model.teachers.modules()) == count
    assert lines[0].startswith(f"teacher: {count} ")
    (found,) = model.teachers(pixels())
    scale = model.teachers.trunk(0).scale[3]
    maps = [((q * scale) @ k.mT).softmax(-1) for q, k in (wanted, found)]
    moved = 0.5 * (maps[0] - maps[1])[2:].abs().sum(-1).mean().item()
    assert f"moves by {moved:.4f}" in lines[1]


def test_a_teacher_whose_attention_moves_too_far_is_refused():
    model = distillation()
    with pytest.raises(UnipError, match=r"tolerance 1e-06"):
        speed_up(model.teachers, model.targets, pixels(), precision="fp8", tolerance=1e-6)


def test_half_precision_gives_nearly_the_same_loss_and_gradients():
    exact, half = distillation(), distillation(torch.bfloat16)
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    losses = []
    for model in (exact, half):
        with torch.autocast("cpu", torch.bfloat16, enabled=model is half):
            losses.append(model(images)["loss"])
        losses[-1].backward()
    assert next(half.teachers.parameters()).dtype == torch.bfloat16
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    for one, two in zip(exact.student_trunk.parameters(), half.student_trunk.parameters(), strict=True):
        if one.grad is not None and one.grad.norm() > 1e-6:
            assert (one.grad - two.grad).norm() < 0.1 * one.grad.norm()
