"""Pre-training crops made in a batch on a device are those of the data set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.manifests.scan import open_images
from unip.data.sampling.pretraining_crops import PretrainDataset
from unip.data.sampling.pretraining_crops_gpu import DevicePretrainCrops, images_fit


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("mix"), np.random.default_rng(0)
    for number, size in enumerate([(60, 80), (97, 50), (33, 41)]):
        coarse = rng.integers(0, 256, (size[0] // 5, size[1] // 5), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
        noisy = np.clip(smooth + rng.integers(-9, 10, size), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number}.png")
    return open_images([f"infrared={folder}"])


@pytest.mark.parametrize("size", [16, 48, 96])  # smaller and larger than the crops
def test_a_batch_is_what_the_mix_gives(table, size):
    mix = PretrainDataset(table, size=size, seed=4, cache="ram")
    device = DevicePretrainCrops(mix, torch.device("cpu"), with_positions=True)
    positions = list(range(7, 27))
    numbers = torch.stack([device[position][0] for position in positions])
    crops, flips, told = device.finish((numbers, torch.tensor([device[position][1] for position in positions])))
    assert crops.shape == (20, 1, size, size) and crops.dtype == torch.uint8
    assert told.tolist() == positions and flips.tolist() == [mix[position][1] for position in positions]
    for crop, position in zip(crops, positions, strict=True):
        difference = (crop.int() - mix[position][0].int()).abs()
        assert difference.max() <= 2 and difference.float().mean() < 0.35


def test_positions_are_told_only_where_they_are_asked_for(table):
    mix = PretrainDataset(table, size=16, cache="ram")
    device = DevicePretrainCrops(mix, torch.device("cpu"))
    (numbers,) = device[3]
    assert len(device.finish((numbers[None],))) == 2


def test_what_a_gpu_can_keep(table, monkeypatch):
    ram, files = (PretrainDataset(table, size=16, cache=cache) for cache in ("ram", "none"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * 3 * 97 * 80, 0))
    gpu = torch.device("cuda")
    assert images_fit(ram, gpu)
    assert not images_fit(files, gpu)
    assert not images_fit(ram, torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * 3 * 97 * 80 - 1, 0))
    assert not images_fit(ram, gpu)
