from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from unip.analysis.config import AnalyzeConfig
from unip.analysis.samples import draw_sample, list_files
from unip.data.images.addresses import file_of, read_bytes
from unip.data.images.config import Conversion
from unip.data.manifests.facts import read_facts
from unip.data.manifests.manifest import paths_of, read_manifest, write_manifest
from unip.data.manifests.packed import open_packed
from unip.data.manifests.rows import Row, table_of, with_facts
from unip.data.manifests.scan import open_images
from unip.data.manifests.shards import read_note
from unip.data.manifests.sources import find_index
from unip.data.sampling.pretraining_crops import PretrainDataset, Squares, read_squares
from unip.data.verbs import pack
from unip.errors import UnipError
from unip.runtime.seeds import seed_for
from unip.training.config import TrainingConfig
from unip.training.feed import Feed, Positions

COUNT = 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a manifest, m.parquet, and the same images packed in four shards."""
    root = tmp_path_factory.mktemp("packed")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        image = Image.fromarray(rng.integers(0, 256, (6, 8), dtype=np.uint8)).resize((64 + i, 48))
        if i % 5 == 0:
            image = Image.fromarray(7000 + 9 * np.asarray(image).astype(np.uint16))
        image.save(root / f"images/{i:02d}.png")
    files = sorted((root / "images").iterdir())
    table = table_of([with_facts(Row(bytes(path), "infrared", "cam"), read_facts(bytes(path))) for path in files])
    hot = [Conversion(polarity="black-hot").as_json() if i % 2 else None for i in range(COUNT)]
    table = table.set_column(table.schema.get_field_index("conversion"), "conversion", pa.array(hot, pa.string()))
    write_manifest(table, root / "m.parquet")
    size = sum(path.stat().st_size for path in files)
    assert pack(manifest=root / "m.parquet", out=root / "packed", shard_mb=size / 4e6).shards == 4
    return root


def copied(place: Path, to: Path) -> Path:
    for path in filter(Path.is_file, (place / "packed").iterdir()):
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_an_address_is_read_like_a_file(place: Path) -> None:
    packed = open_packed(place / "packed")
    path = paths_of(packed)[7]
    shard, _, rest = path.rpartition("#")
    offset, size = map(int, rest.split("+"))
    assert read_bytes(path) == Path(shard).read_bytes()[offset : offset + size]
    assert read_bytes(Path(path)) == read_bytes(os.fsencode(path))
    assert file_of(os.fsencode(path)) == os.fsencode(shard) and file_of(b"/a/b.png") == b"/a/b.png"
    order = np.random.default_rng(seed_for(0, COUNT)).permutation(COUNT)
    assert read_bytes(path) == (place / f"images/{order[7]:02d}.png").read_bytes()
    plain = place / "images/03.png"
    assert read_bytes(plain) == plain.read_bytes()


def test_threads_and_workers_read_at_once(place: Path) -> None:
    paths = paths_of(open_packed(place / "packed")) * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_bytes, paths)) == [read_bytes(path) for path in paths]


def test_what_is_no_packed_set(place: Path, tmp_path: Path) -> None:
    assert find_index(tmp_path) is None and find_index(place / "packed") == place / "packed/packed.json"
    with pytest.raises(UnipError, match="not a packed set"):
        open_packed(tmp_path)
    (tmp_path / "packed.json").write_text("[1]")
    with pytest.raises(UnipError, match="not the index of a packed set"):
        open_packed(tmp_path)
    (tmp_path / "packed.json").write_text(json.dumps({"version": 99, "shards": [1]}))
    with pytest.raises(UnipError, match="not the index of a packed set"):
        open_packed(tmp_path)


def test_damaged_shards_are_named(place: Path, tmp_path: Path) -> None:
    copied(place, tmp_path)
    paths = paths_of(open_packed(tmp_path))
    shard = Path(os.fsdecode(file_of(os.fsencode(paths[0]))))
    whole = shard.read_bytes()
    shard.write_bytes(b"PAR1" + whole[40:])  # images no longer lie where they were
    with pytest.raises(UnipError, match=r"train-00000-of-00004\.parquet holds no image of \d+ bytes"):
        read_bytes(paths[0])
    shard.write_bytes(whole[:-1000])
    with pytest.raises(UnipError, match=r"shard .*train-00000-of-00004\.parquet cannot be read"):
        open_packed(tmp_path)
    shard.unlink()
    with pytest.raises(UnipError, match=r"shard .*train-00000-of-00004\.parquet cannot be read"):
        open_packed(tmp_path)
    other = next(tmp_path.glob("train-00001-*"))
    other.replace(shard)
    index = json.loads((tmp_path / "packed.json").read_text())
    index["shards"][0]["rows"] += 1
    (tmp_path / "packed.json").write_text(json.dumps(index))
    with pytest.raises(UnipError, match="holds 5 images, but the index says 6"):
        open_packed(tmp_path)


def test_shards_from_which_no_places_follow(place: Path, tmp_path: Path) -> None:
    copied(place, tmp_path)
    shard = next(tmp_path.glob("train-00000-*"))
    content, table = shard.read_bytes(), pq.read_table(shard)
    rows = table.num_rows

    def refused(changed: pa.Table, why: str) -> None:
        pq.write_table(changed, shard)
        with pytest.raises(UnipError, match=f"shard .*train-00000-of-00004.parquet {why}"):
            open_packed(tmp_path)

    for name in ("image", "path", "bytes"):
        refused(table.drop([name]), f"has not one column {name}")
        refused(table.rename_columns([name if each == "group" else each for each in table.column_names]), "has not one")
    number = table.column_names.index("bytes")
    for cells in (["80"] * rows, [0.5] * rows, [[80]] * rows, [True] * rows):
        refused(table.set_column(number, "bytes", pa.array(cells)), "holds values of type")
    refused(table.set_column(number, "bytes", pa.array([None] + [80] * (rows - 1))), "does not say how many bytes")
    refused(table.set_column(0, "image", pa.array([b"x"] * rows)), "has not one column image.bytes")
    for name in (b"modality", b"phash"):
        shard.write_bytes(content.replace(name, b"\xe8" + name[1:]))
        read_note(shard)
        with pytest.raises(UnipError, match="cannot be read"):
            open_packed(tmp_path)


def test_a_packed_set_moves(place: Path, tmp_path: Path) -> None:
    copied(place, tmp_path)
    moved = open_images([str(tmp_path)])
    assert all(path.startswith(f"{tmp_path.resolve()}/train-") for path in paths_of(moved))
    assert len(read_bytes(paths_of(moved)[0])) == moved["bytes"][0].as_py()


def test_packed_sets_mix_with_other_sources(place: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "x.png")
    both = open_images([str(place / "packed"), f"rgb={tmp_path}"])
    assert both.num_rows == COUNT + 1 and set(both["modality"].to_pylist()) == {"infrared", "rgb"}
    with pytest.raises(UnipError, match="tells the modality itself"):
        open_images([f"rgb={place / 'packed'}"])
    write_manifest(both, tmp_path / "m.parquet")  # as a run keeps it
    again = read_manifest(tmp_path / "m.parquet")
    assert paths_of(again) == paths_of(both)
    assert len(PretrainDataset(again, size=16, cache="ram")) == COUNT + 1


def test_a_mix_is_the_same_from_files_and_from_shards(place: Path) -> None:
    files, packed = open_images([str(place / "m.parquet")]), open_images([str(place / "packed")])
    order = np.random.default_rng(seed_for(0, COUNT)).permutation(COUNT)
    left = PretrainDataset(files.take(order), size=24, seed=3, cache="none")
    for cache in ("none", "ram"):
        right = PretrainDataset(packed, size=24, seed=3, cache=cache)
        for position in range(0, 2 * COUNT, 3):
            torch.testing.assert_close(left[position], right[position], rtol=0, atol=0)
    chosen = Squares(packed, 16).read(range(4))
    torch.testing.assert_close(chosen, Squares(files.take(order), 16).read(range(4)), rtol=0, atol=0)
    plain = torch.stack([read_squares(path, [16])[0] for path in paths_of(packed)[:4]])
    assert not torch.equal(chosen, plain)  # black-hot frames are inverted


def test_images_within_a_manifest_are_mixed(place: Path) -> None:
    files = open_images([str(place / "m.parquet")])
    data = [read_bytes(path) for path in paths_of(files)]
    inside = files.set_column(files.schema.get_field_index("image"), "image", pa.array(data, pa.binary()))
    inside = inside.set_column(inside.schema.get_field_index("path"), "path", pa.nulls(COUNT, pa.binary()))
    expected, found = (PretrainDataset(table, size=16, cache="none") for table in (files, inside))
    torch.testing.assert_close(found[5], expected[5], rtol=0, atol=0)


def test_an_analysis_draws_from_a_packed_set(place: Path) -> None:
    config = AnalyzeConfig(models=("any",), images=(str(place / "packed"),), max_images=6)
    sample = draw_sample(config, list_files(config)[0], [16])
    assert len(set(sample.names)) == 6 and all(read_bytes(path) for path in sample.names)


class Shown(PretrainDataset):
    """Gives the number of the image instead of its crop."""

    def __getitem__(self, position: int) -> torch.Tensor:
        super().__getitem__(position)
        return torch.tensor(self.order(position))


@pytest.mark.parametrize("ranks, workers", [(1, 2), (2, 0), (2, 2)])
def test_ranks_and_workers_share_an_epoch(place: Path, tmp_path: Path, ranks: int, workers: int) -> None:
    dataset = Shown(open_images([str(place / "packed")]), size=16, seed=1, cache="none")
    config = TrainingConfig(out=tmp_path, steps=5, batch_size=4, workers=workers)
    device = torch.device("cpu")

    def shown(start: int) -> list[list[list[int]]]:
        """Return for each rank the images of each step from ``start`` on."""
        return [
            [step[0].tolist() for step in Feed(dataset, config, start=start, rank=rank, ranks=ranks, device=device)]
            for rank in range(ranks)
        ]

    seen = shown(0)
    flat = [image for rank in seen for step in rank for image in step]
    assert sorted(flat) == list(range(COUNT))  # 5 steps of 4 are one epoch: each image once
    assert shown(3) == [rank[3:] for rank in seen]  # a resumed run goes on at the exact sample
    shares = [p for rank in range(ranks) for p in Positions(config, start=0, rank=rank, ranks=ranks)]
    assert sorted(position for share in shares for position in share) == list(range(COUNT))


def test_forked_and_copied_datasets_read_the_same(place: Path) -> None:
    dataset = PretrainDataset(open_images([str(place / "packed")]), size=16, seed=2, cache="none")
    expected = [dataset[i] for i in range(8)]  # the parent has read before it forks
    loader = DataLoader(dataset, batch_size=None, sampler=range(8), num_workers=2, multiprocessing_context="fork")
    for found, wanted in zip(loader, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[3], expected[3], rtol=0, atol=0)


def test_facts_are_read_from_shards(place: Path) -> None:
    packed = open_packed(place / "packed")
    for row in packed.to_pylist():
        facts = read_facts(row["path"])
        assert facts.problem is None and (facts.sha256, facts.phash) == (row["sha256"], row["phash"])
    assert "holds no image" in (read_facts(packed["path"][0].as_py() + b"9").problem or "")
