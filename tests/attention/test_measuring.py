"""All measures of every layer in one pass: equal to those of timm's own attention, one layer's maps at a time."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import timm
import torch

from tests.attention.tiny_vits import MODELS, eager_attention, images_for, tiny
from unip.attention import measuring
from unip.attention.feature_measures import cka, high_frequency_amplitude, token_gram
from unip.attention.measures import (
    attention_distance,
    attention_entropy,
    nmi_of_attention,
    prefix_share,
)
from unip.attention.measuring import MEASURES, measure_layers, measure_nmi
from unip.errors import UnipError

PREFIX = {"plain": (1, 0), "registers": (1, 4), "qk norm": (1, 0), "rope": (1, 4), "rope, separate q k v": (1, 0)}


def block_outputs(model: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    handles = [block.register_forward_hook(lambda m, i, o: kept.append(o)) for block in model.blocks]
    with torch.no_grad():
        model.forward_features(images)
    for handle in handles:
        handle.remove()
    return kept


@pytest.mark.parametrize("kind", MODELS)
def test_equals_the_measures_of_timms_eager_float64_attention(kind):
    model = tiny(kind)
    images = images_for(model, 3)
    found = measure_layers(model, [images[:2], images[2:]])
    classes, registers = PREFIX[kind]
    prefix = classes + registers
    precise = tiny(kind).double()
    maps, outputs = eager_attention(precise, images.double()), block_outputs(precise, images.double())
    assert sorted(found.layers) == [1, 2, 3]
    for layer, attention, tokens in zip((1, 2, 3), maps, outputs, strict=True):
        length = attention.shape[-1]
        wanted = {
            "nmi": nmi_of_attention(attention),
            "distance": attention_distance(attention, (4, 4), prefix),
            "distance_share": attention_distance(attention, (4, 4), prefix) / math.sqrt(32),
            "entropy": attention_entropy(attention),
            "entropy_share": attention_entropy(attention) / math.log(length),
            "class_share": prefix_share(attention, 0, classes, prefix),
            "register_share": prefix_share(attention, classes, prefix, prefix),
        }
        measured = found.layers[layer]
        assert set(measured.heads) | set(measured.features) == set(MEASURES)
        for name, values in wanted.items():
            assert measured.heads[name].shape == (3, 3)
            found_values = measured.heads[name].double()
            torch.testing.assert_close(found_values, values, atol=2e-4, rtol=1e-4, equal_nan=True, msg=name)
        grid = tokens[:, prefix:].transpose(1, 2).reshape(3, -1, 4, 4)
        torch.testing.assert_close(
            measured.features["high_frequency"], high_frequency_amplitude(grid), atol=1e-3, rtol=1e-3
        )
    similar = cka(torch.stack([token_gram(tokens[:, prefix:].mT.reshape(3, -1, 4, 4)) for tokens in outputs], dim=1))
    torch.testing.assert_close(found.cka, similar, atol=1e-3, rtol=0)


def test_nmi_alone_is_the_same():
    model = tiny("plain")
    images = images_for(model)
    alone, among = measure_nmi(model, [images], layers=[2]), measure_layers(model, [images])
    assert torch.equal(alone[2], among.layers[2].heads["nmi"])


def test_only_one_layers_maps_exist_at_a_time(monkeypatch):
    alive: list[weakref.ref] = []
    most = 0
    original = measuring.measure_maps

    def watched(log_attention, *arguments):
        nonlocal most
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
        alive.append(weakref.ref(log_attention))
        return original(log_attention, *arguments)

    monkeypatch.setattr(measuring, "measure_maps", watched)
    measure_layers(tiny("plain"), [images_for(tiny("plain"))] * 2)
    assert len(alive) == 6
    assert most == 0


def test_large_maps_are_measured_in_parts(monkeypatch):
    model = tiny("plain")
    images = images_for(model, 3)
    whole = measure_layers(model, [images])
    sizes = []
    original = measuring.measure_maps
    monkeypatch.setattr(measuring, "measure_maps", lambda a, *rest: (sizes.append(len(a)), original(a, *rest))[1])
    monkeypatch.setattr(measuring, "MAP_BYTES", 5 * 4 * 17**2)
    parts = measure_layers(model, [images])
    assert sizes == [5, 4] * 3  # of three images with three heads
    for layer in (1, 2, 3):
        for name, values in whole.layers[layer].heads.items():
            torch.testing.assert_close(parts.layers[layer].heads[name], values, equal_nan=True)


def test_a_grid_of_three_patches_has_no_cka():
    small = {"img_size": (16, 48), "depth": 2, "embed_dim": 6, "num_heads": 1}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **small)
    found = measure_layers(model, [torch.randn(2, 3, 16, 48)])
    assert found.layers[1].heads["distance"].shape == (2, 1)
    assert found.cka.shape == (2, 2, 2)
    assert found.cka.isnan().all()


def test_attention_that_is_not_finite_is_refused():
    model = tiny("plain")
    model.blocks[1].attn.qkv.weight.data.mul_(1e30)
    with pytest.raises(UnipError, match="layer 2 gives attention that is not finite"):
        measure_layers(model, [images_for(model)])
