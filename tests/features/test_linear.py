import contextlib
import json
import shutil

import numpy as np
import pytest
import torch

from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.statistics import LabelFacts, measure_pair, read_pairs
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset, SegmentationTrainTransform
from unip.errors import UnipError
from unip.features.linear import CachedFeatures, cache_bytes, count_windows, side_by_side
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.model import CachedLoss, SegmentationLoss
from unip.segmentation.storage import load_segmenter
from unip.segmentation.verbs import finetune
from unip.vit.backbone import load_backbone

PLAIN = {"crop": 32, "base": (256, 64), "photometric": False, "ratio": (1.0, 1.0), "fill": (9, 9, 9)}


@pytest.fixture
def data(segmentation_folder):
    return open_segmentation(segmentation_folder, "train")


def cached(segmenter, data, seed=0, **changes):
    transform = SegmentationTrainTransform(**{**PLAIN, **changes})
    sizes = [data.read_mask(index).shape for index in range(len(data))]
    return CachedFeatures(segmenter, data, sizes, transform, seed=seed, autocast=contextlib.nullcontext()), transform


def maps_of(found):
    return [[side_by_side(part) for part in frame.unbind(1)] for frame in found.features]


def test_features_are_those_of_windows(make_segmenter, data):
    """32 x 40 frames doubled: windows at 0 and 32 down, at 0, 32 and, last, 48 across."""
    probe = make_segmenter(decoder="linear")
    found, transform = cached(probe, data)
    maps = maps_of(found)
    assert [part.shape for part in maps[0]] == [(4 * 16, 8, 10)] * 2
    assert maps[0][0].dtype == torch.float16
    sizes = LabelFacts.of(read_pairs(data, measure_pair)[0], data).sizes
    assert count_windows(transform, sizes, patch=8) == 6 * 2 * 3 * 2
    size = found.store.rows.nbytes + sum(part.nbytes for frame in found.masks for part in frame)
    assert cache_bytes(transform, sizes, channels=4 * 16, patch=8) == size
    image, mask = SegmentationTrainDataset(data, SegmentationTrainTransform(**{**PLAIN, "crop": 80, "flip": 0.0}))[0]
    image, mask = image[:, :64], mask[:64]  # resized, not cut
    frame = SegmentationTrainDataset(data, SegmentationTrainTransform(**PLAIN)).order(0)
    for version, (pixels, ids) in enumerate(((image, mask), (image.flip(-1), mask.flip(-1)))):
        assert torch.equal(found.masks[frame][version], ids)
        for top in (0, 32):
            for left, shown in ((0, slice(0, 4)), (32, slice(4, 6)), (48, slice(6, 10))):  # of the map, later on top
                with torch.no_grad():
                    window = pixels[None, :, top : top + 32, left : left + 32]
                    expected = torch.cat(probe.features(probe.normalise(window)), 1)[0]
                there = maps[frame][version][:, top // 8 : top // 8 + 4, shown]
                expected = expected[..., shown.start - left // 8 : shown.stop - left // 8]
                torch.testing.assert_close(there.float(), expected, rtol=2e-3, atol=2e-3)


def test_an_item_is_a_function_of_seed_and_position(make_segmenter, data):
    probe = make_segmenter(decoder="linear")
    found, again, other = (cached(probe, data, seed)[0] for seed in (3, 3, 4))
    shown = [found[position] for position in range(40)]
    for position in reversed(range(40)):
        assert all(torch.equal(a, b) for a, b in zip(shown[position], again[position], strict=True))
    assert any(not torch.equal(shown[position][0], other[position][0]) for position in range(40))
    places, maps = [], maps_of(found)
    for position, (features, mask) in enumerate(shown):
        frame = found.order(position)
        fitting = [
            (version, top, left)
            for version in (0, 1)
            for top in range(5)
            for left in range(7)
            if torch.equal(maps[frame][version][:, top : top + 4, left : left + 4], features)
        ]
        ((version, top, left),) = fitting
        places.append(fitting[0])
        assert torch.equal(mask, found.masks[frame][version][8 * top : 8 * top + 32, 8 * left : 8 * left + 32])
    assert 8 <= sum(version for version, _, _ in places) <= 32
    assert {top for _, top, _ in places} == set(range(5)) and {left for _, _, left in places} == set(range(7))
    never, _ = cached(probe, data, flip=0.0)
    assert len(maps_of(never)[0]) == 1 and never[5][0].shape == (64, 4, 4)


def test_crops_that_one_class_fills_are_drawn_again(make_segmenter, data):
    probe = make_segmenter(decoder="linear")
    strict, loose = (cached(probe, data, cat_max_ratio=ratio)[0] for ratio in (0.75, 1.0))
    shares = [np.array([_top_share(dataset[position][1]) for position in range(200)]) for dataset in (strict, loose)]
    assert np.mean(shares[0] <= 0.75) > 0.9 > np.mean(shares[1] <= 0.75)


def _top_share(mask):
    counts = np.bincount(mask[mask != 255].numpy().ravel(), minlength=1)
    return counts.max() / max(1, counts.sum())


@pytest.mark.parametrize(("crop", "patches"), [(96, 12), (30, 4)])
def test_sizes_that_do_not_fit_are_padded(make_segmenter, data, crop, patches):
    """Frames smaller than the crop, and a crop that is no whole patches."""
    probe = make_segmenter(decoder="linear")
    found, _ = cached(probe, data, crop=crop)
    features, mask = found[0]
    assert features.shape == (64, patches, patches) and mask.shape == (crop, crop)
    assert CachedLoss(probe, frozen_backbone=True)(features[None], mask[None])["loss"].isfinite()
    if crop == 96:
        assert (mask[64:] == 255).all() and (mask[:, 80:] == 255).all() and (mask[2:64, :80] != 255).all()


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
def settings(small_run):
    return {
        **small_run,
        "mode": "linear",
        "steps": 40,
        "batch_size": 4,
        "lr": 3e-2,
        "base": (256, 64),
        "crop": 32,
        "log_every": 20,
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


def test_of_a_finished_run_nothing_is_computed_again(settings, monkeypatch, capsys):
    weights = load_segmenter(finetune(**settings).run).state_dict()
    monkeypatch.setattr("unip.features.linear.fill_map", None)  # whoever calls it fails
    capsys.readouterr()
    again = finetune(**settings, val="test")
    said = capsys.readouterr()
    assert "computing features" not in said.err and "40 steps of training are done" in said.out
    assert again.scores is not None
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_segmenter(again.run).state_dict().items())


def test_a_continued_run_ends_where_an_uninterrupted_one_does(settings, tmp_path):
    finetune(**settings)
    other = {**settings, "out": tmp_path / "other", "checkpoint_every": 20}
    finetune(**other)
    shutil.rmtree(tmp_path / "other" / "checkpoints" / "step-00000040")
    finetune(**other)
    whole = load_segmenter(settings["out"]).state_dict()
    for name, tensor in load_segmenter(tmp_path / "other").state_dict().items():
        assert torch.equal(tensor, whole[name]), name


DECODERS = [
    {"decoder": "conv"},
    {"decoder": "light", "pyramid": "fpn"},
    {"decoder": "light", "pyramid": "llfpn"},
    {"decoder": "upernet", "pyramid": "fpn"},
]


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda one: " ".join(one.values()))
def test_any_decoder_learns_from_cached_features_as_from_images(make_segmenter, data, decoder):
    """On the same crops: equal losses and gradients, of the decoder alone."""
    segmenter = make_segmenter(**decoder, auxiliary_weight=0.4 if decoder["decoder"] == "upernet" else 0)
    segmenter.head.dropout.p = 0.0
    if segmenter.auxiliary is not None:
        segmenter.auxiliary.dropout.p = 0.0
    images, masks = (torch.stack(part) for part in zip(*(_window(data, i) for i in range(3)), strict=True))
    with torch.no_grad():
        features = torch.cat(segmenter.features(segmenter.normalise(images)), 1)
    found = {}
    for name, loss, inputs in (("images", SegmentationLoss, images), ("cached", CachedLoss, features.half())):
        segmenter.zero_grad()
        model = loss(segmenter, frozen_backbone=True).train()
        values = model(inputs, masks)
        values["loss"].backward()
        assert not segmenter.backbone.training and segmenter.head.training
        gradients = {key: value.grad.clone() for key, value in segmenter.named_parameters() if value.grad is not None}
        assert gradients.keys() == {key for key, _ in segmenter.named_parameters() if not key.startswith("backbone.")}
        found[name] = values, gradients
    assert found["cached"][0].keys() == found["images"][0].keys()
    for name, value in found["cached"][0].items():
        torch.testing.assert_close(value, found["images"][0][name], rtol=5e-3, atol=5e-3)
    weight = "head.classifier.weight"
    torch.testing.assert_close(found["cached"][1][weight], found["images"][1][weight], rtol=5e-2, atol=5e-3)


FROZEN = {"mode": "frozen", "lr": 4e-3}


@pytest.mark.parametrize("decoder", DECODERS[:2], ids=lambda one: one["decoder"])
def test_a_decoder_on_cached_features_is_an_ordinary_model(settings, capsys, decoder):
    """Training changes nothing but the decoder, and evaluation sees the features that training saw."""
    settings = {**settings, **FROZEN, **decoder}
    before = load_backbone(settings["model"]).model.state_dict()
    result = finetune(**settings, val="test")
    assert "cache features yes: the frames have 72 windows, training sees 160 crops" in capsys.readouterr().out
    trained = load_segmenter(result.run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.backbone.state_dict().items())
    plain = finetune(**{**settings, "out": settings["out"].parent / "plain"}, cache_features=False, val="test")
    assert result.scores.miou > 0.35 and abs(plain.scores.miou - result.scores.miou) < 0.15
    assert load_segmenter(plain.run).spec == trained.spec


def test_a_continued_decoder_ends_where_an_uninterrupted_one_does(settings, tmp_path):
    settings = {**settings, **FROZEN}
    finetune(**settings)
    other = {**settings, "out": tmp_path / "other", "checkpoint_every": 20}
    finetune(**other)
    shutil.rmtree(tmp_path / "other" / "checkpoints" / "step-00000040")
    finetune(**other)
    whole = load_segmenter(settings["out"]).state_dict()
    for name, tensor in load_segmenter(tmp_path / "other").state_dict().items():
        assert torch.equal(tensor, whole[name]), name


def test_windows_of_prediction_have_the_features_of_training(make_segmenter, data):
    """The logits of a window are those of its cached features."""
    segmenter = make_segmenter(decoder="conv")
    found, _ = cached(segmenter, data, flip=0.0)
    frame = found.order(0)
    image, _ = SegmentationTrainDataset(data, SegmentationTrainTransform(**{**PLAIN, "crop": 80, "flip": 0.0}))[0]
    with torch.no_grad():
        predicted = segmenter(image[None, :, 32:64, 48:80])
        features = side_by_side(found.features[frame][:, 0, 4:8, 6:10])[None]
        layers = CachedLoss(segmenter, frozen_backbone=True).eval().features(features)
        trained, _ = segmenter.all_logits(segmenter.pyramid(layers), torch.zeros(1, 32, 32))
    torch.testing.assert_close(trained, predicted, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("changes", [{"lora": 2}, {"freeze_layers": 1}])
def test_a_frozen_backbone_has_nothing_to_adapt(settings, changes):
    with pytest.raises(UnipError, match="mode frozen freezes the whole backbone"):
        finetune(**{**settings, **FROZEN, **changes})


def test_random_weights_are_not_frozen(settings):
    with pytest.raises(UnipError, match="mode frozen leaves weights as they are, and those of unip_micro are random"):
        finetune(**{**settings, **FROZEN, "model": "unip_micro"})
