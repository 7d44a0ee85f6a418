import contextlib
import json
import shutil

import numpy as np
import pytest
import torch

from unip.data.label_facts import label_facts
from unip.data.segmentation import open_segmentation
from unip.data.transforms import SegmentationTrainDataset, SegmentationTrainTransform
from unip.segment.cached import CachedFeatures, CachedLoss, cache_bytes, count_windows
from unip.segment.finetune import FinetuneConfig, finetune
from unip.segment.model import SegmentationLoss
from unip.segment.storage import load_segmenter

PLAIN = {"crop": 32, "base": (256, 64), "photometric": False, "ratio": (1.0, 1.0), "fill": (9, 9, 9)}


@pytest.fixture
def data(segmentation_folder):
    return open_segmentation(segmentation_folder, "train")


def cached(segmenter, data, seed=0, **changes):
    transform = SegmentationTrainTransform(**{**PLAIN, **changes})
    sizes = label_facts(data, workers=1).sizes
    found = CachedFeatures(segmenter, data, transform, sizes, seed=seed, autocast=contextlib.nullcontext())
    return found, transform, sizes


def test_features_are_those_of_windows(make_segmenter, data):
    """32 x 40 frames doubled: windows at 0 and 32 down, at 0, 32 and, last, 48 across."""
    probe = make_segmenter(decoder="linear")
    found, transform, sizes = cached(probe, data)
    assert found.features.shape == (6 * 2 * 3, 2, 4 * 16, 4, 4) and found.features.dtype == torch.float16
    assert count_windows(transform, sizes) == 6 * 2 * 3 * 2
    size = found.features.nbytes + found.masks.nbytes
    assert cache_bytes(transform, sizes, channels=4 * 16, patch=8) == size
    whole = SegmentationTrainTransform(**{**PLAIN, "crop": 80, "flip": 0.0})
    image, mask = SegmentationTrainDataset(data, whole)[0]  # resized, not cut
    frame = SegmentationTrainDataset(data, whole).order(0)
    for number, (top, left) in enumerate((y, x) for y in (0, 32) for x in (0, 32, 48)):
        window = image[None, :, top : top + 32, left : left + 32]
        for flip, pixels in enumerate((window, window.flip(-1))):
            with torch.no_grad():
                expected = torch.cat(probe.features(probe.normalise(pixels)), 1)[0]
            torch.testing.assert_close(found.features[6 * frame + number, flip].float(), expected, rtol=2e-3, atol=2e-3)
        assert torch.equal(found.masks[6 * frame + number], mask[top : top + 32, left : left + 32])


def test_an_item_is_a_function_of_seed_and_position(make_segmenter, data):
    probe = make_segmenter(decoder="linear")
    found, again, other = (cached(probe, data, seed)[0] for seed in (3, 3, 4))
    shown = [found[position] for position in range(40)]
    for position in reversed(range(40)):
        assert all(torch.equal(a, b) for a, b in zip(shown[position], again[position], strict=True))
    assert any(not torch.equal(shown[position][0], other[position][0]) for position in range(40))
    flipped = 0
    for position, (features, mask) in enumerate(shown):
        frame = found.order(position)
        places = [
            (window, flip)
            for window in range(6 * frame, 6 * frame + 6)
            for flip in (0, 1)
            if torch.equal(found.features[window, flip], features)
        ]
        (window, flip), *more = places
        flipped += flip
        assert not more
        assert torch.equal(mask, found.masks[window].flip(-1) if flip else found.masks[window])
    assert 8 <= flipped <= 32
    never = cached(probe, data, flip=0.0)[0]
    assert never.features.shape[1] == 1 and never[5][0].shape == (64, 4, 4)


def test_windows_that_one_class_fills_are_drawn_again(make_segmenter, data):
    probe = make_segmenter(decoder="linear")
    strict, _, _ = cached(probe, data, cat_max_ratio=0.75)
    loose, _, _ = cached(probe, data, cat_max_ratio=1.0)
    shares = [[_top_share(dataset[position][1]) for position in range(200)] for dataset in (strict, loose)]
    assert loose.mixed.all() and 0 < strict.mixed.sum() < len(strict.mixed)
    assert np.mean(np.array(shares[0]) <= 0.75) > 0.8 > np.mean(np.array(shares[1]) <= 0.75)


def _top_share(mask):
    counts = np.bincount(mask[mask != 255].numpy().ravel(), minlength=1)
    return counts.max() / max(1, counts.sum())


def test_frames_smaller_than_the_crop_are_padded(make_segmenter, data):
    found, _, _ = cached(make_segmenter(decoder="linear"), data, crop=96)
    assert found.features.shape == (6, 2, 64, 12, 12)
    assert (found.masks[:, 64:] == 255).all() and (found.masks[:, :, 80:] == 255).all()
    assert (found.masks[:, 2:64, :80] != 255).all()


@pytest.mark.parametrize("norm", [False, True])
def test_the_loss_is_that_of_images(make_segmenter, data, norm):
    probe = make_segmenter(decoder="linear", probe_norm=norm)
    images, masks = (torch.stack(part) for part in zip(*(_window(data, i) for i in range(3)), strict=True))
    with torch.no_grad():
        features = torch.cat(probe.features(probe.normalise(images)), 1)
    of_images = SegmentationLoss(probe, frozen_backbone=True).train()
    expected = of_images(images, masks)
    expected["loss"].backward()
    gradient = probe.head.classifier.weight.grad.clone()
    probe.zero_grad()
    values = CachedLoss(probe, frozen_backbone=True).train()(features.half(), masks)
    values["loss"].backward()
    assert values.keys() == expected.keys()
    assert not probe.backbone.training
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(probe.head.classifier.weight.grad, gradient, rtol=2e-2, atol=2e-3)


def _window(data, position):
    return SegmentationTrainDataset(data, SegmentationTrainTransform(**PLAIN))[position]


@pytest.fixture
def settings(tmp_path, backbone_folder, segmentation_folder):
    return {
        "model": str(backbone_folder),
        "data": segmentation_folder,
        "out": tmp_path / "run",
        "mode": "linear",
        "steps": 40,
        "batch_size": 4,
        "lr": 3e-2,
        "base": (256, 64),
        "crop": 32,
        "log_every": 20,
        "device": "cpu",
        "workers": 0,
        "tensorboard": False,
    }


def test_a_cached_probe_is_an_ordinary_one(settings, capsys):
    result = finetune(**settings, val="test")
    said = capsys.readouterr().out
    assert "cache features yes: the frames have 72 windows, training sees 160 crops" in said
    assert "ratio 1 1: " in said and "crop 32: " not in said  # given, not chosen
    recorded = FinetuneConfig.from_yaml(settings["out"] / "config.yaml")
    assert (recorded.cache_features, recorded.ratio, recorded.photometric) == (True, (1.0, 1.0), False)
    log = [json.loads(line) for line in (settings["out"] / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]

    plain = finetune(**{**settings, "out": settings["out"].parent / "plain"}, cache_features=False, val="test")
    assert abs(plain.scores.miou - result.scores.miou) < 0.15
    assert (plain.run / "model" / "config.json").exists() == (result.run / "model" / "config.json").exists()
    ours, theirs = (load_segmenter(run.run) for run in (result, plain))
    assert ours.spec == theirs.spec
    for name, tensor in ours.backbone.state_dict().items():
        assert torch.equal(tensor, theirs.backbone.state_dict()[name]), name

    repeated = finetune(FinetuneConfig.from_yaml(result.run / "config.yaml", out=settings["out"].parent / "again"))
    assert torch.equal(load_segmenter(repeated.run).head.classifier.weight, ours.head.classifier.weight)


def test_a_continued_run_ends_where_an_uninterrupted_one_does(settings, tmp_path):
    finetune(**settings)
    other = {**settings, "out": tmp_path / "other", "checkpoint_every": 20}
    finetune(**other)
    shutil.rmtree(tmp_path / "other" / "checkpoints" / "step-00000040")
    finetune(**other)
    whole = load_segmenter(settings["out"]).state_dict()
    for name, tensor in load_segmenter(tmp_path / "other").state_dict().items():
        assert torch.equal(tensor, whole[name]), name
