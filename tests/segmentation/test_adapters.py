"""Frozen layers and low-rank adapters: what is trained, what comes out, and that nothing else knows."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.segmentation.adapters import SCALE, add_adapters, freeze_layers, merge_adapters
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.model import SegmentationLoss
from unip.segmentation.storage import load_segmenter
from unip.segmentation.verbs import finetune
from unip.training.optim import parameter_groups
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone

ROPE = BackboneSpec(
    timm_name="vit_small_patch16_dinov3", arguments={"img_size": 32, "embed_dim": 16, "depth": 4, "num_heads": 2}
)
EVA = BackboneSpec(
    timm_name="eva02_tiny_patch14_224", arguments={"img_size": 28, "embed_dim": 24, "depth": 3, "num_heads": 2}
)


@pytest.fixture
def settings(small_run):
    here = {"batch_size": 2, "compile": False, "log_every": 1}
    return {**small_run, **here, "crop": 32, "base": (128, 32), "decoder": "light", "lr": 1e-2, "steps": 4}


def some_images():
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)


def shake(segmenter):
    """Move the adapters away from their start."""
    with torch.no_grad():
        for name, parameter in segmenter.named_parameters():
            if name.endswith(".up"):
                parameter.normal_()


@pytest.mark.parametrize("backbone", [None, ROPE, EVA], ids=["vit", "rope", "eva"])
def test_adapters_start_at_nothing_and_merge_without_a_trace(make_segmenter, backbone):
    segmenter = make_segmenter(decoder="light", **({"backbone": backbone} if backbone else {}))
    names, images = set(segmenter.state_dict()), some_images()
    before, kinds = segmenter(images), [type(module) for module in segmenter.modules()]
    weight = segmenter.backbone.blocks[0].attn.proj.weight.detach().double().clone()
    adapted = add_adapters(segmenter, 3)
    assert len(adapted) == sum(isinstance(m, nn.Linear) for m in segmenter.backbone.blocks.modules())
    assert torch.equal(segmenter(images), before)
    shake(segmenter)
    adapter = segmenter.backbone.blocks[0].attn.proj.parametrizations.weight[0]
    change = adapter.up.detach().double() @ adapter.down.detach().double()
    changed = segmenter(images)
    assert not torch.equal(changed, before)
    merge_adapters(segmenter)
    assert torch.equal(segmenter(images), changed)
    assert set(segmenter.state_dict()) == names and [type(module) for module in segmenter.modules()] == kinds
    merged = segmenter.backbone.blocks[0].attn.proj.weight
    torch.testing.assert_close(merged.double(), weight + SCALE / 3 * change, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", [None, ROPE, EVA], ids=["vit", "rope", "eva"])
def test_all_adapters_and_nothing_else_of_the_backbone_get_a_gradient(make_segmenter, backbone):
    segmenter = make_segmenter(decoder="light", **({"backbone": backbone} if backbone else {}))
    adapted = add_adapters(segmenter, 2, frozen_layers=1)
    shake(segmenter)
    loss = SegmentationLoss(segmenter).train()
    loss(some_images(), torch.zeros(2, 32, 32, dtype=torch.uint8))["loss"].backward()
    given = {name for name, p in segmenter.backbone.named_parameters() if p.grad is not None}
    assert given == {name for name, p in segmenter.backbone.named_parameters() if p.requires_grad}
    assert len(given) == 2 * len(adapted) and all(name.endswith((".up", ".down")) for name in given)
    assert not any(name.startswith("blocks.0.") for name in given)
    assert [block.training for block in segmenter.backbone.blocks][:2] == [False, True]


def test_adapters_compile_in_one_graph(make_segmenter):
    segmenter = make_segmenter(decoder="light")
    add_adapters(segmenter, 2)
    shake(segmenter)
    loss = SegmentationLoss(segmenter).eval()
    images, masks = some_images(), torch.zeros(2, 32, 32, dtype=torch.uint8)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=False)
    assert compiled(images, masks)["loss"].item() == pytest.approx(loss(images, masks)["loss"].item(), rel=1e-5)


def test_frozen_layers(make_segmenter):
    segmenter = make_segmenter()
    freeze_layers(segmenter, 2)
    trained = {name for name, p in segmenter.backbone.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in trained} == {"2", "3"} and all(n.startswith("blocks.") for n in trained)
    assert [block.training for block in SegmentationLoss(segmenter).train().segmenter.backbone.blocks] == [
        False, False, True, True,
    ]  # fmt: skip
    groups = parameter_groups(segmenter, lr=1.0, weight_decay=0.0, backbone="backbone.", depth=4, layer_decay=0.5)
    assert {group["lr"] for group in groups} == {1.0, 0.5, 0.25}  # as where nothing is frozen
    freeze_layers(segmenter, 4)
    assert not any(p.requires_grad for p in segmenter.backbone.parameters())
    with pytest.raises(UnipError, match="5 layers cannot be frozen: the backbone has 4"):
        freeze_layers(segmenter, 5)


def test_finetuning_the_last_layers(settings, capsys):
    finetune(**settings, freeze_layers=3)
    said = capsys.readouterr().out
    assert "patch embedding and first layers stay as they are, 3 of 4" in said and "layer decay 0.85" in said
    before = load_backbone(settings["model"]).model.state_dict()
    after = load_segmenter(settings["out"]).backbone.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed and all(name.startswith("blocks.3.") for name in changed)
    stored = load_file(settings["out"] / "checkpoints/step-00000004/optimizer.safetensors")
    assert len({name.split(".")[0] for name in stored}) == len(trainable_of(settings["out"], after, "blocks.3."))


def trainable_of(run, backbone, prefix):
    """Return the names of the trained tensors: the head's and pyramid's parameters, and one block's."""
    segmenter = load_segmenter(run)
    outside = [name for name, _ in segmenter.named_parameters() if not name.startswith("backbone.")]
    return outside + [name for name in backbone if name.startswith(prefix)]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_finetuning_with_adapters(settings, capsys, ema):
    result = finetune(**settings, lora=2, ema=ema, val="test", eval_every=3)
    said = capsys.readouterr().out
    assert "LoRA of rank 2 on 16 weights of the frozen backbone, merged in the end" in said
    assert "layer decay 1," in said
    before = load_backbone(settings["model"])
    after = load_backbone(str(settings["out"]))  # a model like any other
    old, new = before.model.state_dict(), after.model.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {name for name in old if name.endswith("weight") and ("attn." in name or "mlp." in name)}
    for name in changed:
        singular = torch.linalg.svdvals((new[name] - old[name]).double())
        assert singular[2] < 1e-5 * singular[0]
    again = evaluate(model=settings["out"], data=settings["data"], split="test", device="cpu")
    assert again.scores.miou == result.scores.miou
    assert result.scores.miou == pytest.approx(result.training.best.score, abs=0.02)  # merged: other rounding
    info = json.loads((settings["out"] / "model/config.json").read_text())["info"]
    assert (info["lora"], info["layer_decay"]) == (2, 1.0)


@pytest.mark.parametrize("changes", [{"lora": 2}, {"lora": 2, "freeze_layers": 1}, {"freeze_layers": 4}])
def test_continued_and_checkpointed_it_is_the_same(settings, tmp_path, changes):
    values = {**settings, **changes, "drop_path": 0.4, "ema": 0.8, "checkpoint_every": 2}
    finetune(**values)
    whole = load_segmenter(settings["out"]).state_dict()
    cut = tmp_path / "cut"
    finetune(**{**values, "out": cut})
    shutil.rmtree(cut / "checkpoints" / "step-00000004")
    finetune(**{**values, "out": cut}, checkpoint_activations=True)
    for name, tensor in load_segmenter(cut).state_dict().items():
        assert torch.equal(tensor, whole[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mode": "linear", "decoder": "auto", "lora": 4},
            "mode linear freezes the whole backbone: lora cannot be used with it",
        ),
        (
            {"mode": "linear", "decoder": "auto", "freeze_layers": 1},
            "whole backbone: freeze_layers cannot be used with it",
        ),
        ({"model": "unip_micro", "lora": 4}, "lora leaves weights as they are, and those of unip_micro are random"),
        ({"model": "unip_micro", "freeze_layers": 4}, "freeze_layers leaves weights as they are"),
        ({"freeze_layers": 5}, "5 layers cannot be frozen"),
        ({"freeze_layers": 4, "lora": 4}, "4 layers are frozen, the decoder sees layer 4: none is left to adapt"),
        ({"lora": 17}, "lora 17 is above the full rank of the backbone's weights, 16"),
    ],
)
def test_what_cannot_be(settings, changes, message):
    with pytest.raises(UnipError, match=message):
        finetune(FinetuneConfig.make(**{**settings, **changes}))
    assert not settings["out"].exists()
