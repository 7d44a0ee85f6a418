import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.data.labelled.statistics import LabelFacts, measure_pair, read_pairs
from unip.errors import UnipError


def write(root, masks):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, mask in enumerate(masks):
        Image.fromarray(np.full(mask.shape, 99, np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["car", "road"], "ignore_index": 255}))
    return open_segmentation(root)


def label_facts(data):
    return LabelFacts.of(read_pairs(data, measure_pair)[0], data)


def test_facts(tmp_path):
    first, second, third = (np.ones(shape, np.uint8) for shape in ((20, 30), (40, 60), (30, 50)))
    first[2:6, 2:6] = 0  # 4 across
    first[10, 10] = 0  # a speck
    first[:, 25:] = 255
    second[5:15, 5:45] = 0  # 20 across
    second[30:39, 30:39] = 0  # 9 across
    facts = label_facts(write(tmp_path, [first, second, third]))
    assert facts.sizes.tolist() == [[20, 30], [40, 60], [30, 50]]
    assert facts.pixels == {"car": 498, "road": 600 + 2400 + 1500 - 498 - 100, "ignore": 100}
    assert (facts.images, facts.classes, facts.size) == (3, 2, (30, 50))
    assert sorted(facts.objects) == [4, 9, 20]
    assert facts.object_side == 9


def test_natural_colours_are_told_from_colour_maps(tmp_path):
    """Of four frames one is grey, one lies under a colour map, and two have colours of their own."""
    data = write(tmp_path, [np.ones((64, 96), np.uint8)] * 4)
    assert label_facts(data).coloured == 0
    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    for number, channels in enumerate(
        ((across, 255 - across, 0 * across), (across, down, across), (down, 0 * down, across))
    ):
        Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
    assert label_facts(data).coloured == 0.5


def test_palettes_are_counted_and_no_natural_colours(tmp_path):
    data = write(tmp_path, [np.ones((64, 96), np.uint8)] * 2)
    path = tmp_path / "images/0.png"  # a JPEG: its content decides
    levels = np.add.outer(np.arange(64), np.arange(96))
    Image.fromarray((255 * matplotlib.colormaps["jet"](levels)[..., :3]).astype(np.uint8)).save(path, "JPEG")
    facts = label_facts(data)
    assert facts.palettes == {"jet": 1} and facts.coloured == 0


def test_infrared_in_front_of_the_source_is_believed(tmp_path):
    """Colours that look natural are then those of a palette that is not known."""
    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    write(tmp_path, [np.ones((64, 96), np.uint8)])
    Image.fromarray(np.stack([across, down, across], -1).astype(np.uint8)).save(tmp_path / "images/0.png")
    for source, infrared, coloured in (
        (str(tmp_path), False, 1),
        (f"infrared={tmp_path}", True, 0),
        (f"infrared=folder:{tmp_path}", True, 0),
        (Path(f"infrared={tmp_path}"), True, 0),
    ):
        data = open_segmentation(source)
        assert data.is_infrared == infrared
        assert label_facts(data).coloured == coloured
    assert open_segmentation(f"infrared={tmp_path}").take([0]).is_infrared
    assert list_splits(f"infrared={tmp_path}") == list_splits(tmp_path)


def test_without_objects(tmp_path):
    assert label_facts(write(tmp_path, [np.ones((8, 8), np.uint8)])).object_side is None


def test_bad_pairs_are_named(tmp_path):
    data = write(tmp_path, [np.full((8, 8), 77, np.uint8)] * 2)
    with pytest.raises(UnipError, match=r"2 of 2 pairs are bad:\n.*unknown id 77"):
        label_facts(data)
