import numpy as np
import pytest
import torch

from unip.segmentation import heads
from unip.segmentation.heads import ConvHead, FCNHead, LightHead, LinearHead, UPerNetHead, enlarge, resize, upsample


def levels(width=6):
    return [torch.randn(2, width, side, side + 8) for side in (16, 8, 4, 2)]


def test_heads_answer_at_their_finest_level():
    for head in (UPerNetHead(6, 5, 3), LightHead(6, 5, 3)):
        assert head.eval()(levels()).shape == (2, 3, 16, 24)
    assert FCNHead(6, 256, 3).eval()(levels()[2]).shape == (2, 3, 4, 12)


def test_every_level_matters():
    for head in (UPerNetHead(6, 5, 3).eval(), LightHead(6, 5, 3).eval()):
        given = levels()
        before = head(given)
        for index in range(4):
            changed = [level + 1 if i == index else level for i, level in enumerate(given)]
            assert not torch.allclose(head(changed), before)


def test_upernet_pools_the_coarsest_level_at_the_papers_scales():
    head = UPerNetHead(6, 5, 3)
    assert [pool[0].output_size for pool in head.pools] == [1, 2, 3, 6]
    assert head.bottleneck[0].in_channels == 6 + 4 * 5
    assert head.dropout.p == 0.1


def test_linear_head_is_one_matrix():
    features = [torch.randn(2, 4, 3, 5) for _ in range(3)]
    head = LinearHead(12, 7)
    weight, bias = (p.detach().double().numpy() for p in (head.classifier.weight, head.classifier.bias))
    stacked = np.concatenate([f.double().numpy() for f in features], axis=1)
    expected = np.einsum("kc,bchw->bkhw", weight[:, :, 0, 0], stacked) + bias[None, :, None, None]
    np.testing.assert_allclose(head(features).detach().numpy(), expected, atol=1e-5)
    assert sum(p.numel() for p in head.parameters()) == 7 * 12 + 7


def test_the_convolutional_head_sees_all_layers_and_neighbours_at_the_stride_of_the_patches():
    head = ConvHead(3 * 4, 8, 2).eval()
    features = [torch.randn(2, 4, 9, 11) for _ in range(3)]
    before = head(features)
    assert before.shape == (2, 2, 9, 11)
    for index in range(3):
        changed = [feature.clone() for feature in features]
        changed[index][:, :, 4, 5] += 5.0
        reached = (head(changed) - before).abs().amax((0, 1)) > 1e-6
        assert reached[4, 5] and not reached[:2].any() and not reached[7:].any()  # two pixels away at most
        assert not reached[:, :3].any() and not reached[:, 8:].any() and reached.sum() > 1


def test_probe_norm_standardises_and_has_no_weights():
    head = LinearHead(4, 2, norm=True).train()
    scaled = head.norm(torch.randn(8, 4, 5, 5) * 100 + 30)
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(4), atol=1e-2)
    assert [name for name, _ in head.named_parameters()] == ["classifier.weight", "classifier.bias"]


def test_resize_keeps_pixel_centres():
    ramp = torch.arange(4.0).view(1, 1, 1, 4)
    assert torch.allclose(resize(ramp, (1, 8))[0, 0, 0, 1:-1], torch.arange(0.25, 3, 0.5))
    assert resize(ramp, (1, 4)) is ramp


@pytest.mark.parametrize(
    ("old", "new"), [((4, 6), (64, 96)), ((8, 5), (8, 40)), ((7, 3), (25, 10)), ((1, 2), (16, 32))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_enlarging_by_products_is_bilinear_interpolation(old, new, dtype):
    exact = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    logits = torch.randn(2, 5, *old, dtype=dtype).requires_grad_()
    expected = torch.nn.functional.interpolate(logits, new, mode="bilinear", align_corners=False)
    found = enlarge(logits, new)
    torch.testing.assert_close(found, expected, rtol=exact, atol=exact)
    weights = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), logits)[0] for out in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=10 * exact, atol=10 * exact)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("old", "new", "dtype", "learnt", "products"),
    [
        ((16, 16), (128, 128), torch.bfloat16, False, True),
        ((6, 6), (16, 20), torch.bfloat16, False, True),
        ((16, 16), (128, 128), torch.float32, True, True),
        ((16, 16), (128, 128), torch.float32, False, False),
        ((64, 80), (32, 40), torch.bfloat16, True, False),
    ],
)
def test_upsampling_on_a_gpu_is_bilinear_interpolation(monkeypatch, old, new, dtype, learnt, products):
    used = []
    monkeypatch.setattr(heads, "enlarge", lambda *given: used.append(1) or enlarge(*given))
    features = torch.randn(2, 8, *old, device="cuda", dtype=dtype, requires_grad=learnt)
    expected = torch.nn.functional.interpolate(features.float(), new, mode="bilinear", align_corners=False)
    found = upsample(features, new)
    assert found.dtype == dtype and bool(used) == products
    off = 0.03 if dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(found.float(), expected, rtol=off, atol=off)
