from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unip.data.manifests.facts import read_facts
from unip.data.manifests.manifest import (
    FIELDS,
    REQUIRED,
    Row,
    notes,
    open_images,
    paths_of,
    read_manifest,
    scan_sources,
    summary,
    summary_table,
    table_of,
    write_manifest,
)
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


def test_the_infmix_layout_is_recognised(tmp_path: Path) -> None:
    table = scan_sources([str(infmix(tmp_path / "mix"))])
    assert rows(table, "source", "modality") == [
        ("bsds", "rgb"),
        ("bsds", "rgb"),
        ("road", "infrared"),
        ("tno", "rgb"),
        ("tno", "infrared"),
        ("tno", "infrared"),
    ]
    last = table.slice(5).to_pylist()[0]
    path = tmp_path / "mix/infpre/tno/thermal/2.png"
    assert last == {
        "path": bytes(path),
        "image": None,
        "modality": "infrared",
        "source": "tno",
        "group": "",
        "frame": None,
        "width": 20,
        "height": 10,
        "bits": 8,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "phash": read_facts(str(path)).phash,
        "weight": 1.0,
        "grey": True,
        "conversion": None,
        "kept": True,
        "reason": "",
    }
    assert notes(table) == []


@pytest.mark.parametrize(
    "inner, expected",
    [
        ("infpre", {("road", "infrared"), ("tno", "infrared"), ("tno", "rgb")}),
        ("infpre/tno", {("tno", "infrared"), ("tno", "rgb")}),
        ("infpre/tno/thermal", {("tno", "infrared")}),
        ("rgb", {("bsds", "rgb")}),
    ],
)
def test_parts_of_the_infmix_layout(tmp_path: Path, inner: str, expected: set[tuple[str, str]]) -> None:
    table = scan_sources([str(infmix(tmp_path / "mix") / inner)])
    assert set(rows(table, "source", "modality")) == expected


def test_the_order_and_the_rows_do_not_depend_on_the_way_sources_are_given(tmp_path: Path) -> None:
    mix = infmix(tmp_path / "mix")
    whole = scan_sources([str(mix)], workers=3)
    parts = scan_sources([str(mix / "rgb"), str(mix / "infpre"), str(mix / "infpre/tno")], workers=1)
    assert parts.to_pylist() == whole.to_pylist()


def test_pixels_tell_where_names_do_not(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / f"camera/ir/{i}.png")
        draw(tmp_path / f"camera/photos/{i}.png", colour=i > 0)
    table = scan_sources([str(tmp_path / "camera")])
    assert set(rows(table, "source", "modality")) == {("camera", "infrared"), ("camera", "rgb")}
    assert all((kind == "infrared") == (b"/ir/" in path) for path, kind in rows(table, "path", "modality"))
    assert [note.split(" taken for ")[1] for note in notes(table)] == ["infrared by its pixels", "rgb by its pixels"]


def test_a_modality_can_be_settled(tmp_path: Path) -> None:
    draw(tmp_path / "set/images/a.png", colour=True)
    draw(tmp_path / "set/masks/a.png")
    table = scan_sources([f"infrared={tmp_path / 'set'}"])
    assert rows(table, "source", "modality") == [("set", "infrared")]  # and the mask is left out
    assert notes(table) == []
    assert rows(scan_sources([f"infrared={tmp_path / 'set/images'}"]), "source") == [("set",)]
    assert rows(scan_sources([f"rgb={tmp_path / 'set/images/a.png'}"]), "source", "modality") == [("set", "rgb")]


def test_a_folder_may_have_an_equals_sign(tmp_path: Path) -> None:
    draw(tmp_path / "k=3" / "a.png")
    assert scan_sources([str(tmp_path / "k=3")]).num_rows == 1


def test_source_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnipError, match="no image source"):
        scan_sources([])
    with pytest.raises(UnipError, match="unknown modality 'thermal'"):
        scan_sources([f"thermal={tmp_path}"])
    with pytest.raises(UnipError, match="no such folder or image"):
        scan_sources([str(tmp_path / "gone")])
    with pytest.raises(UnipError, match="no images in"):
        scan_sources([str(tmp_path)])
    draw(tmp_path / "a" / "x.png")
    with pytest.raises(UnipError, match="a manifest tells the modality itself"):
        scan_sources(["infrared=m.parquet"])
    table = scan_sources([f"infrared={tmp_path / 'a'}"])
    write_manifest(table, tmp_path / "m.parquet")
    with pytest.raises(UnipError, match=r"two sources list .*x\.png, once as infrared and once as rgb"):
        scan_sources([str(tmp_path / "m.parquet"), f"rgb={tmp_path / 'a'}"])


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = draw(tmp_path / "a" / "x.png")
    try:
        path.rename(path.parent / "\udcff.png")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    table = scan_sources([str(tmp_path / "a")])
    write_manifest(table, tmp_path / "m.parquet")
    assert paths_of(read_manifest(tmp_path / "m.parquet")) == [str(path.parent / "\udcff.png")]
    assert printable(os.path.join(path.parent, "\udcff\n.png")).endswith(r"\xff\n.png")


def test_damaged_images_are_listed_together(tmp_path: Path) -> None:
    for i in range(8):
        path = draw(tmp_path / "a" / f"{i}.png", size=(40, 40))
        if i:
            path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnipError) as caught:
        scan_sources([str(tmp_path / "a")])
    assert caught.value.what.startswith("7 of 8 images cannot be used:")
    assert "1.png: image file is truncated" in caught.value.what and "5.png" in caught.value.what
    assert "6.png" not in caught.value.what and "and 2 more" in caught.value.what


def test_a_manifest_comes_back_and_moves_with_its_images(tmp_path: Path) -> None:
    mix = infmix(tmp_path / "mix")
    outside = draw(tmp_path / "outside" / "o.png")
    table = scan_sources([str(mix), f"infrared={outside.parent}"])
    write_manifest(table, mix / "manifest.parquet")
    assert read_manifest(mix / "manifest.parquet").to_pylist() == table.to_pylist()
    stored = pq.read_table(mix / "manifest.parquet")["path"].to_pylist()
    assert b"rgb/bsds/1.png" in stored and bytes(outside) in stored
    shutil.move(mix, tmp_path / "elsewhere")
    moved = read_manifest(tmp_path / "elsewhere" / "manifest.parquet")
    assert paths_of(moved)[0] == str(tmp_path / "elsewhere/rgb/bsds/1.png")
    assert scan_sources([str(tmp_path / "elsewhere" / "manifest.parquet")]).to_pylist() == moved.to_pylist()
    assert open_images([str(tmp_path / "elsewhere" / "manifest.parquet")]).to_pylist() == moved.to_pylist()
    assert open_images([str(outside.parent)]).num_rows == 1


def test_older_manifests_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    table = scan_sources([f"rgb={tmp_path}"])
    old = table.select(list(REQUIRED)).set_column(0, "path", pa.array(["a.png"]))
    pq.write_table(old, tmp_path / "m.parquet")
    read = read_manifest(tmp_path / "m.parquet")
    assert read.schema.equals(table.schema) and paths_of(read) == [str(tmp_path / "a.png")]
    assert {**read.to_pylist()[0], "phash": 0} == {**table.to_pylist()[0], "phash": 0}


def test_dropped_rows_are_read_on_request(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (kept,) = scan_sources([f"rgb={tmp_path}"]).to_pylist()
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
    table = scan_sources([f"rgb={tmp_path}"])
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
    with_column("modality", ["sonar"])
    with pytest.raises(UnipError, match="modality 'sonar'"):
        read_manifest(path)
    with_column("source", [None])
    with pytest.raises(UnipError, match="empty cells"):
        read_manifest(path)
    with_column("path", ["gone.png"])
    with pytest.raises(UnipError, match=r"1 of 1 images of .* do not exist:\n  .*gone\.png"):
        read_manifest(path)


def test_the_summary_adds_up(tmp_path: Path) -> None:
    table = scan_sources([str(infmix(tmp_path / "mix"))])
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
