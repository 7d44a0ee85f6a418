from __future__ import annotations

import timm
import torch

from unip.training.optim import count_parameters, layer_of, parameter_groups


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, embed_dim=24, num_classes=0)
        self.head = torch.nn.Linear(24, 5)


def test_layers_of_parameters():
    assert layer_of("patch_embed.proj.weight", 12) == 0
    assert layer_of("cls_token", 12) == 0
    assert layer_of("blocks.0.attn.qkv.weight", 12) == 1
    assert layer_of("blocks.11.mlp.fc1.bias", 12) == 12
    assert layer_of("norm.weight", 12) == 13


def test_every_trainable_parameter_is_in_one_group_with_its_rate_and_decay():
    model = Model()
    model.backbone.pos_embed.requires_grad_(False)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, backbone="backbone.", depth=3, layer_decay=0.5)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(rate) == sum(len(g["params"]) for g in groups)
    named = dict(model.named_parameters())
    assert set(rate) == {id(p) for p in named.values() if p.requires_grad}
    wanted = {
        "backbone.patch_embed.proj.weight": (0.5**4, 0.1),
        "backbone.cls_token": (0.5**4, 0.0),
        "backbone.blocks.0.attn.qkv.weight": (0.5**3, 0.1),
        "backbone.blocks.2.mlp.fc1.bias": (0.5, 0.0),
        "backbone.norm.weight": (1.0, 0.0),
        "head.weight": (1.0, 0.1),
        "head.bias": (1.0, 0.0),
    }
    assert {name: rate[id(named[name])] for name in wanted} == wanted


def test_without_layer_decay_there_are_two_groups():
    assert len(parameter_groups(Model(), lr=1.0, weight_decay=0.1)) == 2


def test_count():
    assert count_parameters(torch.nn.Linear(3, 4).parameters()) == 16
