from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unip.data.manifests.manifest import paths_of, read_manifest, summary, summary_table, write_manifest
from unip.data.manifests.rows import FIELDS, REQUIRED, SCHEMA, Row, table_of
from unip.data.manifests.scan import open_images
from unip.data.manifests.sources import printable
from unip.errors import UnipError


def draw(path: Path, *, colour: bool = False, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)))
    shape = (size[1], size[0], 3) if colour else (size[1], size[0])
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def rows(table: pa.Table, *columns: str) -> list[tuple[object, ...]]:
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def infmix(root: Path) -> Path:
    draw(root / "infpre/tno/thermal/2.png", size=(20, 10))
    draw(root / "infpre/tno/thermal/1.png")
    draw(root / "infpre/tno/rgb/1.png", colour=True)
    draw(root / "infpre/road/thermal/day/1.png", colour=True)  # false colours: the folder's name counts
    draw(root / "rgb/bsds/1.png", colour=True)
    draw(root / "rgb/bsds/2.png")  # a grey photo is still one of the RGB images
    return root


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = draw(tmp_path / "a" / "x.png")
    try:
        path.rename(path.parent / "\udcff.png")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    table = open_images([str(tmp_path / "a")])
    write_manifest(table, tmp_path / "m.parquet")
    assert paths_of(read_manifest(tmp_path / "m.parquet")) == [str(path.parent / "\udcff.png")]
    assert printable(os.path.join(path.parent, "\udcff\n.png")).endswith(r"\xff\n.png")


def test_a_manifest_comes_back_and_moves_with_its_images(tmp_path: Path) -> None:
    mix = infmix(tmp_path / "mix")
    outside = draw(tmp_path / "outside" / "o.png")
    table = open_images([str(mix), f"infrared={outside.parent}"])
    write_manifest(table, mix / "manifest.parquet")
    assert read_manifest(mix / "manifest.parquet").to_pylist() == table.to_pylist()
    stored = pq.read_table(mix / "manifest.parquet")["path"].to_pylist()
    assert b"rgb/bsds/1.png" in stored and bytes(outside) in stored
    shutil.move(mix, tmp_path / "elsewhere")
    moved = read_manifest(tmp_path / "elsewhere" / "manifest.parquet")
    assert paths_of(moved)[0] == str(tmp_path / "elsewhere/rgb/bsds/1.png")
    assert open_images([str(tmp_path / "elsewhere" / "manifest.parquet")]).to_pylist() == moved.to_pylist()
    assert open_images([str(outside.parent)]).num_rows == 1


def test_older_manifests_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    table = open_images([f"rgb={tmp_path}"])
    old = table.select(list(REQUIRED)).set_column(0, "path", pa.array(["a.png"]))
    pq.write_table(old, tmp_path / "m.parquet")
    read = read_manifest(tmp_path / "m.parquet")
    assert read.schema.equals(table.schema) and paths_of(read) == [str(tmp_path / "a.png")]
    assert {**read.to_pylist()[0], "phash": 0} == {**table.to_pylist()[0], "phash": 0, "modified": None}


def test_dropped_rows_are_read_on_request(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (kept,) = open_images([f"rgb={tmp_path}"]).to_pylist()
    dropped = {**kept, "path": b"/gone.png", "kept": False, "reason": "cap"}
    write_manifest(table_of([Row(**kept), Row(**dropped)]), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").num_rows == 1
    assert read_manifest(tmp_path / "m.parquet", all_rows=True)["reason"].to_pylist() == ["", "cap"]
    write_manifest(table_of([Row(**dropped)]), tmp_path / "none.parquet")
    with pytest.raises(UnipError, match="keeps none of its rows"):
        read_manifest(tmp_path / "none.parquet")


def test_manifest_problems(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    with pytest.raises(UnipError, match="no such manifest"):
        read_manifest(path)
    path.write_text("hello")
    with pytest.raises(UnipError, match="not a Parquet file"):
        read_manifest(path)
    pq.write_table(pa.table({"path": ["a"], "source": ["b"]}), path)
    with pytest.raises(UnipError, match="no column modality, width"):
        read_manifest(path)
    draw(tmp_path / "a.png")
    table = open_images([f"rgb={tmp_path}"])
    with pytest.raises(UnipError, match="would be an empty manifest"):
        write_manifest(table.slice(0, 0), path)
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(UnipError, match=r"the manifest .* is empty"):
        read_manifest(path)

    def with_column(name: str, values: list[object]) -> None:
        pq.write_table(table.set_column(FIELDS.index(name), name, pa.array(values)), path)

    with_column("width", ["wide"])
    with pytest.raises(UnipError, match="column of the wrong type"):
        read_manifest(path)
    for name, values in [("sha256", [256]), ("width", ["12"]), ("height", [True]), ("kept", [1]), ("source", [0.5])]:
        with_column(name, values)  # which Arrow would cast without a word
        with pytest.raises(UnipError, match=f"column of the wrong type: {name} holds"):
            read_manifest(path)
    pq.write_table(table.rename_columns(["path" if name == "group" else name for name in FIELDS]), path)
    with pytest.raises(UnipError, match="two columns path"):
        read_manifest(path)
    with_column("modality", ["sonar"])
    with pytest.raises(UnipError, match="modality 'sonar'"):
        read_manifest(path)
    with_column("source", [None])
    with pytest.raises(UnipError, match="empty cells"):
        read_manifest(path)
    with_column("path", ["gone.png"])
    with pytest.raises(UnipError, match=r"1 of 1 images of .* do not exist:\n  .*gone\.png"):
        read_manifest(path)


@pytest.mark.parametrize("name", [each.name for each in SCHEMA if each.type == pa.string()])
def test_text_that_is_not_utf8_names_its_column(tmp_path: Path, name: str) -> None:
    draw(tmp_path / "a.png")
    table = open_images([f"rgb={tmp_path}"])
    bad = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(table.set_column(FIELDS.index(name), name, bad), tmp_path / "m.parquet")
    with pytest.raises(UnipError, match=f"damaged in column {name}"):
        read_manifest(tmp_path / "m.parquet")


def test_a_name_of_a_column_that_is_not_utf8(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    path = tmp_path / "m.parquet"
    write_manifest(open_images([f"rgb={tmp_path}"]), path)
    content = path.read_bytes()
    for name in (b"modality", b"phash"):
        path.write_bytes(content.replace(name, b"\xe8" + name[1:]))
        with pytest.raises(UnipError, match="not a Parquet file that can be read"):
            read_manifest(path)


def test_the_summary_adds_up(tmp_path: Path) -> None:
    table = open_images([str(infmix(tmp_path / "mix"))])
    parts = summary(table)
    assert [(part.source, part.modality, part.images) for part in parts] == [
        ("bsds", "rgb", 2),
        ("road", "infrared", 1),
        ("tno", "infrared", 2),
        ("tno", "rgb", 1),
    ]
    assert sum(part.bytes for part in parts) == sum(table["bytes"].to_pylist())
    assert (parts[2].width, parts[2].height) == (16, 9)
    assert summary_table(parts).row_count == len(parts) + 2
