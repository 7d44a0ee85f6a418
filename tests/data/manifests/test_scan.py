from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.data.manifests.test_manifest import draw, infmix, rows
from unip.data.manifests import headers
from unip.data.manifests.facts import FileFacts, read_facts
from unip.data.manifests.manifest import notes, write_manifest
from unip.data.manifests.scan import open_images, read_images
from unip.errors import UnipError


def test_the_infmix_layout_is_recognised(tmp_path: Path) -> None:
    table = open_images([str(infmix(tmp_path / "mix"))])
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
        "sha256": "",
        "phash": 0,
        "weight": 1.0,
        "grey": True,
        "conversion": None,
        "kept": True,
        "reason": "",
        "modified": path.stat().st_mtime_ns,
    }
    (read,) = [row for row in read_images([str(tmp_path / "mix")])[0] if row.path == bytes(path)]
    found = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "phash": read_facts(str(path)).phash}
    assert {name: getattr(read, name) for name in last} == {**last, **found, "modified": None}
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
    table = open_images([str(infmix(tmp_path / "mix") / inner)])
    assert set(rows(table, "source", "modality")) == expected


def test_the_order_and_the_rows_do_not_depend_on_the_way_sources_are_given(tmp_path: Path) -> None:
    mix = infmix(tmp_path / "mix")
    whole = open_images([str(mix)], workers=3)
    parts = open_images([str(mix / "rgb"), str(mix / "infpre"), str(mix / "infpre/tno")], workers=1)
    assert parts.to_pylist() == whole.to_pylist()


def test_pixels_tell_where_names_do_not(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / f"camera/ir/{i}.png")
        draw(tmp_path / f"camera/photos/{i}.png", colour=i > 0)
    table = open_images([str(tmp_path / "camera")])
    assert set(rows(table, "source", "modality")) == {("camera", "infrared"), ("camera", "rgb")}
    assert all((kind == "infrared") == (b"/ir/" in path) for path, kind in rows(table, "path", "modality"))
    assert [note.split(" taken for ")[1] for note in notes(table)] == ["infrared by its pixels", "rgb by its pixels"]


def test_a_modality_can_be_settled(tmp_path: Path) -> None:
    draw(tmp_path / "set/images/a.png", colour=True)
    for masks in ("masks", "labels", "GT"):
        draw(tmp_path / "set" / masks / "a.png")
    table = open_images([f"infrared={tmp_path / 'set'}"])
    assert rows(table, "source", "modality") == [("set", "infrared")]  # and the masks are left out
    assert notes(table) == []
    assert rows(open_images([f"infrared={tmp_path / 'set/images'}"]), "source") == [("set",)]
    assert rows(open_images([f"rgb={tmp_path / 'set/images/a.png'}"]), "source", "modality") == [("set", "rgb")]


@pytest.mark.parametrize("frames", ["images", "Images", "imgs", "img", "image", "JPEGImages", "."])
@pytest.mark.parametrize("masks", ["masks", "Masks", "labels", "annotations/binary"])
def test_masks_beside_frames_are_left_out_in_all_usual_layouts(tmp_path: Path, frames: str, masks: str) -> None:
    frame = draw(tmp_path / "set/train" / frames / "a.png")
    draw(tmp_path / "set/train" / masks / "a.png")
    table, _ = read_images([str(tmp_path / "set")])
    assert [os.fsdecode(row.path) for row in table] == [str(frame)]


def test_a_folder_called_labels_among_folders_of_frames_is_read(tmp_path: Path) -> None:
    for name in ("labels", "tools"):
        draw(tmp_path / "photos" / name / "a.png")
    assert open_images([str(tmp_path / "photos")]).num_rows == 2


def test_a_folder_may_have_an_equals_sign(tmp_path: Path) -> None:
    draw(tmp_path / "k=3" / "a.png")
    assert open_images([str(tmp_path / "k=3")]).num_rows == 1


def test_source_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnipError, match="no image source"):
        open_images([])
    with pytest.raises(UnipError, match="unknown modality 'thermal'"):
        open_images([f"thermal={tmp_path}"])
    with pytest.raises(UnipError, match="no such folder or image"):
        open_images([str(tmp_path / "gone")])
    with pytest.raises(UnipError, match="no images in"):
        open_images([str(tmp_path)])
    draw(tmp_path / "a" / "x.png")
    with pytest.raises(UnipError, match="a manifest tells the modality itself"):
        open_images(["infrared=m.parquet"])
    table = open_images([f"infrared={tmp_path / 'a'}"])
    write_manifest(table, tmp_path / "m.parquet")
    with pytest.raises(UnipError, match=r"two sources list .*x\.png, once as infrared and once as rgb"):
        open_images([str(tmp_path / "m.parquet"), f"rgb={tmp_path / 'a'}"])


def test_damaged_images_are_listed_together(tmp_path: Path) -> None:
    for i in range(8):
        path = draw(tmp_path / "a" / f"{i}.png", size=(40, 40))
        if i:
            path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnipError) as caught:
        open_images([str(tmp_path / "a")])
    assert caught.value.what.startswith("7 of 8 images cannot be used:")
    assert "1.png: image file is truncated" in caught.value.what and "5.png" in caught.value.what
    assert "6.png" not in caught.value.what and "and 2 more" in caught.value.what


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers were read."""
    names: list[str] = []
    real = headers.read_header

    def read(path: bytes, *, pixels: bool = False) -> tuple[FileFacts, int | None]:
        names.append(Path(os.fsdecode(path)).name)
        return real(path, pixels=pixels)

    monkeypatch.setattr(headers, "read_header", read)
    return names


def test_what_a_manifest_knows_is_not_opened(
    tmp_path: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    mix, known = infmix(tmp_path / "mix"), tmp_path / "m.parquet"
    first = open_images([str(mix)])
    write_manifest(first, known)
    assert len(opened) == 6
    opened.clear()
    assert open_images([str(mix)], known=known).equals(first) and not opened
    draw(mix / "rgb/bsds/1.png", colour=True, size=(30, 30))
    draw(mix / "rgb/bsds/3.png", colour=True)
    again = open_images([str(mix)], known=known)
    assert sorted(opened) == ["1.png", "3.png"] and again.equals(open_images([str(mix)]))
    said = " ".join(capsys.readouterr().out.split())
    assert f"1 of 7 images have changed since {known} was written, and are read again: {mix}/rgb/bsds/1.png" in said
    assert "3.png" not in said
    (tmp_path / "bad.parquet").write_bytes(b"no manifest")
    assert open_images([str(mix)], known=tmp_path / "bad.parquet").equals(again)


def test_pixels_tell_the_modality_of_a_folder_by_all_files_or_none(tmp_path: Path, opened: list[str]) -> None:
    folder, known = tmp_path / "camera", tmp_path / "m.parquet"
    for number in range(5):
        draw(folder / f"{number}.png", colour=number > 2)
    draw(tmp_path / "camera/other/0.png", colour=True)
    first = open_images([str(folder)])
    assert first["modality"].to_pylist() == [*["infrared"] * 5, "rgb"]
    write_manifest(first, known)
    opened.clear()
    assert open_images([str(folder)], known=known).equals(first) and not opened
    draw(folder / "0.png", colour=True)  # now colours are most
    assert open_images([str(folder)], known=known)["modality"].to_pylist() == ["rgb"] * 6
    assert sorted(opened) == [f"{number}.png" for number in range(5)]
    known = tmp_path / "other.parquet"
    write_manifest(open_images([str(folder)]), known)
    opened.clear()
    (folder / "0.png").unlink(), (folder / "4.png").unlink()  # and grey again
    assert open_images([str(folder)], known=known)["modality"].to_pylist() == [*["infrared"] * 3, "rgb"]
    assert sorted(opened) == ["1.png", "2.png", "3.png"]


def test_single_files_of_a_folder_tell_its_modality_together(tmp_path: Path) -> None:
    files = [str(draw(tmp_path / f"camera/{number}.png", colour=number == 0)) for number in range(3)]
    table = open_images(files)
    assert set(table["modality"].to_pylist()) == {"infrared"} and len(notes(table)) == 1


def test_sources_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a/x.png")
    for scan in (open_images, read_images):
        with pytest.raises(UnipError, match=r"two sources list .*x\.png, once as infrared and once as rgb"):
            scan([f"infrared={tmp_path / 'a'}", f"rgb={tmp_path / 'a'}"])


def test_a_source_may_tell_the_modality_of_files_that_another_lists_first(tmp_path: Path) -> None:
    draw(tmp_path / "set/a/x.png")
    draw(tmp_path / "set/b/y.png")
    every, told = str(tmp_path / "set"), f"rgb={tmp_path / 'set/a'}"
    for sources in ([every, told], [told, every]):
        assert open_images(sources)["modality"].to_pylist() == ["rgb", "infrared"]
        assert [row.modality for row in read_images(sources)[0]] == ["rgb", "infrared"]
    for scan in (open_images, read_images):
        with pytest.raises(UnipError, match=r"two sources list .*x\.png, once as rgb and once as infrared"):
            scan([every, told, f"infrared={tmp_path / 'set/a'}"])
