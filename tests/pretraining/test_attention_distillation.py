"""Teacher and student side by side: who learns, who stays, and which grids fit together."""

from __future__ import annotations

import pytest
import torch

from unip.attention.capture import attention_map, visiting
from unip.errors import UnipError
from unip.pretraining.attention_distillation import AttentionDistillation, freeze_unused, split_heads
from unip.pretraining.inputs import normalise_crops, normalise_grey, resize_to
from unip.pretraining.teachers import Target
from unip.vit.architecture import BackboneSpec
from unip.vit.drop_path import SampleDropPath
from unip.vit.normalisation import INFMIX_MEAN, INFMIX_STD
from unip.vit.spec import build_backbone

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


def distillation(teacher_model, learner, *, layer, size=64, **more) -> AttentionDistillation:
    return AttentionDistillation([Target(teacher_model, layer)], learner, size=size, **more)


def images(size: int = 64, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)


def test_images_are_normalised_with_the_mixs_numbers():
    pixels = normalise_grey(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert pixels.shape == (1, 3, 1, 2)
    wanted = torch.tensor([-INFMIX_MEAN / INFMIX_STD, (1 - INFMIX_MEAN) / INFMIX_STD])
    torch.testing.assert_close(pixels, wanted.expand(1, 3, 1, 2))


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_activation_checkpointing_changes_no_gradient(drop_path):
    gradients = []
    for checkpointing in (False, True):
        learner = student(drop_path)
        learner.set_grad_checkpointing(checkpointing)
        model = AttentionDistillation([Target(teacher(), 2)], learner, size=64).train()
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
    model = distillation(model_of_teacher, learner, layer=2, size=64).train()
    model(images())["loss"].backward()
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name
    assert all(p.grad is None for p in model_of_teacher.parameters())
    assert not any(p.requires_grad for p in model.teachers.parameters())


def test_values_of_the_last_block_get_no_gradient():
    learner = student()
    model = distillation(teacher(), learner, layer=2, size=64)
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
    model = distillation(model_of_teacher, learner, layer=2, size=64).train()
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
    model = distillation(restless, student(), layer=3, size=64)
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for module in model.teachers.modules())
        assert model.student_trunk.training == mode
    first, second = (model.sides(images())[0][0] for _ in range(2))
    assert torch.equal(first.q, second.q) and torch.equal(first.k, second.k)


def test_loss_is_the_definition_on_timms_own_attention():
    """Teacher with patch 14 and four registers: resized input, registers left out and rows normalised again."""
    model_of_teacher, learner = teacher("patch 14 with registers"), student()
    model = distillation(model_of_teacher, learner, layer=2, size=64).eval()
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
    model = distillation(model_of_teacher, learner, layer=2, size=64).eval()
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
    model = distillation(teacher(kind), student(), layer=1, size=96)
    assert model.teachers.sides == [side]
    ((taught, learnt),) = model.sides(images(96))
    assert taught.q.shape[2] - model.teachers.trunk(0).num_prefix_tokens == learnt.q.shape[2] - 1 == 36


def test_the_student_may_have_another_head_width():
    spec = STUDENT.model_copy(update={"arguments": {**STUDENT.arguments, "embed_dim": 36}})
    model = distillation(teacher(), build_backbone(spec), layer=2, size=64)
    ((taught, learnt),) = model.sides(images())
    assert (taught.scale, learnt.scale) == pytest.approx((8**-0.5, 12**-0.5))
    assert model(images())["loss"].isfinite()


def test_a_last_block_with_the_teachers_heads_takes_part():
    many = BackboneSpec(arguments={"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 6})
    learner = build_backbone(STUDENT.model_copy(update={"last_heads": 6}))
    model = distillation(build_backbone(many), learner, layer=1, size=64)
    assert model.sides(images())[0][1].q.shape == (2, 6, 17, 4)
    assert model(images())["loss"].isfinite()


def by_hand(teacher_model, layer, learner, size=64, part="qk", heads=None, layer_of_student=3) -> float:
    """KL of one teacher's layer in float64, from what timm's own modules compute, patches and class token."""
    found = {}

    def keep(name, model, number):
        attn = model.blocks[number - 1].attn

        def hook(module, inputs):
            x = inputs[0].double()
            w, b = attn.qkv.weight.double(), attn.qkv.bias.double()
            found[name] = (x @ w.T + b).unflatten(-1, (3, -1)).unbind(2)  # q, k, v: (B, L, all channels)

        return attn.register_forward_pre_hook(hook)

    pixels = normalise_grey(images(size))
    with torch.no_grad():
        for name, model, number in (("teacher", teacher_model, layer), ("student", learner, layer_of_student)):
            handle = keep(name, model, number)
            model.eval().forward_features(pixels)
            handle.remove()
    heads = teacher_model.blocks[layer - 1].attn.num_heads

    def attention(q, k):
        width = -(-q.shape[-1] // heads)
        total = torch.zeros(*q.shape[:2], heads * width, dtype=torch.float64)
        q, k = (torch.cat([t, total[..., t.shape[-1] :]], -1) for t in (q, k))
        maps = [
            (q[..., h * width : (h + 1) * width] @ k[..., h * width : (h + 1) * width].mT / width**0.5).softmax(-1)
            for h in range(heads)
        ]
        return torch.stack(maps, 1)

    pairs = [(v, v) if part == "v" else (q, k) for q, k, v in (found["teacher"], found["student"])]
    target, ours = (attention(*pair) for pair in pairs)
    return (target * (target.log() - ours.log())).sum(-1).mean().item()


def wide_teacher(heads: int, width: int) -> torch.nn.Module:
    torch.manual_seed(4)
    arguments = {"img_size": 64, "patch_size": 16, "embed_dim": width, "depth": 3, "num_heads": heads}
    model = build_backbone(BackboneSpec(arguments=arguments))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_cutting_anew_keeps_the_order_of_channels_and_fills_up_with_zeros():
    q = torch.arange(2 * 3 * 5 * 8.0).reshape(2, 3, 5, 8)
    assert split_heads(q, 3) is q
    cut = split_heads(q, 7)  # 24 channels into 7 heads of 4, 28 in all
    assert cut.shape == (2, 7, 5, 4)
    together = cut.transpose(1, 2).reshape(2, 5, 28)
    assert torch.equal(together[..., :24], q.transpose(1, 2).reshape(2, 5, 24))
    assert together[..., 24:].abs().sum() == 0


@pytest.mark.parametrize(("heads", "width"), [(4, 32), (5, 40), (13, 26)])
def test_another_head_count_is_compared_with_relation_heads(heads, width):
    model_of_teacher, learner = wide_teacher(heads, width), student()
    model = distillation(model_of_teacher, learner, layer=2).eval()
    wanted = by_hand(model_of_teacher, 2, learner)
    assert wanted > 1e-3
    assert model(images())["loss"].item() == pytest.approx(wanted, rel=1e-4)


def test_several_teachers_are_weighted_and_logged_each():
    first, second, learner = teacher(), wide_teacher(5, 40), student()
    targets = [Target(first, 2, 1.0, "a"), Target(second, 3, 3.0, "b"), Target(first, 3, 0.5, "c")]
    model = AttentionDistillation(targets, learner, size=64).eval()
    assert len(model.teachers.trunks) == 2  # the first one runs once for both of its layers
    found = {name: value.item() for name, value in model(images()).items()}
    wanted = [by_hand(t.model, t.layer, learner) for t in targets]
    assert found["kl/a"] == pytest.approx(wanted[0], rel=1e-4)
    assert found["kl/b"] == pytest.approx(wanted[1], rel=1e-4)
    assert found["kl/c"] == pytest.approx(wanted[2], rel=1e-4)
    assert found["loss"] == pytest.approx((wanted[0] + 3 * wanted[1] + 0.5 * wanted[2]) / 4.5, rel=1e-4)


def test_each_layer_of_the_student_learns_its_own():
    first, second, learner = teacher(), wide_teacher(5, 40), student()
    targets = [Target(first, 1, 1.0, "a"), Target(second, 3, 1.0, "b")]
    model = AttentionDistillation(targets, learner, size=64, layers=(2, 3), values_weight=1.0).eval()
    found = model(images())
    for target, layer in zip(targets, (2, 3), strict=True):
        for name, part in (("kl", "qk"), ("values", "v")):
            wanted = by_hand(target.model, target.layer, learner, part=part, layer_of_student=layer)
            assert found[f"{name}/{target.name}"].item() == pytest.approx(wanted, rel=1e-4)
    found["kl/a"].backward()
    reached = [block.attn.qkv.weight.grad is not None for block in learner.blocks]
    assert reached == [True, True, False]


def test_teachers_of_every_kind_at_once():
    learner = student()
    targets = [Target(teacher(kind), 2, 1.0, kind) for kind in TEACHERS]
    found = AttentionDistillation(targets, learner, size=64).train()(images())
    assert len(found) == 1 + len(TEACHERS)
    found["loss"].backward()
    for kind in TEACHERS:
        alone = distillation(teacher(kind), student(), layer=2)(images())["loss"]
        assert found[f"kl/{kind}"].item() == pytest.approx(alone.item(), rel=1e-5)


@pytest.mark.parametrize(("heads", "width"), [(3, 24), (4, 32)])
def test_value_relations_are_the_definition_and_train_the_values(heads, width):
    model_of_teacher, learner = wide_teacher(heads, width), student()
    model = distillation(model_of_teacher, learner, layer=2, values_weight=0.5).eval()
    found = model(images())
    kl, values = (by_hand(model_of_teacher, 2, learner, part=part) for part in ("qk", "v"))
    assert found["kl/teacher"].item() == pytest.approx(kl, rel=1e-4)
    assert found["values/teacher"].item() == pytest.approx(values, rel=1e-4)
    assert found["loss"].item() == pytest.approx(kl + 0.5 * values, rel=1e-4)
    found["loss"].backward()
    assert all(part.abs().sum() > 0 for part in learner.blocks[-1].attn.qkv.weight.grad.chunk(3))


def test_flips_mirror_what_both_sides_see():
    some = images(count=3)
    flips = torch.tensor([True, False, True])
    mirrored = torch.stack([some[0].flip(-1), some[1], some[2].flip(-1)])
    assert torch.equal(normalise_crops(some, flips), normalise_crops(mirrored))
    model = distillation(teacher(), student(), layer=2).eval()
    assert torch.equal(model(some, flips)["loss"], model(mirrored)["loss"])


@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_out_of_range_is_refused(layer):
    with pytest.raises(UnipError, match=rf"layer {layer} is out of range: this model has layers 1 to 3"):
        distillation(teacher(), student(), layer=layer, size=64)


def test_a_size_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(UnipError, match=r"patch grids cannot match: crops of 72 px .* 16-px patches") as caught:
        distillation(teacher(), student(), layer=1, size=72)
    assert caught.value.fix == "Choose --size as a multiple of 16."


def test_a_teacher_that_makes_another_grid_is_refused():
    overlapping = teacher("no class token")
    overlapping.patch_embed.proj.stride = (8, 8)  # patches of 16 px, every 8 px
    overlapping.pos_embed = None
    with pytest.raises(UnipError, match="patch grids cannot match: the teacher makes 49 patches, the student wants 16"):
        distillation(overlapping, student(), layer=1, size=64)
