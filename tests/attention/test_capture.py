from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import set_fused_attn

from tests.attention.tiny_vits import MODELS, eager_attention, images_for, tiny
from unip.attention.capture import AttentionTrunk, TokenTrunk, attention_map, queries_keys, visiting, visiting_features
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
    trunk = AttentionTrunk(model, [layer])
    ran = []
    for number, block in enumerate(model.blocks, start=1):
        block.register_forward_hook(lambda *_, n=number: ran.append(n))
    with torch.no_grad():
        q, k = trunk(images)[layer]
    assert ran == list(range(1, layer))
    torch.testing.assert_close(q, found["q"])
    torch.testing.assert_close(k, found["k"])
    assert trunk.scale == {layer: found["scale"]}
    assert len(model.blocks) == 3  # the model itself is untouched
    before = [p.clone() for p in trunk.parameters()]
    assert {id(p) for p in trunk.parameters()} <= {id(p) for p in model.parameters()}
    assert len(before) < len(list(model.parameters())) or layer == 3


@pytest.mark.parametrize("kind", MODELS)
def test_a_trunk_of_several_layers_gives_what_each_computes(kind):
    model = tiny(kind)
    images = images_for(model)
    queries = {}
    with torch.no_grad(), visiting(model, [1, 3], lambda n, q, k, s: queries.update({n: (q, k)})):
        model.forward_features(images)
        found = AttentionTrunk(model, [3, 1, 3], values=True)(images)
    assert found.keys() == {1, 3}
    for layer, (q, k, _) in found.items():
        torch.testing.assert_close((q, k), queries[layer])


@pytest.mark.parametrize("kind", MODELS)
def test_values_are_those_that_the_attention_sums_up(kind):
    """The attention's output, put together from the map and the values, is what the module itself gives."""
    model = tiny(kind)
    images, seen = images_for(model), {}
    attn = model.blocks[2].attn
    handle = attn.register_forward_hook(lambda m, i, o: seen.update(out=o))
    with torch.no_grad():
        model.forward_features(images)
        handle.remove()
        q, k, v = AttentionTrunk(model, [3], values=True)(images)[3]
        mixed = (attention_map(q, k, float(attn.scale)) @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(attn.proj(attn.norm(mixed)), seen["out"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_tokens_are_those_behind_each_block(kind):
    model = tiny(kind)
    images, tokens = images_for(model), {}
    with torch.no_grad(), visiting_features(model, lambda n, t: tokens.update({n: t})):
        final = model.forward_features(images)
    with torch.no_grad():
        found = TokenTrunk(model, [1, 2])(images)
        whole = TokenTrunk(model, [3], norm=True)(images)
    assert found.keys() == {1, 2}
    for layer, values in found.items():
        torch.testing.assert_close(values, tokens[layer])
    torch.testing.assert_close(whole[3], final)
    torch.testing.assert_close(TokenTrunk(model, [3])(images)[3], tokens[3])


def test_activation_checkpointing_changes_no_gradient():
    model, gradients = tiny("plain"), []
    for again in (False, True):
        model.set_grad_checkpointing(again)
        TokenTrunk(model, [3], norm=True)(images_for(model))[3].square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    torch.testing.assert_close(*gradients)


def test_hooks_are_gone_after_an_error():
    model = tiny("plain")
    with pytest.raises(ZeroDivisionError), visiting(model, [1], lambda *_: None):
        raise ZeroDivisionError
    assert not model.blocks[0].attn._forward_pre_hooks


def test_gradients_reach_queries_and_keys_of_the_last_layer():
    model = tiny("plain")
    q, k = AttentionTrunk(model, [3])(images_for(model))[3]
    (q * k).sum().backward()
    assert model.blocks[2].attn.qkv.weight.grad.abs().sum() > 0
    assert model.blocks[2].mlp.fc1.weight.grad is None
    assert model.patch_embed.proj.weight.grad is not None


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_layer_out_of_range(layer):
    model = tiny("plain")
    with pytest.raises(UnipError, match=rf"layer {layer} is out of range: this model has layers 1 to 3"):
        AttentionTrunk(model, [layer])
    with pytest.raises(UnipError, match="out of range"), visiting(model, [layer], lambda *_: None):
        pass


def test_other_modules_are_refused():
    with pytest.raises(UnipError, match="cannot read queries and keys from a Linear"):
        queries_keys(torch.nn.Linear(4, 4), torch.zeros(1, 2, 4))
    with pytest.raises(UnipError, match="not a plain ViT"):
        AttentionTrunk(timm.create_model("resnet10t"), [1])


def test_set_fused_attn_default_is_left_alone():
    set_fused_attn(True)
    assert tiny("plain").blocks[0].attn.fused_attn
