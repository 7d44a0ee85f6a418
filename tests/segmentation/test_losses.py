"""Each loss against a slow float64 computation, pixel by pixel."""

import numpy as np
import pytest
import torch

from unip.segmentation.losses import MAX_WEIGHT, PixelLoss, class_weights, cross_entropy, dice_loss, keep_hard, total

WEIGHTS = (0.2, 1.0, 3.0, 9.0)


@pytest.fixture
def pixels():
    """Logits and labels of 4 classes, the last of which no pixel shows, and a row without labels."""
    torch.manual_seed(3)
    target = torch.randint(0, 3, (2, 5, 6))
    target[:, 0] = 255
    return 3 * torch.randn(2, 4, 5, 6), target


def by_pixel(logits, target):
    """Return the probabilities (N, C) and labels (N,) of the labelled pixels, in float64."""
    scores = np.moveaxis(logits.double().numpy(), 1, -1).reshape(-1, logits.shape[1])
    powers = np.exp(scores)
    labels = target.numpy().ravel()
    return (powers / powers.sum(1, keepdims=True))[labels != 255], labels[labels != 255]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_in_float64(pixels, weights):
    probabilities, labels = by_pixel(*pixels)
    each = [-np.log(p[y]) * (weights or np.ones(4))[y] for p, y in zip(probabilities, labels, strict=True)]
    assert PixelLoss(weights=weights)(*pixels).item() == pytest.approx(np.mean(each), rel=1e-5)


def test_dice_in_float64(pixels):
    probabilities, labels = by_pixel(*pixels)
    dice = []
    for label in range(3):  # class 3 is in no label
        truth = labels == label
        both = sum(p[label] for p, there in zip(probabilities, truth, strict=True) if there)
        dice.append(2 * both / (probabilities[:, label].sum() + truth.sum()))
    expected = 1 - np.mean(dice)
    assert dice_loss(*pixels).item() == pytest.approx(expected, rel=1e-5)
    loss = PixelLoss(weights=WEIGHTS, dice=True)
    parts = loss.parts(*pixels)
    assert list(parts) == ["ce", "dice"] and parts["dice"].item() == pytest.approx(expected, rel=1e-5)
    both = loss(*pixels).item()
    assert both == sum(parts.values()).item()
    assert both == pytest.approx(cross_entropy(*pixels, torch.tensor(WEIGHTS)).item() + expected, rel=1e-5)


def test_dice_is_0_where_all_is_right(pixels):
    _, target = pixels
    logits = 100.0 * (target.clamp(max=3)[:, None] == torch.arange(4).view(1, 4, 1, 1))
    assert dice_loss(logits, target).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("share", "scale"), [(0.1, 1), (0.5, 1), (0.1, 4), (0.9, 4), (0.3, 0.01)])
def test_hard_pixels_in_float64(pixels, share, scale):
    logits, target = pixels
    logits = logits + scale * 3 * (target[:, None] == torch.arange(4).view(1, 4, 1, 1))  # mostly right
    probabilities, labels = by_pixel(logits, target)
    sure = probabilities[np.arange(len(labels)), labels]
    limit = max(0.7, np.sort(sure)[int(np.ceil(share * len(sure))) - 1])
    kept = keep_hard(logits, target, share)
    assert ((kept == target) | (kept == 255)).all()
    assert (kept != 255).sum().item() == (sure <= limit).sum() >= share * len(sure)
    expected = -np.log(sure[sure <= limit]).mean()
    assert PixelLoss(hard_pixels=share)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_hard_pixels_and_dice(pixels):
    both = PixelLoss(hard_pixels=0.2, dice=True)(*pixels) - PixelLoss(hard_pixels=0.2)(*pixels)
    assert both.item() == pytest.approx(dice_loss(*pixels).item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_without_any_label(dtype):
    logits = (300 * torch.randn(2, 3, 4, 4)).to(dtype).requires_grad_()
    loss = PixelLoss(weights=(1, 2, 3), hard_pixels=0.3, dice=True)(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0 and loss.dtype == torch.float32
    assert (logits.grad == 0).all()


def test_weights_of_classes():
    pixels = [900, 90, 10]
    assert class_weights(pixels, "none") is None
    balanced, root = (np.array(class_weights(pixels, name)) for name in ("balanced", "root"))
    shares = np.array(pixels) / 1000
    assert balanced[:2] == pytest.approx(1 / (3 * shares[:2]), rel=1e-9)
    assert balanced[2] == MAX_WEIGHT < 1 / (3 * shares[2])
    assert root == pytest.approx(shares**-0.5 / (shares @ shares**-0.5), rel=1e-9)
    assert shares @ root == pytest.approx(1)
    assert class_weights([10, 0], "balanced")[0] == pytest.approx(1)
    assert class_weights([0, 0], "root") == (1, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_captured_in_a_cuda_graph_it_follows_new_masks(pixels):
    """Nothing waits for the device, and no shape or number of the first masks is kept."""
    loss = PixelLoss(weights=WEIGHTS, hard_pixels=0.2, dice=True).cuda()
    logits, target = (tensor.cuda() for tensor in pixels)
    logits.requires_grad_()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            loss(logits, target).backward()
    torch.cuda.synchronize()
    logits.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        parts = loss.parts(logits, target)
        found = total(parts)
        found.backward()
    for change in (target.clone(), (target + 1).clamp(max=3), torch.full_like(target, 255)):
        target.copy_(change)
        logits.grad.zero_()
        graph.replay()
        again = logits.detach().clone().requires_grad_()
        expected = loss(again, change)
        expected.backward()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(parts, loss.parts(again, change))
        torch.testing.assert_close(logits.grad, again.grad)
