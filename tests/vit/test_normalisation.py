"""A patch embedding rewritten for another normalisation sees the same image."""

from __future__ import annotations

import torch

from unip.vit.architecture import BackboneSpec
from unip.vit.normalisation import IMAGENET_STD, Preprocessing, renormalise
from unip.vit.spec import build_backbone

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INFRARED = (0.38, 0.38, 0.38), (0.19, 0.19, 0.19)


def vit(**more):
    torch.manual_seed(0)
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, **more}
    return build_backbone(BackboneSpec(arguments=arguments)).double().eval()


def normalised(images, pair):
    mean, deviation = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in pair)
    return (images - mean) / deviation


def test_tokens_stay_as_they_are():
    model, images = vit(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    wanted = model.forward_features(normalised(images, IMAGENET))
    kernel = model.patch_embed.proj.weight.clone()
    assert renormalise(model, IMAGENET, INFRARED)
    assert not torch.equal(model.patch_embed.proj.weight, kernel)
    torch.testing.assert_close(model.forward_features(normalised(images, INFRARED)), wanted, rtol=1e-10, atol=1e-10)


def test_there_and_back_is_the_same_model():
    model = vit()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    renormalise(model, IMAGENET, INFRARED)
    renormalise(model, INFRARED, IMAGENET)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-12, atol=1e-12)


def test_without_a_bias_nothing_changes():
    model = vit(pre_norm=True)
    assert model.patch_embed.proj.bias is None
    kernel = model.patch_embed.proj.weight.clone()
    assert not renormalise(model, IMAGENET, INFRARED)
    assert torch.equal(model.patch_embed.proj.weight, kernel)


def test_preprocessing_keeps_what_is_not_told() -> None:
    told = Preprocessing().updated({"mean": [0.1, 0.2, 0.3], "input_size": (3, 48, 32), "std": None})
    assert told == Preprocessing(mean=(0.1, 0.2, 0.3), std=IMAGENET_STD, input_size=32)
    assert told.updated({"input_size": 64, "std": (1, 1, 1), "other": 5}) == Preprocessing(
        told.mean, (1.0, 1.0, 1.0), 64
    )
