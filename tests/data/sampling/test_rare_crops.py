import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.classes import Classes
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.pairs import classes_shown
from unip.data.sampling.rare_crops import RareCrops
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset, SegmentationTrainTransform, decode_pairs
from unip.errors import UnipError

SHOWN = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
CLASSES = Classes(("background", "common", "rare", "never"))


@pytest.mark.parametrize(("share", "count"), [(0.25, 25), (1 / 3, 33), (1.0, 100), (0.5, 50)])
def test_a_fixed_share_is_drawn_evenly_spread(share, count):
    rare = RareCrops(SHOWN, CLASSES, share, seed=0)
    drawn = [rare(position) is not None for position in range(100)]
    assert sum(drawn) == count
    assert all(sum(drawn[i : i + 8]) in (int(8 * share), int(8 * share) + 1) for i in range(0, 96, 8))


def test_each_foreground_class_is_drawn_as_often_from_images_that_show_it():
    drawn = [RareCrops(SHOWN, CLASSES, 1.0, seed=1)(position) for position in range(600)]
    assert all(SHOWN[index, label] for index, label in drawn)
    labels = [label for _, label in drawn]
    assert set(labels) == {1, 2} and 250 < labels.count(2) < 350
    assert {index for index, label in drawn if label == 1} == {0, 1, 3}
    again, other = (RareCrops(SHOWN, CLASSES, 1.0, seed) for seed in (1, 2))
    assert [again(position) for position in range(99, -1, -1)] == drawn[99::-1]
    assert [other(position) for position in range(100)] != drawn[:100]
    without = RareCrops(SHOWN, Classes(("road", "common", "rare", "never")), 1.0, seed=1)
    assert {without(position)[1] for position in range(100)} == {0, 1, 2}
    second = RareCrops(SHOWN, Classes(("road", "background", "rare", "never")), 1.0, seed=1)
    assert {second(position)[1] for position in range(100)} == {0, 2}


def test_no_class_to_draw_for():
    with pytest.raises(UnipError, match="no labelled image shows a class"):
        RareCrops(SHOWN[2:3], CLASSES, 0.5, seed=0)


@pytest.fixture
def folder(tmp_path):
    """Six frames, one of which has one small object."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(6):
        mask = np.zeros((64, 96), np.uint8)
        if number == 4:
            mask[50:53, 80:83] = 1
        Image.fromarray(mask * 200).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    (tmp_path / "classes.json").write_text('{"names": ["background", "speck"]}')
    return tmp_path


def test_training_samples(folder):
    data = open_segmentation(folder)
    transform = SegmentationTrainTransform(crop=32, base=(256, 64), ratio=(0.9, 1.1))
    shown = classes_shown(data.read_mask, len(data), len(data.classes.names))
    draws = RareCrops(shown, data.classes, 0.5, 3)
    pairs = decode_pairs(data)
    plain, rare = (SegmentationTrainDataset(data, transform, seed=3, pairs=pairs, rare=each) for each in (None, draws))
    cached = SegmentationTrainDataset(data, transform, seed=3, rare=draws)
    for position in range(24):
        image, mask = rare[position]
        assert all((one == two).all() for one, two in zip((image, mask), cached[position], strict=True))
        if position % 2:
            assert (mask == 1).any()
        else:
            assert all((one == two).all() for one, two in zip((image, mask), plain[position], strict=True))
    assert sum((plain[position][1] == 1).any().item() for position in range(24)) < 6
