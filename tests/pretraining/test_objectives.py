"""Feature distillation and masked autoencoding: formulas in float64, and what is random about a sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unip.errors import UnipError
from unip.pretraining.attention_distillation import AttentionDistillation
from unip.pretraining.distort import distorted
from unip.pretraining.feature_distillation import FeatureDistillation, cosine_distance, pool_patches
from unip.pretraining.inputs import normalise_grey
from unip.pretraining.mae import MaskedAutoencoding, normalised_patches, unpatchify
from unip.pretraining.objective import Objective
from unip.pretraining.sample_noise import WithPositions, seeded_noise
from unip.pretraining.teachers import Target
from unip.vit.architecture import BackboneSpec
from unip.vit.forward import patchify
from unip.vit.spec import build_backbone

SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 3}
STUDENT = BackboneSpec(arguments={"img_size": 64, "patch_size": 16, **SMALL}, fixed_positions=True)
REGISTERS = BackboneSpec(
    timm_name="vit_small_patch14_reg4_dinov2", arguments={"img_size": 56, "embed_dim": 40, "depth": 3, "num_heads": 5}
)
NO_CLASS = BackboneSpec(arguments={"img_size": 64, "patch_size": 16, "class_token": False, "global_pool": "", **SMALL})


def vit(spec: BackboneSpec, seed: int = 1, spread: float | None = 0.2) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = build_backbone(spec)
    if spread:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    return model.eval()


def student() -> torch.nn.Module:
    return vit(STUDENT, seed=2, spread=None)


def images(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 1, 64, 64), generator=generator, dtype=torch.uint8)


def masked(learner: torch.nn.Module, **more) -> MaskedAutoencoding:
    torch.manual_seed(5)
    return MaskedAutoencoding(learner, **{"size": 64, "depth": 2, "width": 64, **more}).eval()


def features(learner: torch.nn.Module, *teachers: torch.nn.Module) -> FeatureDistillation:
    torch.manual_seed(5)
    targets = [Target(model, 2, 1.0 + number, f"t{number}") for number, model in enumerate(teachers)]
    return FeatureDistillation(targets, learner, size=64).eval()


def test_cosine_distance_is_its_definition():
    rng = np.random.default_rng(0)
    theirs, ours = rng.normal(3, 2, (2, 5, 8)), rng.normal(0, 1, (2, 5, 8))
    total = 0.0
    for t, s in zip(theirs.reshape(-1, 8), ours.reshape(-1, 8), strict=True):
        t = (t - t.mean()) / math.sqrt(t.var() + 1e-5)
        total += 1 - (t @ s) / (np.linalg.norm(t) * np.linalg.norm(s))
    found = cosine_distance(torch.tensor(theirs), torch.tensor(ours))
    assert found.item() == pytest.approx(total / 10, rel=1e-9)


@pytest.mark.parametrize(("spec", "size", "prefix"), [(REGISTERS, 56, 5), (NO_CLASS, 64, 0)])
def test_features_compare_patches_and_the_class_token_if_both_have_one(spec, size, prefix):
    theirs, ours = vit(spec), student()
    model = features(ours, theirs)
    pixels = normalise_grey(images())
    smaller = torch.nn.functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    with torch.no_grad():
        block = theirs.forward_intermediates(
            pixels if size == 64 else smaller, indices=[1], output_fmt="NLC", return_prefix_tokens=True
        )[1][0]
        patches, before = block if isinstance(block, tuple) else (block, block)
        taught = torch.cat([before[:, :1], patches], 1) if prefix else patches
        learnt = model.maps[0](ours.forward_features(pixels))
        learnt = learnt if prefix else learnt[:, 1:]
        found = model(images())
    assert found.keys() == {"loss"}
    assert found["loss"].item() == pytest.approx(cosine_distance(taught.double(), learnt.double()).item(), rel=1e-4)


def test_several_feature_teachers_have_a_map_each_and_are_weighted():
    model = features(student(), vit(REGISTERS), vit(NO_CLASS))
    found = {name: value.item() for name, value in model(images()).items()}
    assert [m.out_features for m in model.maps] == [40, 24]
    assert found["loss"] == pytest.approx((found["cosine/t0"] + 2 * found["cosine/t1"]) / 3, rel=1e-5)


def test_the_patches_of_an_enlarged_view_are_averaged_block_by_block():
    tokens = torch.randn(2, 3 + 36, 5, dtype=torch.float64)
    found = pool_patches(tokens, 3, prefix=3)
    assert found.shape == (2, 3 + 4, 5)
    torch.testing.assert_close(found[:, :3], tokens[:, :3])
    lower_left = [3 + row * 6 + column for row in (3, 4, 5) for column in (0, 1, 2)]
    torch.testing.assert_close(found[:, 3 + 2], tokens[:, lower_left].mean(1))


def test_a_teacher_may_see_the_images_enlarged():
    teacher, ours = vit(NO_CLASS), student()
    targets = [Target(teacher, 2, 1.0, "plain"), Target(teacher, 2, 1.0, "enlarged", zoom=2)]
    model = FeatureDistillation(targets, ours, size=64).eval()
    larger = torch.nn.functional.interpolate(normalise_grey(images()), (128, 128), mode="bicubic", antialias=True)
    with torch.no_grad():
        block = teacher.forward_intermediates(larger, indices=[1], output_fmt="NCHW")[1][0]
        taught = torch.nn.functional.avg_pool2d(block, 2).flatten(2).transpose(1, 2)
        learnt = model.maps[1](ours.forward_features(normalise_grey(images())))[:, 1:]
        found = model(images())
    assert found["cosine/enlarged"].item() == pytest.approx(cosine_distance(taught, learnt).item(), rel=1e-4)
    assert found["cosine/plain"].item() != pytest.approx(found["cosine/enlarged"].item(), rel=1e-3)


def test_several_layers_of_the_student_are_mapped_side_by_side():
    ours = student()
    model = FeatureDistillation([Target(vit(NO_CLASS), 2)], ours, size=64, layers=(1, 2)).eval()
    pixels = normalise_grey(images())
    taught = vit(NO_CLASS).forward_intermediates(pixels, indices=[1], output_fmt="NLC", intermediates_only=True)[0]
    learnt = ours.forward_intermediates(pixels, indices=[0, 1], output_fmt="NLC", norm=False, intermediates_only=True)
    expected = cosine_distance(taught, model.maps[0](torch.cat(learnt, -1)))
    loss = model(images())["loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    loss.backward()
    assert all(p.grad is not None for p in ours.parameters() if p.requires_grad)
    assert {name.split(".")[1] for name, p in ours.named_parameters() if not p.requires_grad and "block" in name} == {
        "2"
    }


def test_only_the_student_sees_images_distorted():
    model = features(student(), vit(NO_CLASS))
    model.distort = 1.0
    seen = {}
    model.teachers.register_forward_pre_hook(lambda _, given: seen.update(teacher=given[0]))
    model.student_trunk.register_forward_pre_hook(lambda _, given: seen.update(student=given[0]))
    model(images(), None, torch.arange(2))
    torch.testing.assert_close(seen["teacher"], normalise_grey(images())[:, :1])
    assert (seen["student"] - seen["teacher"]).abs().mean() > 0.05
    model(images())
    assert torch.equal(seen["student"], seen["teacher"])


def test_distortions_belong_to_the_sample_and_touch_as_many_as_asked_for():
    grey = torch.rand(200, 1, 16, 16)
    together = distorted(grey, torch.arange(200), seed=3, probability=0.4)
    alone = distorted(grey[7:9], torch.arange(7, 9), seed=3, probability=0.4)
    torch.testing.assert_close(together[7:9], alone)
    changed = (together != grey).flatten(1).any(1)
    assert 0.3 < changed.float().mean() < 0.5
    assert 0 <= together.min() and together.max() <= 1
    assert not torch.equal(together, distorted(grey, torch.arange(200), seed=4, probability=0.4))


def test_distorting_a_batch_piece_by_piece_changes_nothing(monkeypatch):
    model = features(student(), vit(NO_CLASS))
    model.distort = 0.7
    together = model.views(images(5), None, torch.arange(5))
    monkeypatch.setattr("unip.pretraining.objective.AT_ONCE", 2)
    for whole, pieces in zip(together, model.views(images(5), None, torch.arange(5)), strict=True):
        torch.testing.assert_close(pieces, whole)


def objectives() -> dict[str, tuple[Objective, torch.nn.Module]]:
    one, other = student(), student()
    return {"features": (features(one, vit(REGISTERS)), one), "mae": (masked(other), other)}


@pytest.mark.parametrize("name", ["features", "mae"])
def test_all_of_the_student_and_of_what_is_beside_it_is_trained(name):
    model, learner = objectives()[name]
    model.train()(images())["loss"].backward()
    saved = dict(model.saved(learner).named_parameters())
    assert {id(p) for p in learner.parameters()} < {id(p) for p in saved.values()}
    for parameter_name, parameter in saved.items():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name
    assert [n for n, p in saved.items() if not p.requires_grad] == ["student.pos_embed"]
    others = {id(p) for p in model.parameters()} - {id(p) for p in saved.values()}
    assert all(p.grad is None for p in model.parameters() if id(p) in others)  # the teacher's


@pytest.mark.parametrize("name", ["features", "mae"])
def test_steps_bring_the_loss_down(name):
    model, _ = objectives()[name]
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(25):
        loss = model(images())["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("name", ["features", "mae"])
def test_pictures(name):
    model, _ = objectives()[name]
    with torch.no_grad():
        picture = model.draw(images())
    assert picture.dtype == np.uint8 and picture.ndim == 3
    assert picture.shape[0] > 2 * 64 and picture.shape[1] > 3 * 64


def attention(learner: torch.nn.Module) -> AttentionDistillation:
    targets = [Target(vit(REGISTERS), 1, 1.0, "a"), Target(vit(NO_CLASS), 3, 1.0, "b")]
    return AttentionDistillation(targets, learner, size=64, values_weight=1.0).eval()


@pytest.mark.parametrize("make", [attention, masked, lambda learner: features(learner, vit(REGISTERS))])
def test_parts_compile_whole(make):
    model = make(student())
    plain = model(images())["loss"]
    torch._dynamo.reset()
    for part in model.parts:
        part.compile(backend="aot_eager", fullgraph=True)
    loss = model(images())["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)


# Masked autoencoding ----------------------------------------------------------------------------------------------


def test_patches_are_cut_row_by_row_and_put_together_again():
    numbers = torch.arange(36.0).reshape(1, 1, 6, 6)
    cut = patchify(numbers, 2, 2)
    assert cut.shape == (1, 9, 4)
    assert cut[0, 1].tolist() == [2, 3, 8, 9]
    assert cut[0, 3].tolist() == [12, 13, 18, 19]
    assert torch.equal(unpatchify(cut, 2), numbers)


def test_normalised_patches_are_the_papers():
    patches = torch.randn(2, 3, 16, dtype=torch.float64) * 5 + 2
    colours = patches.repeat_interleave(3, dim=-1)
    wanted = (colours - colours.mean(-1, keepdim=True)) / (colours.var(-1, unbiased=True, keepdim=True) + 1e-6) ** 0.5
    torch.testing.assert_close(normalised_patches(patches), wanted[..., ::3])


def test_a_quarter_of_the_patches_is_seen():
    model = masked(student())
    _, hidden = model.paint(normalise_grey(images(5)), None)
    assert hidden.sum(1).tolist() == [12] * 5
    assert masked(student(), mask_ratio=0.5).visible == 8


def test_the_mask_belongs_to_the_sample_and_not_to_its_batch():
    model, pixels = masked(student()), normalise_grey(images(4))
    positions = torch.tensor([7, 123, 2**40 + 1, 8])
    together = model.paint(pixels, positions)
    for number in range(4):
        alone = model.paint(pixels[number : number + 1], positions[number : number + 1])
        assert torch.equal(alone[1], together[1][number : number + 1])
        torch.testing.assert_close(alone[0], together[0][number : number + 1], rtol=1e-4, atol=1e-5)
    assert len({tuple(row) for row in together[1].tolist()}) == 4
    assert not torch.equal(masked(student(), seed=1).paint(pixels, positions)[1], together[1])


def test_noise_is_even_and_differs_between_seeds_positions_and_places():
    noise = seeded_noise(123, torch.arange(2000), 196)
    assert noise.min() >= 0 and noise.max() < 2**32
    share = noise.double() / 2**32
    assert share.mean().item() == pytest.approx(0.5, abs=0.003)
    assert share.var().item() == pytest.approx(1 / 12, rel=0.01)
    ranks = noise.argsort(1)[:, :49].flatten().bincount(minlength=196) / 2000  # how often each patch is seen
    assert ranks.min() > 0.2 and ranks.max() < 0.3
    for other in (seeded_noise(124, torch.arange(2000), 196), seeded_noise(123, torch.arange(2000) + 2000, 196)):
        correlation = np.corrcoef(share.flatten().numpy(), other.double().flatten().numpy())[0, 1]
        assert abs(correlation) < 0.01
    assert abs(np.corrcoef(share[:-1].flatten().numpy(), share[1:].flatten().numpy())[0, 1]) < 0.01


def test_hidden_patches_do_not_reach_the_encoder():
    model, pixels = masked(student()), normalise_grey(images())
    painted, hidden = model.paint(pixels, None)
    damaged = pixels.clone()
    for image, row in zip(damaged, hidden, strict=True):
        for number in row.nonzero()[:, 0].tolist():
            top, left = divmod(number, 4)
            image[:, top * 16 : top * 16 + 16, left * 16 : left * 16 + 16] = 9.0
    assert torch.equal(model.paint(damaged, None)[0], painted)


def test_the_loss_is_the_mean_over_hidden_patches_of_all_three_channels():
    """In float64, with the paper's three channels, from an encoder that sees whole images patch by patch."""
    model = masked(student())
    with torch.no_grad():
        found = model(images())["loss"].item()
        painted, hidden = model.paint(normalise_grey(images()), None)
    pixels = ((images().double() / 255 - 0.3801) / 0.1871).expand(-1, 3, -1, -1)
    errors = []
    for image, row, paint in zip(pixels, hidden, painted.double(), strict=True):
        for number in range(16):
            if row[number]:
                top, left = divmod(number, 4)
                patch = image[:, top * 16 : top * 16 + 16, left * 16 : left * 16 + 16].permute(1, 2, 0).flatten()
                wanted = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                errors.append(((paint[number].repeat_interleave(3) - wanted) ** 2).mean().item())
    assert len(errors) == 24
    assert found == pytest.approx(np.mean(errors), rel=1e-4)


def test_with_everything_visible_in_order_the_encoder_is_the_model():
    learner = vit(STUDENT)
    model = masked(learner)
    pixels = normalise_grey(images())
    everything = torch.arange(16).expand(2, -1)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(pixels, everything), learner.forward_features(pixels))
        turned = model.encoder(pixels, everything.flip(1))[:, 1:].flip(1)
    torch.testing.assert_close(turned, learner.forward_features(pixels)[:, 1:], rtol=1e-4, atol=1e-4)


def test_registers_take_part_in_masked_autoencoding():
    spec = BackboneSpec(arguments={**STUDENT.arguments, "reg_tokens": 2, "no_embed_class": True})
    assert masked(vit(spec))(images())["loss"].isfinite()


def test_what_mae_refuses():
    rotary = BackboneSpec(timm_name="vit_small_patch16_dinov3", arguments={"img_size": 64, **SMALL})
    with pytest.raises(UnipError, match="mae needs a student with absolute positions"):
        masked(vit(rotary))
    with pytest.raises(UnipError, match=r"of 16 patches, mask_ratio 0\.99 leaves 0 visible"):
        masked(student(), mask_ratio=0.99)


def test_numbered_samples_tell_their_position():
    crop = torch.zeros(1, 4, 4)
    assert WithPositions({6: (crop, True)})[6] == (crop, True, 6)
