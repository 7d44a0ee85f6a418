from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from tests.data.images.radiometric_files import dji_jpeg
from unip.data import packing
from unip.data.config import PackConfig
from unip.data.images.addresses import read_bytes
from unip.data.images.config import Conversion
from unip.data.images.conversion import grey8
from unip.data.images.decoding import decode_image, read_grey8
from unip.data.manifests.facts import read_facts
from unip.data.manifests.manifest import paths_of, read_manifest, with_paths, write_manifest
from unip.data.manifests.rows import Row, table_of, with_facts
from unip.data.manifests.scan import open_images
from unip.data.manifests.shards import SkippedImage
from unip.data.packing import make_plan
from unip.data.verbs import pack
from unip.errors import UnipError
from unip.runtime.seeds import seed_for

COUNT = 24


def draw(folder: Path, count: int = COUNT) -> list[Path]:
    """Draw PNG, JPEG, WebP and 16-bit images of a few sizes, one in a subfolder with an odd name."""
    rng = np.random.default_rng(0)
    (folder / "sub").mkdir(parents=True)
    paths = []
    for i in range(count):
        name = ("a.png", "b.jpg", "c.webp", "d16.png")[i % 4]
        path = folder / ("sub" if i % 3 else "") / f"{i:03d}{name}"
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((72 + i, 50 + i))
        if i % 4 != 1:
            image = image.convert("L")
        if i % 4 == 3:
            image = Image.fromarray(7000 + 11 * np.asarray(image).astype(np.uint16))
        image.save(path)
        paths.append(path)
    return paths


def write(folder: Path, paths: list[Path], **columns: list[Any]) -> Path:
    """Write a manifest of files."""
    rows = [Row(bytes(path), "infrared", f"s{i % 2}") for i, path in enumerate(paths)]
    table = table_of([with_facts(row, read_facts(row.path)) for row in rows])
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    write_manifest(table, folder / "manifest.parquet")
    return folder / "manifest.parquet"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write(tmp_path / "set", draw(tmp_path / "set"))


def files(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a folder, hidden ones too, but for the list of them."""
    there = [path for path in folder.iterdir() if path.name != ".unip"] if folder.exists() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in there}


def test_a_packed_set_holds_every_file_as_it_was(manifest: Path, tmp_path: Path) -> None:
    result = pack(manifest=manifest, out=tmp_path / "out", shard_mb=0.01)
    assert result.shards > 2 and result.images == COUNT and result.skipped == () and result.kept_shards == 0
    names = sorted(files(tmp_path / "out"))
    assert names == ["packed.json"] + [f"train-{i:05d}-of-{result.shards:05d}.parquet" for i in range(result.shards)]
    assert result.bytes == sum((tmp_path / "out" / name).stat().st_size for name in names[1:])

    source, packed = read_manifest(manifest), open_images([str(tmp_path / "out")])
    order = np.random.default_rng(seed_for(0, COUNT)).permutation(COUNT)
    assert [read_bytes(path) for path in paths_of(packed)] == [
        Path(path).read_bytes() for path in paths_of(source.take(order))
    ]
    same = [name for name in source.column_names if name != "path"]
    assert packed.select(same).to_pylist() == source.take(order).select(same).to_pylist()
    rows = pq.read_table(tmp_path / "out" / names[1]).to_pylist()  # in the file, the path is the one of the manifest
    assert rows[0]["path"] == os.fsencode(os.path.relpath(paths_of(source)[order[0]], manifest.parent))
    assert rows[0]["image"]["path"] == os.path.basename(os.fsdecode(rows[0]["path"]))

    index = json.loads((tmp_path / "out/packed.json").read_text())
    assert index["manifest_sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert index["seed"] == 0 and index["rows"] == COUNT and sum(s["rows"] for s in index["shards"]) == COUNT
    sizes = [shard["rows"] for shard in index["shards"]]
    assert max(sizes) - min(sizes) <= 1
    assert open_images([str(result.index)]).equals(packed)


def test_the_order_follows_the_seed(manifest: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        pack(manifest=manifest, out=tmp_path / name, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    first, other = (open_images([str(tmp_path / name)])["sha256"].to_pylist() for name in "ac")
    assert first != other and sorted(first) == sorted(other)


def stop_in(monkeypatch: pytest.MonkeyPatch, shard: int, error: BaseException) -> None:
    """Let packing fail in the middle of a shard."""
    real = packing.write_shard

    def write_shard(path: Path, schema: Any, items: Iterator[Any], note: Any) -> None:
        def some() -> Iterator[Any]:
            for number, item in enumerate(items):
                if number == 2:
                    raise error
                yield item

        real(path, schema, some() if path.name.startswith(f"train-{shard:05d}") else items, note)

    monkeypatch.setattr(packing, "write_shard", write_shard)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_pack_goes_on(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    settings = {"manifest": manifest, "shard_mb": 0.01, "short_side": 48}
    whole = pack(out=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        stop_in(patch, 2, error)
        with pytest.raises((KeyboardInterrupt, UnipError)):
            pack(out=tmp_path / "cut", **settings)
    left = files(tmp_path / "cut")
    assert len(left) == 2 and left.items() <= files(tmp_path / "whole").items()  # nothing half-written, no index
    with pytest.raises(UnipError, match=r"cannot read .*packed\.json"):
        open_images([str(tmp_path / "cut" / "packed.json")])
    times = {name: (tmp_path / "cut" / name).stat().st_mtime_ns for name in left}
    (tmp_path / "cut/.unip/tmp/.unip-x1").mkdir(parents=True)  # what a kill leaves
    assert pack(out=tmp_path / "cut", dry_run=True, **settings).kept_shards == 2
    result = pack(out=tmp_path / "cut", **settings)
    assert result.kept_shards == 2 and result.shards == whole.shards
    assert files(tmp_path / "cut") == files(tmp_path / "whole") and not (tmp_path / "cut/.unip/tmp").exists()
    assert {name: (tmp_path / "cut" / name).stat().st_mtime_ns for name in left} == times
    assert pack(out=tmp_path / "cut", **settings).kept_shards == whole.shards  # and once more does nothing


def test_a_shard_cut_by_a_power_failure_is_written_again(manifest: Path, tmp_path: Path) -> None:
    pack(manifest=manifest, out=tmp_path / "out", shard_mb=0.01)
    before = files(tmp_path / "out")
    shard = next((tmp_path / "out").glob("train-00001-*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    pack(manifest=manifest, out=tmp_path / "out", shard_mb=0.01)
    after = files(tmp_path / "out")
    assert after.pop(f"damaged-{shard.name}") and after == before


def test_other_settings_need_overwrite(manifest: Path, tmp_path: Path) -> None:
    pack(manifest=manifest, out=tmp_path / "out", shard_mb=0.01)
    with pytest.raises(UnipError, match="of another manifest or other settings"):
        pack(manifest=manifest, out=tmp_path / "out", seed=1)
    with pytest.raises(UnipError, match="of another manifest or other settings"):
        pack(manifest=manifest, out=tmp_path / "out", seed=1, dry_run=True)
    pack(manifest=manifest, out=tmp_path / "out", seed=1, overwrite=True)
    assert sorted(files(tmp_path / "out")) == ["packed.json", "train-00000-of-00001.parquet"]


def test_files_of_others_are_not_replaced(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "out/train-00000-of-00001.parquet")
    with pytest.raises(UnipError, match="was not written by `unip data pack`"):
        pack(manifest=manifest, out=tmp_path / "out", overwrite=True)


def test_a_dry_run_writes_nothing(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = pack(manifest=manifest, out=tmp_path / "out", dry_run=True)
    assert result.shards == 1 and result.bytes == sum(read_manifest(manifest)["bytes"].to_pylist())
    assert not (tmp_path / "out").exists()
    assert "24 images, about 0." in capsys.readouterr().out


def test_bad_files_are_skipped_and_listed(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = paths_of(read_manifest(manifest))
    whole = Path(paths[3]).read_bytes()
    os.unlink(paths[0])
    Path(paths[3]).write_bytes(whole[:100])
    Path(paths[5]).write_bytes(b"\0" * os.path.getsize(paths[5]))
    result = pack(manifest=manifest, out=tmp_path / "out", shard_mb=0.01)
    assert result.images == COUNT - 3 and {entry.path for entry in result.skipped} == {paths[i] for i in (0, 3, 5)}
    reason = {entry.path: entry.reason for entry in result.skipped}
    assert reason[paths[0]] == "cannot be read: No such file or directory"
    assert f"100 bytes instead of {len(whole)}" in reason[paths[3]] and "another content" in reason[paths[5]]
    assert f"skipped {paths[0]}: cannot be read" in capsys.readouterr().out
    packed = open_images([str(tmp_path / "out")])
    assert packed.num_rows == COUNT - 3
    listed = json.loads((tmp_path / "out/packed.json").read_text())["skipped"]
    assert [SkippedImage(**row) for row in listed] == list(result.skipped)

    Path(paths[3]).write_bytes(whole)  # put back: its shard, and no other, is made again
    again = pack(manifest=manifest, out=tmp_path / "out", shard_mb=0.01)
    assert again.images == COUNT - 2 and again.kept_shards == again.shards - 1


def test_a_missing_disk_stops_the_work(manifest: Path, tmp_path: Path) -> None:
    for path in paths_of(read_manifest(manifest)):
        os.unlink(path)
    with pytest.raises(UnipError, match="none of the 24 images of train-00000-of-00001"):
        pack(manifest=manifest, out=tmp_path / "out")
    assert files(tmp_path / "out") == {}


def test_an_output_that_cannot_be_written(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnipError, match="cannot write"):
        pack(manifest=manifest, out=tmp_path / "file" / "out")


def test_names_of_any_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    path = draw(folder, 1)[0]
    odd = os.fsencode(folder) + b"/new\nline\xff.png"
    try:
        os.rename(path, odd)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    manifest = write(folder, [Path(os.fsdecode(odd))])
    pack(manifest=manifest, out=tmp_path / "o\nut")
    shard = pq.read_table(tmp_path / "o\nut" / "train-00000-of-00001.parquet").to_pylist()[0]
    assert shard["path"] == b"new\nline\xff.png" and shard["image"]["path"] == "new\\nline\\xff.png"
    assert read_bytes(open_images([str(tmp_path / "o\nut")])["path"][0].as_py()) == Path(os.fsdecode(odd)).read_bytes()


def test_a_smaller_copy_keeps_type_and_format(manifest: Path, tmp_path: Path) -> None:
    pack(manifest=manifest, out=tmp_path / "out", short_side=32)
    source = {row["source"] + str(row["phash"]): row for row in read_manifest(manifest).to_pylist()}
    for row in open_images([str(tmp_path / "out")]).to_pylist():
        old = source[row["source"] + str(row["phash"])]
        data = read_bytes(row["path"])
        image, before = decode_image(data, ""), decode_image(read_bytes(old["path"]), "")
        assert min(image.shape[:2]) == 32 == min(row["width"], row["height"])
        assert image.shape[:2] == (row["height"], row["width"]) and image.dtype == before.dtype
        assert image.ndim == 2 or data.startswith(b"RIFF")  # WebP knows no grey
        assert row["bits"] == old["bits"] == 8 * image.dtype.itemsize
        assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert data[:3] == read_bytes(old["path"])[:3]
        expected = (before if before.ndim == 2 else grey8(before)).astype(float).mean()
        assert abs(image.astype(float).mean() - expected) < 0.03 * expected


def test_small_images_are_not_touched(manifest: Path, tmp_path: Path) -> None:
    pack(manifest=manifest, out=tmp_path / "out", short_side=400)
    packed = open_images([str(tmp_path / "out")])
    assert sorted(packed["sha256"].to_pylist()) == sorted(read_manifest(manifest)["sha256"].to_pylist())


@pytest.mark.parametrize("format, magic", [("webp", b"RIFF"), ("jpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG")])
def test_other_formats(tmp_path: Path, format: str, magic: bytes) -> None:
    paths = draw(tmp_path / "set")
    hot = Conversion(method="minmax", polarity="black-hot")
    manifest = write(tmp_path / "set", paths, conversion=[hot.as_json()] * COUNT)
    pack(manifest=manifest, out=tmp_path / "out", format=format, quality=95)
    source = {row["phash"]: row for row in read_manifest(manifest).to_pylist()}
    for row in open_images([str(tmp_path / "out")]).to_pylist():
        data = read_bytes(row["path"])
        assert data.startswith(magic)
        image, before = decode_image(data, ""), decode_image(read_bytes(source[row["phash"]]["path"]), "")
        if before.dtype == np.uint16 and format != "png":  # the conversion is in the pixels now
            assert row["conversion"] is None and row["bits"] == 8
        else:  # and here it is still to be applied
            assert row["conversion"] == hot.as_json() and row["bits"] == 8 * before.dtype.itemsize
        difference = grey8(image, Conversion.from_json(row["conversion"])).astype(int) - grey8(before, hot)
        assert np.abs(difference).mean() < (0.6 if format == "png" else 4)
        if format == "png":
            np.testing.assert_array_equal(image, before if before.dtype == np.uint16 else grey8(before))


def test_temperatures_and_wide_samples_are_not_lost(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(7000, 9000, (60, 80), dtype=np.uint16)
    (tmp_path / "set").mkdir()
    dji, kelvin = tmp_path / "set/dji.jpg", tmp_path / "set/kelvin.tif"
    dji.write_bytes(dji_jpeg(counts, np.zeros((60, 80), np.uint8)))
    tifffile.imwrite(kelvin, rng.uniform(280, 320, (60, 80)).astype(np.float32))
    thermal, window = Conversion(radiometric=True), Conversion(method="window", window=(290, 310))
    manifest = write(tmp_path / "set", [dji, kelvin], conversion=[thermal.as_json(), window.as_json()])
    expected = {"dji.jpg": read_grey8(dji, thermal), "kelvin.tif": read_grey8(kelvin, window)}
    for format, limit in (("keep", 0), ("png", 0), ("webp", 6)):
        pack(manifest=manifest, out=tmp_path / format, format=format, quality=100)
        names = pq.read_table(tmp_path / format / "train-00000-of-00001.parquet")["path"].to_pylist()
        for raw, row in zip(names, open_images([str(tmp_path / format)]).to_pylist(), strict=True):
            name = raw.decode()
            found = read_grey8(os.fsdecode(row["path"]), Conversion.from_json(row["conversion"]))
            assert np.abs(found.astype(int) - expected[name]).mean() <= limit
            baked = format == "webp" or (format == "png" and name == "kelvin.tif")  # PNG holds counts, not floats
            assert (row["conversion"] is None) == baked


def test_images_within_the_manifest(tmp_path: Path) -> None:
    paths = draw(tmp_path / "set")
    table = table_of([with_facts(Row(bytes(path), "rgb", "hub"), read_facts(bytes(path))) for path in paths])
    data = [path.read_bytes() for path in paths]
    table = table.set_column(1, table.schema.field("image"), pa.array(data, pa.binary()))
    write_manifest(with_paths(table, [None] * COUNT), tmp_path / "m.parquet")
    pack(manifest=tmp_path / "m.parquet", out=tmp_path / "out")
    packed = open_images([str(tmp_path / "out")])
    assert sorted(read_bytes(path) for path in paths_of(packed)) == sorted(data)


def test_a_packed_set_can_be_packed_again(manifest: Path, tmp_path: Path) -> None:
    pack(manifest=manifest, out=tmp_path / "one", shard_mb=0.01)
    pack(manifest=tmp_path / "one", out=tmp_path / "two", seed=9)
    one, two = (open_images([str(tmp_path / name)])["sha256"].to_pylist() for name in ("one", "two"))
    assert one != two and sorted(one) == sorted(two)


def test_the_plan_needs_no_more_than_the_manifest(manifest: Path, tmp_path: Path) -> None:
    plan, finished = make_plan(PackConfig(manifest=manifest, out=tmp_path, shard_mb=0.02))
    assert finished == {}
    assert sorted(np.concatenate([plan.rows(i) for i in range(plan.shards)]).tolist()) == list(range(COUNT))


def test_datasets_reads_it_from_disk_and_streamed(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    pack(manifest=manifest, out=tmp_path / "out", shard_mb=0.01)
    packed = open_images([str(tmp_path / "out")])
    pictures = [decode_image(read_bytes(path), path) for path in paths_of(packed)]
    pattern = str(tmp_path / "out" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(tmp_path / "cache"))
    folder = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache2"))
    streamed = datasets.load_dataset("parquet", data_files=pattern, split="train", streaming=True)
    assert isinstance(loaded.features["image"], datasets.Image)
    for rows in (loaded, folder, list(streamed)):
        assert len(rows) == COUNT
        for row, sha, picture in zip(rows, packed["sha256"].to_pylist(), pictures, strict=True):
            assert row["sha256"] == sha
            np.testing.assert_array_equal(np.asarray(row["image"]), picture)
