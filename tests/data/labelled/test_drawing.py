from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.grouping import guess_sequences
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.drawing import FEW, choose, choose_labels, describe_drawn
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError


def write(root: Path, masks: dict[str, np.ndarray]) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name, mask in masks.items():
        Image.fromarray(np.full(mask.shape[:2], 90, dtype=np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["background", "person", "car"]}))
    return root


def ids(*values: int) -> np.ndarray:
    return np.resize(np.array(values, dtype=np.uint8), (4, 6))


def subset(data: SegmentationData, label_budget: float, seed: int) -> SegmentationData:
    return data.take(choose(data, label_budget, seed))


@pytest.fixture
def unequal(tmp_path: Path) -> SegmentationData:
    masks = {f"{i:02}": ids(0) for i in range(18)}
    masks["07"], masks["18"] = ids(0, 1), ids(0, 1)
    masks["19"] = ids(0, 2)
    return open_segmentation(write(tmp_path / "set", masks))


def labels_in(data: SegmentationData) -> set[int]:
    return {int(value) for i in range(len(data)) for value in np.unique(data.read_mask(i))}


def test_few_labels_show_every_class(unequal: SegmentationData) -> None:
    choices = [subset(unequal, 3, seed) for seed in range(8)]
    assert all(len(choice) == 3 and labels_in(choice) == {0, 1, 2} for choice in choices)
    assert all(list(choice.images) == sorted(choice.images) for choice in choices)
    assert len({choice.images for choice in choices}) > 1
    assert subset(unequal, 3, 4) == choices[4]
    assert labels_in(subset(unequal, 1, 0)) >= {2}  # the rarest comes first


def test_few_labels_are_part_of_more(unequal: SegmentationData) -> None:
    for few, more in ((1, 2), (2, 5), (5, 0.5), (0.5, 19)):
        assert set(subset(unequal, few, 3).images) <= set(subset(unequal, more, 3).images)
    assert len(subset(unequal, 0.25, 0)) == 5
    assert len(subset(unequal, 0.001, 0)) == 1
    assert subset(unequal, 1.0, 0) is unequal
    assert len(subset(unequal, 1, 0)) == 1


def test_few_labels_are_a_share_or_a_whole_number(unequal: SegmentationData) -> None:
    assert [len(choose_labels(unequal, labels, 0)) for labels in (0.25, 1, 1.0, 3.0, 3)] == [5, 20, 20, 3, 3]
    for labels in (1.5, 19.999):
        with pytest.raises(
            UnipError, match=f"label_budget {labels} is above 1, so it is a number of images and must be"
        ):
            choose_labels(unequal, labels, 0)


@pytest.mark.parametrize("labels", [0, 21, -1, 0.0, 1.5, -0.1])
def test_impossible_numbers_of_labels(unequal: SegmentationData, labels: float) -> None:
    with pytest.raises(UnipError, match=r"share of labels|labelled images are asked for"):
        subset(unequal, labels, 0)


@pytest.fixture
def videos(tmp_path: Path) -> SegmentationData:
    """Six videos of unequal length, 90 frames; cars only in the longest, people in two frames of one."""
    masks = {f"{video}_{i}": ids(0) for video, frames in enumerate((60, 10, 6, 6, 4, 4)) for i in range(frames)}
    masks |= {f"0_{i}": ids(0, 2) for i in range(3)} | {"3_0": ids(0, 1), "3_1": ids(0, 1)}
    return open_segmentation(write(tmp_path / "set", masks))


def test_few_labels_are_of_as_many_videos_as_can_be(videos: SegmentationData) -> None:
    sequences = guess_sequences(videos.images)
    assert sequences is not None
    for seed in range(5):
        for budget in (3, 6, 12, 18):
            chosen = choose(videos, budget, seed, sequences)
            of = Counter(sequences[index] for index in chosen)
            assert len(chosen) == len(set(chosen)) == budget and max(of.values()) - min(of.values()) <= budget % 6
            assert len(of) == min(budget, 6)
            assert labels_in(videos.take(chosen)) == {0, 1, 2}
            assert set(chosen) <= set(choose(videos, budget + 7, seed, sequences))
            assert choose(videos, budget, seed, sequences) == chosen
    assert len({tuple(choose(videos, 6, seed, sequences)) for seed in range(5)}) > 1
    short = choose(videos, 40, 0, sequences)  # short videos are used up, the rest is of the others
    assert Counter(sequences[index] for index in short)["4_*"] == 4 and len(short) == 40


def test_more_labels_are_not_spread(videos: SegmentationData) -> None:
    sequences = guess_sequences(videos.images)
    assert choose(videos, FEW, 3, sequences) == choose(videos, FEW, 3)
    assert choose(videos, FEW - 1, 3, sequences) != choose(videos, FEW - 1, 3)


def test_what_was_drawn_is_said() -> None:
    names = [f"{number}.png" for number in range(7)]
    assert describe_drawn(names, 912, 3, (6, 82)) == (
        "7 of 912 labelled images are drawn (label_seed 3), from 6 of 82 sequences: "
        "0.png, 1.png, 2.png, 3.png, 4.png and 2 more"
    )
    assert describe_drawn(names[:2], 20, 0, None) == "2 of 20 labelled images are drawn (label_seed 0): 0.png, 1.png"
