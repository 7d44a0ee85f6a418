from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from unip.data.images.decoding import read_image, to_grey8
from unip.data.images.jpeg import jpeg_grey8, reduction
from unip.data.manifests.manifest import paths_of
from unip.data.manifests.rows import FIELDS
from unip.data.manifests.scan import open_images
from unip.data.sampling.pretraining_crops import PretrainDataset, Squares, crop_box, read_squares, sample_indices
from unip.errors import UnipError
from unip.runtime.seeds import seed_for


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    root = tmp_path_factory.mktemp("mix")
    (root / "infpre/a/thermal").mkdir(parents=True)
    (root / "rgb/b").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(5):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 7), dtype=np.uint8)).resize((60 + i, 48))
        smooth.save(root / f"infpre/a/thermal/{i}.png")
    for i in range(4):
        colour = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((50, 40 + i))
        colour.save(root / f"rgb/b/{i}.png")
    deep = rng.integers(7000, 9000, (40, 50), dtype=np.uint16)
    Image.fromarray(deep).save(root / "infpre/a/thermal/deep.png")
    return open_images([str(root)])


def test_items_are_a_function_of_seed_and_position(table: pa.Table) -> None:
    first = PretrainDataset(table, size=32, seed=5, cache="ram")
    second = PretrainDataset(table, size=32, seed=5, cache="none")
    positions = [37, 0, 12, 3, 37]
    for position in positions:
        crop, flip = first[position]
        assert crop.shape == (1, 32, 32) and crop.dtype == torch.uint8 and isinstance(flip, bool)
        torch.testing.assert_close(first[position], second[position], rtol=0, atol=0)
    other = PretrainDataset(table, size=32, seed=6, cache="ram")
    assert any(not torch.equal(first[i][0], other[i][0]) for i in range(3))
    assert not torch.equal(first[0][0], first[len(first) + first_again(first)][0])


def first_again(dataset: PretrainDataset) -> int:
    """Return where in the second epoch the image of position 0 is shown: it must be cut differently."""
    n = len(dataset)
    return next(i for i in range(n) if dataset.order(n + i) == dataset.order(0))


def test_workers_and_copies_give_the_same_items(table: pa.Table) -> None:
    dataset = PretrainDataset(table, size=24, seed=1, cache="ram")
    expected = [dataset[i] for i in range(8)]
    batches = list(DataLoader(Subset(dataset, range(8)), batch_size=4, num_workers=2))
    crops, flips = (torch.cat(parts) for parts in zip(*batches, strict=True))
    torch.testing.assert_close(crops, torch.stack([crop for crop, _ in expected]), rtol=0, atol=0)
    assert flips.tolist() == [flip for _, flip in expected]
    copied = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copied[3], expected[3], rtol=0, atol=0)


def test_every_image_is_shown_once_an_epoch(table: pa.Table) -> None:
    dataset = PretrainDataset(table, size=16, cache="none")
    assert len(dataset) == 10
    assert sorted(dataset.order(i) for i in range(10, 20)) == list(range(10))


def test_an_item_is_the_resized_box(table: pa.Table) -> None:
    dataset = PretrainDataset(table, size=40, seed=2, flip=0.0, cache="none")
    for position in range(6):
        image = dataset.image(dataset.order(position))
        top, left, height, width = crop_box(*image.shape, (0.2, 1.0), np.random.default_rng(seed_for(2, position)))
        box = Image.fromarray(image[top : top + height, left : left + width])
        expected = np.asarray(box.resize((40, 40), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(dataset[position][0][0].numpy() - expected).max() <= 1


def test_flips(table: pa.Table) -> None:
    never, half, always = (PretrainDataset(table, size=16, flip=flip, cache="ram") for flip in (0.0, 0.5, 1.0))
    for i in range(4):
        torch.testing.assert_close(always[i][0], never[i][0], rtol=0, atol=0)
        assert (never[i][1], always[i][1]) == (False, True)
    assert {half[i][1] for i in range(20)} == {False, True}


def test_the_cache_notices_a_changed_file(table: pa.Table) -> None:
    wrong = table.set_column(FIELDS.index("width"), "width", pa.array([9] * table.num_rows, pa.int32()))
    with pytest.raises(UnipError, match=r"is \d+x\d+, but its manifest says 9x"):
        PretrainDataset(wrong, cache="ram")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_large_jpeg_files_are_decoded_reduced(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    for i, size in enumerate([(403, 301), (90, 70)]):
        small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(tmp_path / f"{i}.jpg", quality=95)
    table = open_images([f"rgb={tmp_path}"])
    kept, read = (PretrainDataset(table, size=32, seed=5, cache=cache) for cache in ("ram", "none"))
    for i, shape in enumerate([(151, 202), (70, 90)]):  # the first: 301 * sqrt(0.2 * 3/4) / 2 >= 32
        assert kept.image(i).shape == read.image(i).shape == shape
        whole = Image.fromarray(to_grey8(read_image(paths_of(table)[i])))
        expected = np.asarray(whole.resize(shape[::-1], Image.Resampling.BOX)).astype(int)
        assert np.abs(read.image(i) - expected).mean() < 1.5
    for position in range(6):
        torch.testing.assert_close(kept[position], read[position], rtol=0, atol=0)


def test_reductions() -> None:
    cases = [(240, 320, 100.0), (200, 320, 100.0), (400, 400, 100.0), (9000, 810, 100.0), (50, 60, 100.0)]
    assert [reduction(*case) for case in cases] == [2, 2, 4, 8, 1]
    assert jpeg_grey8(b"\xff\xd8\xff no image") is None and jpeg_grey8(b"\x89PNG") is None


def test_a_damaged_jpeg_is_named(table: pa.Table, tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.jpg")
    mix = PretrainDataset(open_images([f"rgb={tmp_path}"]), size=16, cache="none")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:-40])
    with pytest.raises(UnipError, match=r"a\.jpg is truncated or damaged"):
        mix[0]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UnipError, match=r"cannot read image .*a\.jpg: No such file"):
        mix[0]


def test_weights_of_a_manifest(table: pa.Table) -> None:
    place = table.schema.get_field_index("weight")
    weights = [0.0] * 5 + [1.0] * 5
    half = PretrainDataset(
        table.set_column(place, table.schema.field(place), pa.array(weights, pa.float32())), cache="none"
    )
    assert len(half) == 10 and sorted(half.order(i) for i in range(10)) == sorted(2 * list(range(5, 10)))
    wrong = table.set_column(place, table.schema.field(place), pa.array([-1.0] * 10, pa.float32()))
    with pytest.raises(UnipError, match="column weight"):
        PretrainDataset(wrong, cache="none")


def test_a_mix_of_nothing_is_refused(table: pa.Table) -> None:
    with pytest.raises(UnipError, match="lists no image"):
        PretrainDataset(table.slice(0, 0))


def test_crop_boxes_have_the_asked_areas_and_shapes() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(240, 320, (0.2, 1.0), rng) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 240).all() and (left + width <= 320).all()
    share = height * width / (240 * 320)
    assert 0.19 < share.min() < 0.22 and 0.97 < share.max() <= 1.0
    shape = np.log(width / height)
    assert abs(shape.min() - math.log(3 / 4)) < 0.03 and abs(shape.max() - math.log(4 / 3)) < 0.03
    small = share < 0.4  # these fit with any shape, so nothing was thrown away
    assert abs(share[small].mean() - 0.3) < 0.01 and abs(shape[small].mean()) < 0.02
    assert len(set(map(tuple, boxes))) > 3900


@pytest.mark.parametrize(
    "height, width, expected", [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (1, 1, (0, 0, 1, 1))]
)
def test_strips_fall_back_to_the_centre(height: int, width: int, expected: tuple[int, int, int, int]) -> None:
    rng = np.random.default_rng(0)
    assert crop_box(height, width, (0.9, 1.0), rng) == expected


def test_squashing_keeps_the_whole_image(table: pa.Table) -> None:
    ramp = np.tile(np.linspace(0, 255, 90).astype(np.uint8), (30, 1))
    path = Path(paths_of(table)[0]).parent / "ramp.webp"
    Image.fromarray(ramp).save(path, lossless=True)
    out, small = read_squares(path, [45, 15])
    assert out.shape == (1, 45, 45) and small.shape == (1, 15, 15) and out.dtype == torch.uint8
    expected = ramp.reshape(30, 45, 2).mean(axis=(0, 2))
    np.testing.assert_allclose(out[0].numpy().mean(axis=0)[2:-2], expected[2:-2], atol=1.5)
    pillow = np.asarray(Image.fromarray(ramp).resize((45, 45), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(out[0].numpy() - pillow).max() <= 1
    colour = np.stack([ramp, ramp[:, ::-1], np.full_like(ramp, 9)], axis=2)
    Image.fromarray(colour).save(path, lossless=True)
    (both,) = read_squares(path, [45], colour=True)
    assert both.shape == (3, 45, 45) and both.dtype == torch.uint8
    torch.testing.assert_close(both[0], out[0], rtol=0, atol=0)
    torch.testing.assert_close(both[1], out[0].flip(-1), rtol=0, atol=1)
    assert (both[2] == 9).all()


def test_squashing_leaves_the_progress_to_its_caller(table: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    assert Squares(table, 16).read(range(table.num_rows)).shape == (table.num_rows, 1, 16, 16)
    assert capsys.readouterr() == ("", "")


def test_seeded_choices(table: pa.Table) -> None:
    modality = table["modality"].to_pylist()
    chosen = sample_indices(table, "infrared", 3, seed=0)
    assert len(set(chosen)) == 3 and chosen == sorted(chosen)
    assert all(modality[i] == "infrared" for i in chosen)
    assert chosen == sample_indices(table, "infrared", 3, seed=0)
    assert len({tuple(sample_indices(table, "infrared", 3, seed=seed)) for seed in range(8)}) > 1
    assert len(sample_indices(table, "rgb", 99, seed=0)) == 4
    assert sample_indices(table, None, 99, seed=0) == list(range(10))
    grey_only = table.filter(pc.equal(table["modality"], "infrared"))
    with pytest.raises(UnipError, match="no rgb image among 6"):
        sample_indices(grey_only, "rgb", 1, seed=0)
