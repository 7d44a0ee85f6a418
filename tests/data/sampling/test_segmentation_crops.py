from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import tv_tensors

from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.segmentation_crops import (
    SegmentationTrainDataset,
    SegmentationTrainTransform,
    decode_pairs,
    draw_distortion,
)
from unip.errors import UnipError

PLAIN = SegmentationTrainTransform(crop=64, base=(256, 64), photometric=False)


def pair(height: int, width: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Return an image whose brightness is 20 times the class id: so image and mask can be compared."""
    block = max(8, min(height, width) // 5)
    shape = (-(-height // block), -(-width // block))
    coarse = np.random.default_rng(height * width).integers(0, 12, shape, dtype=np.uint8)
    fine = np.kron(coarse, np.ones((block, block), dtype=np.uint8))
    mask = torch.from_numpy(fine[:height, :width].copy())
    return tv_tensors.Image((mask * 20).expand(channels, -1, -1).contiguous()), tv_tensors.Mask(mask)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    "height, width, ratio, expected",
    [
        (512, 640, 1.0, (512, 640)),  # the short side decides
        (512, 640, 0.5, (256, 320)),
        (640, 512, 2.0, (1280, 1024)),
        (100, 1000, 1.0, (205, 2048)),  # the long side decides
        (480, 640, 1.5, (768, 1024)),
    ],
)
def test_the_resized_frame_fits_the_scale(height: int, width: int, ratio: float, expected: tuple[int, int]) -> None:
    assert SegmentationTrainTransform().resized(height, width, ratio) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(64, 80), (40, 50), (300, 120), (5, 7)])
def test_image_and_mask_stay_together(size: tuple[int, int], channels: int) -> None:
    image, mask = pair(*size, channels)
    for seed in range(10):
        out, labels = PLAIN(image, mask, generator(seed))
        assert out.shape == (3, 64, 64) and labels.shape == (64, 64)
        assert out.dtype == labels.dtype == torch.uint8
        assert isinstance(out, tv_tensors.Image) and isinstance(labels, tv_tensors.Mask)
        seen = labels != 255
        error = (out[0].int() - 20 * labels.int())[seen].abs()
        assert error.float().median() <= 2  # blurred edges only
        assert not out[:, ~seen].any()


def test_nothing_is_random_when_nothing_can_vary() -> None:
    image, mask = pair(64, 64)
    fixed = SegmentationTrainTransform(crop=64, base=(256, 64), ratio=(1.0, 1.0), flip=0.0, photometric=False)
    out, labels = fixed(image, mask, generator(0))
    three = image.as_subclass(Tensor).expand(3, -1, -1)
    torch.testing.assert_close(out.as_subclass(Tensor), three, rtol=0, atol=0)
    torch.testing.assert_close(labels.as_subclass(Tensor), mask.as_subclass(Tensor), rtol=0, atol=0)
    flipped = SegmentationTrainTransform(crop=64, base=(256, 64), ratio=(1.0, 1.0), flip=1.0, photometric=False)
    out, labels = flipped(image, mask, generator(0))
    torch.testing.assert_close(out.flip(-1).as_subclass(Tensor), three, rtol=0, atol=0)
    torch.testing.assert_close(labels.flip(-1).as_subclass(Tensor), mask.as_subclass(Tensor), rtol=0, atol=0)


def test_small_frames_are_padded_at_the_right_and_the_bottom() -> None:
    image, mask = torch.full((1, 30, 40), 200, dtype=torch.uint8), torch.ones(30, 40, dtype=torch.uint8)
    half = SegmentationTrainTransform(crop=64, base=(256, 30), ratio=(1.0, 1.0), photometric=False, ignore_index=9)
    out, labels = half(image, mask, generator(1))
    assert (out[:, :30, :40] == 200).all() and (labels[:30, :40] == 1).all()
    assert out.sum() == 3 * 200 * 30 * 40 and (labels == 9).sum() == 64 * 64 - 30 * 40


@pytest.mark.parametrize("channels", [1, 3])
def test_padding_may_have_a_colour(channels: int) -> None:
    image = torch.full((channels, 30, 40), 200, dtype=torch.uint8)
    mask = torch.zeros(30, 40, dtype=torch.uint8)
    half = SegmentationTrainTransform(
        crop=64, base=(256, 30), ratio=(1.0, 1.0), photometric=False, fill=(124, 116, 104)
    )
    out, labels = half(image, mask, generator(1))
    assert (out[:, :30, :40] == 200).all()
    padding = labels == 255
    assert [set(channel[padding].tolist()) for channel in out] == [{124}, {116}, {104}]


def test_masks_are_cut_as_a_nearest_resize_would() -> None:
    image, mask = pair(48, 60)
    for seed in range(5):
        transform = SegmentationTrainTransform(crop=400, base=(600, 150), flip=0.0, photometric=False)
        height, width = transform.resized(48, 60, generator(seed).uniform(0.5, 2.0))
        _, labels = transform(image, mask, generator(seed))
        expected = torch.nn.functional.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")
        torch.testing.assert_close(labels[:height, :width].float().as_subclass(Tensor), expected[0, 0], rtol=0, atol=0)


def test_crops_filled_by_one_class_are_drawn_again() -> None:
    mask = torch.zeros(64, 640, dtype=torch.uint8)
    mask[:, 600:] = 1
    image = torch.zeros(1, 64, 640, dtype=torch.uint8)

    def shares(limit: float) -> float:
        fixed = SegmentationTrainTransform(
            crop=64, base=(2048, 64), ratio=(1.0, 1.0), photometric=False, cat_max_ratio=limit
        )
        found = [fixed(image, mask, generator(seed))[1].float().mean().item() for seed in range(150)]
        return float(np.mean([0.25 <= share <= 0.75 for share in found]))

    # A crop's left edge is uniform in 0..576; 33 places give a share within a quarter and three quarters.
    once = 33 / 577
    assert abs(shares(1.0) - once) < 0.05
    assert abs(shares(0.75) - (1 - (1 - once) ** 11)) < 0.12


def test_pixels_without_a_label_do_not_fill_a_crop() -> None:
    mask = torch.full((64, 640), 255, dtype=torch.uint8)
    mask[:, ::2] = 0
    mask[:, ::4] = 1
    counted = SegmentationTrainTransform(crop=64, base=(2048, 64), ratio=(1.0, 1.0), photometric=False, flip=0.0)
    free = SegmentationTrainTransform(
        crop=64, base=(2048, 64), ratio=(1.0, 1.0), photometric=False, flip=0.0, cat_max_ratio=1.0
    )
    image = torch.arange(640, dtype=torch.int32).remainder(251).to(torch.uint8).expand(1, 64, -1).contiguous()
    for seed in range(5):  # half of each: the first draw is taken
        left, right = counted(image, mask, generator(seed))[0], free(image, mask, generator(seed))[0]
        torch.testing.assert_close(left.as_subclass(Tensor), right.as_subclass(Tensor), rtol=0, atol=0)


def test_scales_and_flips_cover_their_range() -> None:
    image, mask = torch.zeros(1, 64, 64, dtype=torch.uint8), torch.zeros(64, 64, dtype=torch.uint8)
    image[:, :, :32] = 200
    small = SegmentationTrainTransform(crop=128, base=(256, 64), photometric=False)
    sides, flips = [], 0
    for seed in range(200):
        out, labels = small(image, mask, generator(seed))
        sides.append(int((labels[0] == 0).sum()))
        flips += int(out[0, 0, 0] < 100)
    assert 32 <= min(sides) < 36 and 124 < max(sides) <= 128
    assert abs(np.mean(sides) - 80) < 5
    assert 70 < flips < 130


def test_distortion_of_grey_is_a_table_of_levels() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).repeat(1, 3, 1)
    seen = set()
    for seed in range(60):
        out = draw_distortion(generator(seed))(ramp)
        assert out.shape == ramp.shape and out.dtype == torch.uint8
        torch.testing.assert_close(out[:, 0], out[:, 2], rtol=0, atol=0)
        steps = out[0, 0].int().diff()
        assert (steps >= 0).all() and steps.max() <= 2  # rising, at most 1.5 times as steep
        assert abs(int(out[0, 0, 100]) - 100) <= 1.5 * 32 + 51
        seen.add(bytes(out.numpy()))
    assert len(seen) > 30
    assert bytes(ramp.numpy()) in seen  # sometimes nothing is done


def test_distortion_of_colour_moves_hue_and_saturation() -> None:
    colour = torch.tensor([180, 90, 60], dtype=torch.uint8)[:, None, None].expand(3, 4, 4).contiguous()

    def hue_saturation(image: Tensor) -> np.ndarray:
        pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).convert("HSV")
        return np.asarray(pixels)[0, 0, :2].astype(int)

    before = hue_saturation(colour)
    after = np.array([hue_saturation(draw_distortion(generator(seed))(colour)) for seed in range(200)])
    turn = (after[:, 0] - before[0] + 128) % 256 - 128
    assert 18 <= turn.max() <= 32 and -32 <= turn.min() <= -18  # 36 of 360 degrees are 26 of 256; clipping adds some
    assert after[:, 1].min() < before[1] - 30 and after[:, 1].max() > before[1] + 20


def test_distortion_leaves_its_input_alone() -> None:
    image = pair(16, 16, 3)[0].as_subclass(Tensor)
    before = image.clone()
    for seed in range(5):
        draw_distortion(generator(seed))(image)
    torch.testing.assert_close(image, before, rtol=0, atol=0)


@pytest.fixture
def data(tmp_path: Path) -> SegmentationData:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.json").write_text(json.dumps({"names": [str(i) for i in range(12)]}))
    for i, channels in enumerate((1, 3, 1)):
        image, mask = pair(40 + i, 56, channels)
        pixels = image.permute(1, 2, 0).numpy().squeeze().copy()
        if i == 1:
            pixels[..., 0] //= 2
        if i == 2:
            pixels = pixels.astype(np.uint16) * 100 + 7000
        Image.fromarray(pixels).save(tmp_path / f"images/{i}.png")
        Image.fromarray(mask.numpy()).save(tmp_path / f"masks/{i}.png")
    return open_segmentation(tmp_path)


def test_items_are_a_function_of_seed_and_position(data: SegmentationData) -> None:
    transform = SegmentationTrainTransform(crop=32, base=(128, 32))
    kept = SegmentationTrainDataset(data, transform, seed=4, pairs=decode_pairs(data))
    read = SegmentationTrainDataset(data, transform, seed=4)
    assert len(kept) == 3
    for position in (7, 0, 2, 1, 7):
        for a, b in zip(kept[position], read[position], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    image, mask = kept[0]
    assert image.shape == (3, 32, 32) and mask.shape == (32, 32)
    assert image.dtype == mask.dtype == torch.uint8 and type(image) is type(mask) is Tensor
    other = SegmentationTrainDataset(data, transform, seed=5, pairs=decode_pairs(data))
    assert any(not torch.equal(kept[i][0], other[i][0]) for i in range(3))
    copied = pickle.loads(pickle.dumps(kept))
    torch.testing.assert_close(copied[5][0], kept[5][0], rtol=0, atol=0)
    images, masks = next(iter(DataLoader(Subset(kept, range(6)), batch_size=6, num_workers=1)))
    torch.testing.assert_close(images, torch.stack([kept[i][0] for i in range(6)]), rtol=0, atol=0)
    torch.testing.assert_close(masks, torch.stack([kept[i][1] for i in range(6)]), rtol=0, atol=0)


def test_grey_is_repeated_and_colour_stays(data: SegmentationData) -> None:
    dataset = SegmentationTrainDataset(
        data, SegmentationTrainTransform(crop=32, base=(128, 32)), pairs=decode_pairs(data)
    )
    for position in range(3):
        image, _ = dataset[position]
        grey = torch.equal(image[0], image[1]) and torch.equal(image[1], image[2])
        assert grey == (dataset.order(position) != 1)
        assert image.float().std() > 5  # 16-bit frames too come out with contrast


def test_bad_pairs_are_refused(data: SegmentationData) -> None:
    Image.new("L", (9, 9)).save(data.masks[1].path)
    with pytest.raises(UnipError, match="is 9x9 but its image"):
        SegmentationTrainDataset(data, PLAIN, pairs=decode_pairs(data))
    lazy = SegmentationTrainDataset(data, PLAIN)
    with pytest.raises(UnipError, match="is 9x9 but its image"):
        [lazy[i] for i in range(3)]


def test_corruption_is_a_function_of_seed_and_position(data: SegmentationData) -> None:
    transform = SegmentationTrainTransform(crop=32, base=(128, 32))
    plain = SegmentationTrainDataset(data, transform, seed=4, pairs=decode_pairs(data))
    never = SegmentationTrainDataset(data, transform, seed=4, pairs=decode_pairs(data), corrupt=0.0)
    half = SegmentationTrainDataset(data, transform, seed=4, pairs=decode_pairs(data), corrupt=0.5)
    again = SegmentationTrainDataset(data, transform, seed=4, corrupt=0.5)
    changed = 0
    for position in (*range(30), 3):
        image, mask = half[position]
        torch.testing.assert_close(again[position], (image, mask), rtol=0, atol=0)
        torch.testing.assert_close(never[position], plain[position], rtol=0, atol=0)
        torch.testing.assert_close(mask, plain[position][1], rtol=0, atol=0)  # crops and flips stay
        changed += not torch.equal(image, plain[position][0])
    assert 8 < changed < 24


def speck(label: int = 3, size: int = 1) -> tuple[Tensor, Tensor]:
    """Return a large frame with one small object."""
    mask = torch.zeros(90, 120, dtype=torch.uint8)
    mask[44 : 44 + size, 60 : 60 + size] = label
    return (mask * 60)[None], mask


@pytest.mark.parametrize("ratio", [(0.5, 0.5), (0.9, 1.1), (1.0, 3.0)])
def test_a_crop_for_a_class_shows_it(ratio: tuple[float, float]) -> None:
    image, mask = speck(size=4)
    transform = SegmentationTrainTransform(crop=16, base=(360, 90), ratio=ratio, photometric=False)
    found = [(transform(image, mask, generator(seed), 3)[1] == 3).nonzero().tolist() for seed in range(40)]
    assert all(found)
    assert sum((transform(image, mask, generator(seed))[1] == 3).any().item() for seed in range(40)) < 20
    rows, columns = np.array([spots[0] for spots in found]).T  # anywhere in the crop, not at its centre
    assert max(rows.min(), columns.min()) < 4 and min(rows.max(), columns.max()) > 10


def test_a_class_that_the_resize_made_vanish_leaves_an_ordinary_crop() -> None:
    image, mask = speck(size=1)
    tiny = SegmentationTrainTransform(crop=8, base=(48, 12), ratio=(1.0, 1.0), photometric=False)
    assert not (tiny(image, mask, generator(0))[1] == 3).any()
    for seed in range(5):
        pairs = zip(tiny(image, mask, generator(seed), 3), tiny(image, mask, generator(seed)), strict=True)
        assert all(torch.equal(with_label, without) for with_label, without in pairs)


def test_a_share_of_the_crops_is_inverted_and_the_others_stay_as_they_were():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 80), dtype=np.uint8))
    mask = torch.zeros((64, 80), dtype=torch.uint8)
    plain = replace(PLAIN, crop=96, fill=(9, 9, 9))  # so that there is padding
    mixed = replace(plain, inverted=0.25)
    inverted = 0
    for seed in range(200):
        before, ids = plain(image, mask, np.random.default_rng(seed))
        after, labels = mixed(image, mask, np.random.default_rng(seed))
        shown = (ids == 0).expand_as(before)
        assert torch.equal(ids, labels) and torch.equal(after[~shown], before[~shown])
        if not torch.equal(after, before):
            inverted += 1
            assert torch.equal(after[shown], 255 - before[shown])
    assert 30 < inverted < 70
