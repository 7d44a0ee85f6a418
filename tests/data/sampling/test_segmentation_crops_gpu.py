"""Crops made in a batch on a device are those of the data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.pairs import classes_shown
from unip.data.sampling.rare_crops import RareCrops
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset, SegmentationTrainTransform, decode_pairs
from unip.data.sampling.segmentation_crops_gpu import DeviceCrops, crops_fit
from unip.errors import UnipError

SIZES = [(40, 60), (40, 60), (33, 47), (64, 50)]


def write(folder: Path, *, colour: bool = False) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, size in enumerate(SIZES):
        coarse = rng.integers(0, 3, (9, 9), dtype=np.uint8)
        mask = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.NEAREST))
        pixels = (mask * 90 + rng.integers(0, 60, size)).astype(np.uint8)
        image = Image.fromarray(np.stack([pixels, pixels // 2, pixels], -1) if colour else pixels)
        image.save(folder / f"images/{number}.png")
        Image.fromarray(np.where(rng.random(size) < 0.05, 255, mask).astype(np.uint8)).save(
            folder / f"masks/{number}.png"
        )
    (folder / "classes.json").write_text(json.dumps({"names": ["background", "a", "b"]}))
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": 48, "base": (256, 48), "ratio": (0.5, 2.0)},  # smaller and larger than the frames, padded and cut
        {"crop": 32, "base": (400, 100), "ratio": (0.9, 1.1), "photometric": False, "cat_max_ratio": 1.0},
        {"crop": 32, "base": (256, 48), "inverted": 0.5},
        {"crop": 32, "photometric": False, "inverted": 0.5},
        {"crop": 24, "base": (64, 12), "ratio": (0.5, 1.0), "fill": (97, 98, 99)},
    ],
)
@pytest.mark.parametrize("rare", [False, True])
def test_a_batch_is_what_the_data_set_gives(tmp_path, settings, rare):
    data = open_segmentation(write(tmp_path / "d"), None)
    draws = RareCrops(classes_shown(data.read_mask, len(data), len(data.classes.names)), data.classes, 0.5, 3)
    dataset = SegmentationTrainDataset(
        data,
        SegmentationTrainTransform(**settings),
        seed=3,
        pairs=decode_pairs(data),
        rare=draws if rare else None,
    )
    crops = DeviceCrops(dataset, torch.device("cpu"))
    positions = range(5, 29)
    images, masks = crops.finish((torch.stack([crops[position] for position in positions]),))
    assert images.dtype == masks.dtype == torch.uint8
    for row, position in enumerate(positions):
        image, mask = dataset[position]
        torch.testing.assert_close(masks[row], mask, rtol=0, atol=0)
        difference = images[row].int() - image.int()
        assert difference.abs().max() <= 2 and difference.float().abs().mean() < 0.3


def test_what_cannot_be_cut_on_a_gpu(tmp_path, monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 10**6))
    transform = SegmentationTrainTransform(crop=32)
    grey = open_segmentation(write(tmp_path / "grey"), None)
    colour = open_segmentation(write(tmp_path / "colour", colour=True), None)

    def possible(data, device=gpu, **more):
        return crops_fit(SegmentationTrainDataset(data, transform, **{"pairs": decode_pairs(data), **more}), device)

    assert possible(grey)
    assert not possible(grey, torch.device("cpu"))
    assert not possible(grey, corrupt=0.5)
    assert not possible(grey, pairs=None)
    assert not possible(colour)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**5, 10**6))
    assert not possible(grey)
    with pytest.raises(UnipError, match="is in colour"):
        DeviceCrops(SegmentationTrainDataset(colour, transform, pairs=decode_pairs(colour)), torch.device("cpu"))
