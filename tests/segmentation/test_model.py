import numpy as np
import pytest
import torch

from unip.errors import UnipError
from unip.segmentation.adapters import add_adapters, freeze_layers
from unip.segmentation.losses import PixelLoss, cross_entropy
from unip.segmentation.model import SegmentationLoss, default_channels, default_layers
from unip.vit.architecture import BackboneSpec

REGISTERS = BackboneSpec(
    timm_name="vit_small_patch14_reg4_dinov2",
    arguments={"img_size": 28, "embed_dim": 16, "depth": 4, "num_heads": 2},
)
ROPE = BackboneSpec(
    timm_name="vit_small_patch16_dinov3", arguments={"img_size": 32, "embed_dim": 16, "depth": 4, "num_heads": 2}
)


def some_images(height=30, width=45, count=2):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("backbone", [None, REGISTERS, ROPE], ids=["vit", "registers", "rope"])
@pytest.mark.parametrize("size", [(30, 45), (3, 5), (64, 32)])
def test_any_size_any_backbone(make_segmenter, backbone, size):
    segmenter = make_segmenter(decoder="light", **({"backbone": backbone} if backbone else {}))
    logits = segmenter(some_images(*size))
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("decoder", ["upernet", "light", "conv", "linear"])
@pytest.mark.parametrize("pyramid", ["llfpn", "fpn"])
def test_all_that_is_trained_gets_a_gradient(make_segmenter, decoder, pyramid):
    segmenter = make_segmenter(decoder=decoder, pyramid=pyramid)
    loss = SegmentationLoss(segmenter).train()
    loss(some_images(), torch.randint(0, 3, (2, 30, 45), dtype=torch.uint8))["loss"].backward()
    without = [n for n, p in segmenter.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not segmenter.backbone.norm.weight.requires_grad


def test_features_are_block_outputs_without_norm_and_prefix(make_segmenter):
    segmenter = make_segmenter(decoder="linear", layers=(2, 4))
    seen = {}
    for layer in (2, 4):
        segmenter.backbone.blocks[layer - 1].register_forward_hook(
            lambda module, given, out, layer=layer: seen.__setitem__(layer, out)
        )
    pixels = segmenter.normalise(some_images(16, 24))
    for layer, found in zip((2, 4), segmenter.features(pixels), strict=True):
        assert torch.equal(found.flatten(2).transpose(1, 2), seen[layer][:, 1:])
        assert found.shape == (2, 16, 2, 3)


@pytest.mark.parametrize("backbone", [None, REGISTERS, ROPE], ids=["vit", "registers", "rope"])
def test_training_sees_the_same_features(make_segmenter, backbone):
    segmenter = make_segmenter(decoder="linear", layers=(4, 2), **({"backbone": backbone} if backbone else {})).double()
    images = some_images(30, 45)
    expected = segmenter.features(segmenter.normalise(images))
    for ours, theirs in zip(SegmentationLoss(segmenter).features(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_blocks_after_the_last_wanted_layer_do_not_run(make_segmenter):
    segmenter = make_segmenter(decoder="linear", layers=(2,))
    segmenter.backbone.blocks[2].register_forward_hook(lambda *_: pytest.fail("block 3 ran"))
    segmenter(some_images())
    assert not any(p.requires_grad for p in segmenter.backbone.blocks[2].parameters())
    assert all(p.requires_grad for p in segmenter.backbone.blocks[1].parameters())


def test_normalisation_in_float64(make_segmenter):
    segmenter = make_segmenter()
    images = some_images(17, 8)
    found = segmenter.normalise(images)
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in ((0.4, 0.3, 0.2), (0.2, 0.3, 0.4)))
    expected = (images.double().numpy() / 255 - mean) / std
    assert found.shape == (2, 3, 24, 16)  # patches of 8, at least two
    np.testing.assert_allclose(found[..., :17, :8].numpy(), expected, atol=1e-5)
    assert (found[..., 17:, :] == 0).all() and (found[..., 8:] == 0).all()


def test_loss_adds_the_auxiliary_head_with_its_weight(make_segmenter):
    loss = SegmentationLoss(make_segmenter(auxiliary_weight=0.4)).eval()
    images, masks = some_images(32, 32), torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
    values = loss(images, masks)
    assert values["loss"].item() == pytest.approx(values["loss_main"].item() + 0.4 * values["loss_aux"].item())
    main, auxiliary = loss.segmenter.all_logits(loss.segmenter.levels(images), images)
    assert values["loss_aux"].item() == pytest.approx(cross_entropy(auxiliary, masks.long()).item())
    assert torch.equal(main, loss.segmenter(images))
    assert values["pixel_accuracy"].item() == pytest.approx((main.argmax(1) == masks).float().mean().item())
    assert "loss_aux" not in SegmentationLoss(make_segmenter(auxiliary_weight=0.0))(images, masks)


def test_frozen_backbone_stays_in_evaluation_mode(make_segmenter):
    loss = SegmentationLoss(make_segmenter(decoder="linear"), frozen_backbone=True).train()
    assert not any(module.training for module in loss.segmenter.backbone.modules())
    assert loss.segmenter.head.training
    trained = {n for n, p in loss.named_parameters() if p.requires_grad}
    assert trained == {"segmenter.head.classifier.weight", "segmenter.head.classifier.bias"}


def test_exports_as_one_graph(make_segmenter):
    segmenter = make_segmenter()
    images = some_images(30, 45, 1)
    with torch.no_grad():
        program = torch.export.export(segmenter, (images,))
        assert torch.allclose(program.module()(images), segmenter(images), atol=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_compiles_without_graph_breaks(make_segmenter, full):
    """The whole model as one; and every kind of loss with the decoder alone."""
    pixel_loss = PixelLoss(weights=(0.5, 1, 2), hard_pixels=0.2, dice=True) if full else None
    loss = SegmentationLoss(make_segmenter(), pixel_loss).eval()
    images, masks = some_images(32, 32), torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
    part, given = (loss.decoder_loss, loss.features(images)) if full else (loss, images)
    compiled = torch.compile(part, backend="aot_eager", fullgraph=True, dynamic=False)
    found, expected = compiled(given, masks), loss(images, masks)
    assert found.keys() == expected.keys() and ({"ce", "dice"} <= found.keys()) == full
    for name, value in found.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-5), name


@pytest.mark.parametrize(("frozen_layers", "kinds"), [(None, 1), (2, 3)])
def test_regions_compile_once_and_compute_the_same(make_segmenter, frozen_layers, kinds):
    """Four blocks are one graph; or a frozen one, the first that is trained, and one whose input needs a gradient."""
    loss = SegmentationLoss(make_segmenter(auxiliary_weight=0.4), PixelLoss(dice=True)).eval()
    if frozen_layers is not None:
        freeze_layers(loss.segmenter, frozen_layers)
    images, masks = some_images(32, 32), torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
    expected = loss(images, masks)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    assert len(loss.regions) == 2 + loss.segmenter.used_layers[-1]
    for region in loss.regions:
        region.compile(backend=count, fullgraph=True, dynamic=False)
    found = loss(images, masks)
    assert len(graphs) == kinds + 2  # with the embedding and the decoder
    for name, value in found.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-6), name


def test_the_decoder_is_compiled_in_the_layout_of_its_weights(make_segmenter, monkeypatch):
    given = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: given.append(options) or call)
    loss = SegmentationLoss(make_segmenter())
    for region in loss.regions:
        region.compile(dynamic=False)
    embedding, *blocks, decoder = given
    assert [embedding, *blocks] == [{"dynamic": False}] * (1 + len(blocks))
    assert decoder == {"dynamic": False, "options": {"force_layout_optimization": True}}
    assert set(decoder["options"]) <= set(torch._inductor.list_options())


def test_blocks_with_adapters_are_compiled_with_the_whole_model(make_segmenter):
    segmenter = make_segmenter()
    loss = SegmentationLoss(segmenter)
    add_adapters(segmenter, 1)
    assert loss.regions == (loss,)


def test_defaults():
    assert default_layers("upernet", "llfpn", 12) == (12,)
    assert default_layers("light", "fpn", 12) == (4, 6, 8, 12)
    assert default_layers("conv", "llfpn", 12) == (4, 6, 8, 12)
    assert default_layers("linear", "llfpn", 24) == (8, 12, 16, 24)
    assert default_layers("linear", "llfpn", 1) == (1,)
    assert (default_channels("light", 384), default_channels("upernet", 384)) == (128, 384)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (5,)}, "no layer 5"),
        ({"layers": (0,)}, "no layer 0"),
        ({"layers": ()}, "none given"),
        ({"layers": (1, 2), "decoder": "light"}, "pyramid llfpn takes 1 layer,"),
        ({"layers": (4,), "pyramid": "fpn"}, "pyramid fpn takes 4 layers"),
    ],
)
def test_wrong_layers(make_segmenter, changes, message):
    with pytest.raises(UnipError, match=message):
        make_segmenter(**changes)
