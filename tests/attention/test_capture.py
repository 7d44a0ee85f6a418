from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import set_fused_attn
from tiny_vits import MODELS, eager_attention, images_for, tiny

from unip.attention.capture import QueryKeyTrunk, attention_map, queries_keys, visiting
from unip.errors import UnipError


@pytest.mark.parametrize("kind", MODELS)
def test_captured_maps_equal_the_models_own(kind):
    model = tiny(kind)
    images = images_for(model)
    wanted = eager_attention(model, images)
    found: dict[int, torch.Tensor] = {}
    with (
        torch.no_grad(),
        visiting(model, [1, 2, 3], lambda n, q, k, s: found.update({n: attention_map(q, k, s)})),
    ):
        model.forward_features(images)
    assert [block.attn.fused_attn for block in model.blocks] == [True] * 3
    for layer, attention in enumerate(wanted, start=1):
        assert attention.std() > 1e-3
        torch.testing.assert_close(found[layer], attention, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("layer", [1, 3])
def test_trunk_gives_the_same_queries_and_keys_and_stops_there(kind, layer):
    model = tiny(kind)
    images = images_for(model)
    found = {}
    with torch.no_grad(), visiting(model, [layer], lambda n, q, k, s: found.update(q=q, k=k, scale=s)):
        model.forward_features(images)
    trunk = QueryKeyTrunk(model, layer)
    ran = []
    for number, block in enumerate(model.blocks, start=1):
        block.register_forward_hook(lambda *_, n=number: ran.append(n))
    with torch.no_grad():
        q, k = trunk(images)
    assert ran == list(range(1, layer))
    torch.testing.assert_close(q, found["q"])
    torch.testing.assert_close(k, found["k"])
    assert trunk.scale == found["scale"]
    assert len(model.blocks) == 3  # the model itself is untouched
    before = [p.clone() for p in trunk.parameters()]
    assert {id(p) for p in trunk.parameters()} <= {id(p) for p in model.parameters()}
    assert len(before) < len(list(model.parameters())) or layer == 3


def test_hooks_are_gone_after_an_error():
    model = tiny("plain")
    with pytest.raises(ZeroDivisionError), visiting(model, [1], lambda *_: None):
        raise ZeroDivisionError
    assert not model.blocks[0].attn._forward_pre_hooks


def test_gradients_reach_queries_and_keys_of_the_last_layer():
    model = tiny("plain")
    q, k = QueryKeyTrunk(model, 3)(images_for(model))
    (q * k).sum().backward()
    assert model.blocks[2].attn.qkv.weight.grad.abs().sum() > 0
    assert model.blocks[2].mlp.fc1.weight.grad is None
    assert model.patch_embed.proj.weight.grad is not None


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_layer_out_of_range(layer):
    model = tiny("plain")
    with pytest.raises(UnipError, match=rf"layer {layer} is out of range: this model has layers 1 to 3"):
        QueryKeyTrunk(model, layer)
    with pytest.raises(UnipError, match="out of range"), visiting(model, [layer], lambda *_: None):
        pass


def test_other_modules_are_refused():
    with pytest.raises(UnipError, match="cannot read queries and keys from a Linear"):
        queries_keys(torch.nn.Linear(4, 4), torch.zeros(1, 2, 4))
    with pytest.raises(UnipError, match="not a plain ViT"):
        QueryKeyTrunk(timm.create_model("resnet10t"), 1)


def test_set_fused_attn_default_is_left_alone():
    set_fused_attn(True)
    assert tiny("plain").blocks[0].attn.fused_attn
