"""Teacher and student side by side: who learns, who stays, and which grids fit together."""

from __future__ import annotations

import pytest
import torch

from unip.attention.capture import attention_map, visiting
from unip.data.transforms import INFMIX_MEAN, INFMIX_STD
from unip.errors import UnipError
from unip.pretraining.distillation import AttentionDistillation, flip_some, freeze_unused, normalise_grey, resize_to
from unip.vit.drop_path import SampleDropPath
from unip.vit.spec import BackboneSpec, build_backbone

SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 3}
STUDENT = BackboneSpec(arguments={"img_size": 64, "patch_size": 16, **SMALL}, fixed_positions=True)
TEACHERS = {
    "plain": BackboneSpec(arguments={"img_size": 64, "patch_size": 16, **SMALL}),
    "patch 14 with registers": BackboneSpec(
        timm_name="vit_small_patch14_reg4_dinov2", arguments={"img_size": 56, **SMALL}
    ),
    "rope with registers": BackboneSpec(timm_name="vit_small_patch16_dinov3", arguments={"img_size": 64, **SMALL}),
    "rope, patch 14": BackboneSpec(timm_name="eva02_tiny_patch14_224", arguments={"img_size": 56, **SMALL}),
    "patch 32": BackboneSpec(arguments={"img_size": 128, "patch_size": 32, **SMALL}),
    "no class token": BackboneSpec(
        arguments={"img_size": 64, "patch_size": 16, "class_token": False, "global_pool": "", **SMALL}
    ),
    "one register, no class token": BackboneSpec(
        timm_name="vit_little_patch16_reg1_gap_256", arguments={"img_size": 64, **SMALL}
    ),
    "four registers, no class token": BackboneSpec(
        timm_name="vit_medium_patch16_reg4_gap_256", arguments={"img_size": 64, **SMALL}
    ),
}


def teacher(kind: str = "plain") -> torch.nn.Module:
    torch.manual_seed(1)
    model = build_backbone(TEACHERS[kind])
    for parameter in model.parameters():  # initial weights attend almost uniformly: make them pointed
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def student(drop_path: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(2)
    return build_backbone(STUDENT, drop_path=drop_path)


def images(size: int = 64, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)


def test_images_are_normalised_with_the_mixs_numbers():
    pixels = normalise_grey(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert pixels.shape == (1, 3, 1, 2)
    wanted = torch.tensor([-INFMIX_MEAN / INFMIX_STD, (1 - INFMIX_MEAN) / INFMIX_STD])
    torch.testing.assert_close(pixels, wanted.expand(1, 3, 1, 2))


def test_some_images_are_mirrored_on_the_device():
    pixels = images(count=3)
    found = flip_some(pixels, torch.tensor([True, False, True]))
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.stack([pixels[0].flip(-1), pixels[1], pixels[2].flip(-1)]))
    model = AttentionDistillation(teacher(), student(), layer=2, size=64).eval()
    mirrored = model(pixels, torch.ones(3, dtype=torch.bool))["loss"]
    assert torch.equal(mirrored, model(pixels.flip(-1))["loss"]) and not torch.equal(mirrored, model(pixels)["loss"])


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_activation_checkpointing_changes_no_gradient(drop_path):
    gradients = []
    for checkpointing in (False, True):
        learner = student(drop_path)
        learner.set_grad_checkpointing(checkpointing)
        model = AttentionDistillation(teacher(), learner, layer=2, size=64).train()
        if drop_path:  # as the loop hands the decisions in
            sites = [m for m in model.modules() if isinstance(m, SampleDropPath)]
            assert len(sites) == 4  # of two blocks; the last one ends at its queries and keys
            for number, site in enumerate(sites):
                site.factors = torch.tensor([0.0, 1 / 0.6] if number % 2 else [1 / 0.6, 0.0])
        model(images())["loss"].backward()
        gradients.append({name: p.grad for name, p in learner.named_parameters() if p.grad is not None})
    plain, again = gradients
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_resizing_leaves_what_fits_and_keeps_a_constant():
    pixels = torch.full((1, 3, 64, 64), 0.7)
    assert resize_to(pixels, 64) is pixels
    torch.testing.assert_close(resize_to(pixels, 56), torch.full((1, 3, 56, 56), 0.7))


def test_exactly_what_the_loss_never_reaches_is_frozen():
    model = student()
    freeze_unused(model)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    beyond = ("attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    assert frozen == {
        "pos_embed",  # fixed sin-cos positions
        *(f"blocks.2.{part}.{kind}" for part in beyond for kind in ("weight", "bias")),
        "norm.weight",
        "norm.bias",
    }


@pytest.mark.parametrize("kind", TEACHERS)
def test_every_trained_parameter_of_the_student_and_none_of_the_teacher_gets_a_gradient(kind):
    learner, model_of_teacher = student(), teacher(kind)
    model = AttentionDistillation(model_of_teacher, learner, layer=2, size=64).train()
    model(images())["loss"].backward()
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name
    assert all(p.grad is None for p in model_of_teacher.parameters())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_values_of_the_last_block_get_no_gradient():
    learner = student()
    model = AttentionDistillation(teacher(), learner, layer=2, size=64)
    model(images())["loss"].backward()
    q, k, v = learner.blocks[-1].attn.qkv.weight.grad.chunk(3)
    assert q.abs().sum() > 0
    assert k.abs().sum() > 0
    assert v.abs().sum() == 0


@pytest.mark.parametrize("kind", ["plain", "patch 14 with registers", "rope with registers"])
def test_steps_bring_the_loss_down_and_leave_the_teacher_as_it_was(kind):
    model_of_teacher = teacher(kind)
    before = {name: value.clone() for name, value in model_of_teacher.state_dict().items()}
    learner = student()
    model = AttentionDistillation(model_of_teacher, learner, layer=2, size=64).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.1)
    losses = []
    for _ in range(15):
        value = model(images())["loss"]
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(before[name], value) for name, value in model_of_teacher.state_dict().items())


def test_the_teacher_is_always_in_evaluation():
    restless = build_backbone(TEACHERS["plain"], drop_path=0.5).train()
    model = AttentionDistillation(restless, student(), layer=3, size=64)
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for module in model.teacher.modules())
        assert model.student_trunk.training == mode
    first, second = (model.both(images())[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_loss_is_the_definition_on_timms_own_attention():
    """Teacher with patch 14 and four registers: resized input, registers left out and rows normalised again."""
    model_of_teacher, learner = teacher("patch 14 with registers"), student()
    model = AttentionDistillation(model_of_teacher, learner, layer=2, size=64).eval()
    found = {}

    def keep(name):
        return lambda layer, q, k, scale: found.update({name: attention_map(q.double(), k.double(), scale)})

    pixels = (images().double() / 255 - INFMIX_MEAN) / INFMIX_STD
    pixels = pixels.float().expand(-1, 3, -1, -1)
    smaller = torch.nn.functional.interpolate(pixels, size=(56, 56), mode="bicubic", antialias=True)
    with torch.no_grad():
        with visiting(model_of_teacher, [2], keep("teacher")):
            model_of_teacher.forward_features(smaller)
        with visiting(learner, [3], keep("student")):
            learner.forward_features(pixels)
        value = model(images())["loss"].item()
    assert found["teacher"].shape[-1] == 1 + 4 + 16
    assert found["student"].shape[-1] == 1 + 16
    kept = [0, *range(5, 21)]
    target = found["teacher"][:, :, kept][..., kept]
    target = target / target.sum(-1, keepdim=True)
    wanted = (target * (target.log() - found["student"].log())).sum(-1).mean().item()
    assert wanted > 1e-3
    assert value == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "registers"), [("one register, no class token", 1), ("four registers, no class token", 4)]
)
def test_a_register_is_never_compared_with_a_class_token(kind, registers):
    """The loss is that of the patches alone, in float64 from timm's own attention."""
    model_of_teacher, learner = teacher(kind), student()
    model = AttentionDistillation(model_of_teacher, learner, layer=2, size=64).eval()
    found = {}

    def keep(name, prefix):
        def visit(layer, q, k, scale):
            found[name] = attention_map(q[:, :, prefix:].double(), k[:, :, prefix:].double(), scale)

        return visit

    with torch.no_grad():
        pixels = normalise_grey(images())
        with visiting(model_of_teacher, [2], keep("teacher", registers)):
            model_of_teacher.forward_features(pixels)
        with visiting(learner, [3], keep("student", 1)):
            learner.forward_features(pixels)
        value = model(images())["loss"].item()
    assert found["teacher"].shape == found["student"].shape == (2, 3, 16, 16)
    wanted = (found["teacher"] * (found["teacher"].log() - found["student"].log())).sum(-1).mean().item()
    assert wanted > 1e-3
    assert value == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "side"),
    [("plain", 96), ("patch 14 with registers", 84), ("rope with registers", 96), ("rope, patch 14", 84)],
)
def test_teacher_sees_as_many_patches_at_another_crop_size(kind, side):
    model = AttentionDistillation(teacher(kind), student(), layer=1, size=96)
    assert model.teacher_size == side
    (q, _), (q_student, _) = model.both(images(96))
    assert q.shape[2] - model.teacher.num_prefix_tokens == q_student.shape[2] - 1 == 36


def test_the_student_may_have_another_head_width():
    spec = STUDENT.model_copy(update={"arguments": {**STUDENT.arguments, "embed_dim": 36}})
    model = AttentionDistillation(teacher(), build_backbone(spec), layer=2, size=64)
    assert model.teacher.scale == pytest.approx(8**-0.5)
    assert model.student_trunk.scale == pytest.approx(12**-0.5)
    assert model(images())["loss"].isfinite()


def test_a_last_block_with_the_teachers_heads_takes_part():
    many = BackboneSpec(arguments={"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 6})
    learner = build_backbone(STUDENT.model_copy(update={"last_heads": 6}))
    model = AttentionDistillation(build_backbone(many), learner, layer=1, size=64)
    assert model.both(images())[1][0].shape == (2, 6, 17, 4)
    assert model(images())["loss"].isfinite()


def test_other_head_counts_are_refused():
    wide = BackboneSpec(arguments={"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 6})
    with pytest.raises(UnipError, match="the teacher's layer has 6 heads, the student's last block 3"):
        AttentionDistillation(build_backbone(wide), student(), layer=1, size=64)


@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_out_of_range_is_refused(layer):
    with pytest.raises(UnipError, match=rf"layer {layer} is out of range: this model has layers 1 to 3"):
        AttentionDistillation(teacher(), student(), layer=layer, size=64)


def test_a_size_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(UnipError, match=r"patch grids cannot match: crops of 72 px .* 16-px patches") as caught:
        AttentionDistillation(teacher(), student(), layer=1, size=72)
    assert caught.value.fix == "Choose --size as a multiple of 16."


def test_a_teacher_that_makes_another_grid_is_refused():
    overlapping = teacher("no class token")
    overlapping.patch_embed.proj.stride = (8, 8)  # patches of 16 px, every 8 px
    overlapping.pos_embed = None
    with pytest.raises(UnipError, match="patch grids cannot match: the teacher makes 49 patches, the student 16"):
        AttentionDistillation(overlapping, student(), layer=1, size=64)
