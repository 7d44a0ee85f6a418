from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import unip.data.manifests.facts
from unip.data import verbs as module
from unip.data.building import BuildResult
from unip.data.config import BuildConfig
from unip.data.images.config import Conversion
from unip.data.manifests.manifest import paths_of, read_manifest
from unip.data.verbs import build
from unip.errors import Interrupted, UnipError


def draw(path: Path, level: int | None = None, *, colour: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(os.fsencode(path)) if level is None else level)
    shape = (8, 9, 3) if colour else (8, 9)
    with path.open("wb") as file:
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file, "PNG")
    return path


def run(tmp_path: Path, sources: list[dict[str, Any]], out: str = "out", **values: Any) -> BuildResult:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"sources": sources, **values}))
    return build(sources=[str(recipe)], out=tmp_path / out)


def table(result: BuildResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_manifest(result.manifest, all_rows=True).to_pylist()
    return rows


def kept(result: BuildResult) -> list[str]:
    return sorted(Path(path).stem for path in paths_of(read_manifest(result.manifest)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        draw(tmp_path / f"set/{i}.png", i // 2)
    return tmp_path / "set"


def test_build_writes_a_manifest_and_says_what_is_in_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = build(sources=[str(folder)], out=tmp_path / "out")
    assert result.manifest == tmp_path / "out" / "manifest.parquet"
    assert read_manifest(result.manifest).num_rows == 3
    assert result.copies == 1 and result.dropped == {}
    assert [(part.source, part.images) for part in result.sources] == [("set", 3)]
    said = capsys.readouterr().out
    assert "taken for infrared by its pixels" in said
    assert "1 images are exact copies" in said
    assert f"written: {result.manifest}" in said
    stats = json.loads((tmp_path / "out/stats.json").read_text())
    assert stats["totals"] == {"infrared": {"listed": 3, "kept": 3, "bytes": result.stats[0].bytes}}
    assert stats["sources"][0]["bits"] == {"8": 3} and stats["copies"] == 1


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = build(BuildConfig(sources=(f"rgb={folder}",), out=tmp_path / "out"), dry_run=True)
    assert not (tmp_path / "out").exists()
    assert result.sources[0].modality == "rgb"
    said = capsys.readouterr().out
    assert "dry run, not written:" in said and "by its pixels" not in said


def test_a_manifest_is_replaced_only_when_asked(folder: Path, tmp_path: Path) -> None:
    build(sources=[str(folder)], out=tmp_path)
    with pytest.raises(UnipError, match=r"manifest\.parquet exists"):
        build(sources=[str(folder)], out=tmp_path)
    build(sources=[f"rgb={folder}"], out=tmp_path, overwrite=True)
    assert set(read_manifest(tmp_path / "manifest.parquet")["modality"].to_pylist()) == {"rgb"}


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match="workers"):
        build(sources=["a"], out=tmp_path, workers=-1)


# What a recipe says


def test_caps_and_what_they_drop(tmp_path: Path) -> None:
    for name in ("cat", "dog", "deep/eel"):
        for i in range(6):
            draw(tmp_path / f"pets/{name}/{i}.png", colour=True)
    source = {"name": "pets", "folder": "pets", "modality": "rgb", "cap_per_class": 4, "weight": 2.0, "grey": False}
    result = run(tmp_path, [source])
    rows = table(result)
    counts = Counter((Path(os.fsdecode(row["path"])).parent.name, row["kept"]) for row in rows)
    assert counts == {(name, keep): n for name in ("cat", "dog", "eel") for keep, n in ((True, 4), (False, 2))}
    assert {(row["reason"], row["width"], row["sha256"]) for row in rows if not row["kept"]} == {("cap", 0, "")}
    assert {(row["weight"], row["grey"], row["modality"]) for row in rows} == {(2.0, False, "rgb")}
    assert result.dropped == {"cap": 6} and result.stats[0].listed == 18
    both = run(tmp_path, [{**source, "cap": 7}], "both")
    assert len(kept(both)) == 7
    chosen = {row["path"] for row in table(both) if row["kept"]}
    assert chosen < {row["path"] for row in rows if row["kept"]}  # the same order, cut earlier
    other = run(tmp_path, [source], "other", seed=1)
    assert {row["path"] for row in table(other) if row["kept"]} != {row["path"] for row in rows if row["kept"]}


def test_a_draw_depends_on_names_inside_the_source_only(tmp_path: Path) -> None:
    for i in range(20):
        draw(tmp_path / f"a/x/{i}.png")
    shutil.copytree(tmp_path / "a", tmp_path / "moved/b")
    source = {"name": "a", "modality": "infrared", "cap": 5}
    first = kept(run(tmp_path, [{**source, "folder": "a"}]))
    assert kept(run(tmp_path, [{**source, "folder": "moved/b"}], "moved-out")) == first
    assert kept(run(tmp_path, [{**source, "glob": "a/**/*.png"}], "glob-out")) == first
    draw(tmp_path / "a/x/new.png")
    assert len(set(kept(run(tmp_path, [{**source, "folder": "a"}], "more"))) - set(first)) <= 1


def test_an_unreadable_image_is_replaced_in_a_draw(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"a/{i}.png")
    source = {"name": "a", "folder": "a", "modality": "infrared", "cap": 4}
    first = kept(run(tmp_path, [source]))
    (tmp_path / f"a/{first[0]}.png").write_text("hello")
    result = run(tmp_path, [source], "again")
    assert len(kept(result)) == 4 and set(first[1:]) < set(kept(result))
    assert result.dropped == {"cap": 5, "unreadable": 1}


def test_groups_frames_and_readings(tmp_path: Path) -> None:
    for flight in ("f1", "f2"):
        for i in range(12):
            draw(tmp_path / f"uav/{flight}/ir_{i}.png")
    source = {"name": "uav", "folder": "uav", "modality": "infrared", "group": 1, "every": 5}
    rows = table(run(tmp_path, [{**source, "conversion": {"polarity": "black-hot"}}]))
    chosen = [(row["group"], row["frame"], Path(os.fsdecode(row["path"])).name) for row in rows if row["kept"]]
    assert chosen == [
        (f, n, f"ir_{n}.png") for f in ("f1", "f2") for n in (0, 10, 5)
    ]  # by name; frames as people count
    assert {row["reason"] for row in rows if not row["kept"]} == {"every"}
    assert {Conversion.from_json(row["conversion"]).polarity for row in rows if row["kept"]} == {"black-hot"}
    pattern = run(tmp_path, [{**source, "group": r"(f\d)/ir_1", "every": 1, "conversion": {}}], "pattern")
    assert Counter(row["group"] for row in table(pattern)) == {"": 18, "f1": 3, "f2": 3}
    assert {row["conversion"] for row in table(pattern)} == {None}  # the default
    assert pattern.stats[0].groups == 2
    (tmp_path / "flights.csv").write_text("file,flight\nir_1,one\nir_2.png,one\nir_3,two\n")
    listed = run(tmp_path, [{**source, "group": None, "groups": "flights.csv", "every": 2}], "listed")
    assert Counter(row["group"] for row in table(listed)) == {"": 18, "one": 4, "two": 2}
    assert listed.dropped == {"every": 3}
    (tmp_path / "flights.csv").write_text("name,flight\n")
    with pytest.raises(UnipError, match="has no column 'file', only name, flight"):
        run(tmp_path, [{**source, "group": None, "groups": "flights.csv"}], "no")


def test_manifests_are_sources_too(tmp_path: Path) -> None:
    for i in range(6):
        draw(tmp_path / f"a/{i}.png")
    first = run(tmp_path, [{"name": "a", "folder": "a", "modality": "infrared", "cap": 5, "weight": 2.0}])
    second = run(tmp_path, [{"manifest": "out/manifest.parquet", "weight": 3.0, "cap": 4}], "second")
    assert set(kept(second)) < set(kept(first)) and len(kept(second)) == 4
    assert {row["weight"] for row in table(second)} == {6.0}
    assert second.dropped == {"cap": 2}
    plain = build(sources=[str(first.manifest)], out=tmp_path / "plain")
    assert table(plain) == table(first)


def test_a_file_of_two_sources_is_taken_once(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / f"a/{i}.png")
    one = {"name": "one", "glob": "a/0.png", "modality": "infrared"}
    rest = {"name": "rest", "folder": "a"}
    rows = table(run(tmp_path, [one, rest]))
    assert [row["source"] for row in rows] == ["one", "rest", "rest"]
    with pytest.raises(UnipError, match=r"two sources list .*once as infrared and once as rgb"):
        run(tmp_path, [one, {**rest, "modality": "rgb"}], "no")


def test_copies_can_be_dropped(tmp_path: Path, folder: Path) -> None:
    result = run(tmp_path, [{"folder": "set"}], copies="drop")
    assert kept(result) == ["0", "2"] and result.dropped == {"copy": 1} and result.copies == 0
    assert table(result)[1]["reason"] == f"copy: of {folder}/0.png"


def test_missing_sources_are_named_together(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [{"folder": "gone"}, {"folder": "set"}, {"glob": "no/*.png"}]
    with pytest.raises(UnipError, match=r"(?s)no such folder or image: .*gone.*nothing matches .*no/"):
        run(tmp_path, sources, "new/out")
    assert not (tmp_path / "new").exists()
    result = build(sources=[str(tmp_path / "recipe.yaml")], out=tmp_path / "out", skip_missing=True)
    assert len(kept(result)) == 3
    assert "left out: no such folder" in capsys.readouterr().out


def test_the_papers_mix_in_miniature(tmp_path: Path) -> None:
    for number in range(23):
        for i in range(3):
            draw(tmp_path / f"infpre/set{number:02d}/thermal/{'night/' * (number % 2)}{i}.png", colour=number == 5)
        draw(tmp_path / f"infpre/set{number:02d}/rgb/0.png", colour=True)
    for i in range(203):
        draw(tmp_path / f"imagenet/train/n01440764/{i}.JPEG", i, colour=True)
    draw(tmp_path / "imagenet/train/n02/0.JPEG", colour=True)
    for i in range(4):
        draw(tmp_path / f"coco/train2017/{i}.jpg", colour=True)
    result = build(sources="infmix", root=tmp_path, out=tmp_path / "mix")
    parts = {(part.source, part.modality): part.kept for part in result.stats}
    expected = {(f"set{number:02d}", "infrared"): 3 for number in range(23)}
    assert parts == {**expected, ("imagenet", "rgb"): 201, ("coco", "rgb"): 4}
    assert result.dropped == {"cap": 3}
    assert all(row["grey"] for row in table(result))


# The same set on every disk


def tree(root: Path) -> Path:
    for name in ("infpre/b/thermal", "infpre/a/thermal/x", "other/y", "other/z"):
        for i in range(7):
            draw(root / name / f"{i}.png", colour="z" in name)
    (root / "other/y/bad.png").write_text("hello")
    (root / "other/loop").symlink_to(root / "other")
    return root


@pytest.mark.parametrize("workers", [1, 5])
def test_listings_in_any_order_and_any_workers_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    tree(tmp_path / "data")
    sources = [{"glob": "data/infpre/*/thermal/**/*", "cap": 9}, {"folder": "data/other", "cap_per_class": 4}]
    run(tmp_path, sources, "first")
    real, shuffle = os.scandir, random.Random(workers)

    class Shuffled:
        def __init__(self, path: Any = ".") -> None:
            with real(path) as found:
                self._found = list(found)
            shuffle.shuffle(self._found)

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if not self._found:
                raise StopIteration
            return self._found.pop()

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(os, "scandir", Shuffled)
    build(sources=[str(tmp_path / "recipe.yaml")], out=tmp_path / "second", workers=workers)
    monkeypatch.undo()
    for name in ("manifest.parquet", "stats.json", "recipe.yaml"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


# What goes wrong


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_bad_files_stop_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    for i in range(4):
        draw(root / f"{i}.png")
    (root / "empty.png").touch()
    (root / "text.png").write_text("hello")
    (root / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (root / "self.png").symlink_to(root / "self.png")
    (root / "up").symlink_to(root)
    os.mkfifo(root / "pipe.png")
    names = [b"new\nline.png", b"latin-\xe9\xff.png"]
    for name in names:
        try:
            draw(Path(os.fsdecode(os.path.join(bytes(root), name))))
        except OSError:
            names.remove(name)
    result = build(sources=[f"infrared={root}"], out=tmp_path / "out")
    rows = {os.path.basename(row["path"]): row for row in table(result)}
    assert sum(row["kept"] for row in rows.values()) == 4 + len(names)
    assert all(rows[name]["kept"] and rows[name]["sha256"] for name in names)
    wanted = {
        b"empty.png": "0 bytes",
        b"text.png": "not an image",
        b"bomb.png": "million pixels",
        b"self.png": "symbolic links",
        b"pipe.png": "not a regular file",
    }
    for file, words in wanted.items():
        assert rows[file]["reason"].startswith("unreadable: ") and words in rows[file]["reason"], file
    assert len(rows) == 9 + len(names)
    assert result.dropped == {"unreadable": 5}
    said = capsys.readouterr().out
    assert said.count("left out: ") == 5 and str(root / "text.png") in said
    assert len(paths_of(read_manifest(result.manifest))) == 4 + len(names)


def test_a_folder_that_cannot_be_opened_is_told(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "shut").mkdir()
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if isinstance(path, str) and path.endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(kept(build(sources=[f"rgb={folder}"], out=tmp_path / "out"))) == 3
    assert f"cannot open {folder}/shut: Permission denied" in capsys.readouterr().out


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.png").write_text("hello")
    with pytest.raises(UnipError, match=r"(?s)no image of the sources can be used.*x\.png: unreadable") as caught:
        build(sources=[f"rgb={tmp_path / 'a'}"], out=tmp_path / "out")
    assert caught.value.exit_code == 2 and not (tmp_path / "out/manifest.parquet").exists()


def test_an_output_that_cannot_be_written_is_found_first(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "list_all", lambda *_, **__: pytest.fail("read before looking at the output"))
    (tmp_path / "file").touch()
    with pytest.raises(UnipError, match=r"cannot write to .*file"):
        build(sources=[str(folder)], out=tmp_path / "file" / "out")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UnipError, match="Read-only file system"):
        build(sources=[str(folder)], out=tmp_path / "out")


def test_a_full_disk_loses_nothing_that_is_done(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pq.write_table

    def full(table: Any, path: Path, **_: Any) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(UnipError, match=r"cannot write .*manifest\.parquet: No space left"):
        build(sources=[f"rgb={folder}"], out=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if "manifest" in path.name]
    monkeypatch.setattr(pq, "write_table", real)
    monkeypatch.setattr(unip.data.manifests.facts, "read_facts", lambda path: pytest.fail("read again"))
    assert len(kept(build(sources=[f"rgb={folder}"], out=tmp_path / "out"))) == 3


def test_an_interrupted_call_goes_on(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3, 12):
        draw(folder / f"{i}.png")
    whole = build(sources=[f"rgb={folder}"], out=tmp_path / "whole").manifest.read_bytes()
    real = unip.data.manifests.facts.read_facts
    read: list[bytes] = []

    def stop_at_five(path: bytes) -> Any:
        read.append(path)
        if len(read) == 6:
            time.sleep(0.5)  # until what was read before is written down, also on a busy machine
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        return real(path)

    monkeypatch.setattr(unip.data.manifests.facts, "read_facts", stop_at_five)
    with pytest.raises(Interrupted) as caught:
        build(sources=[f"rgb={folder}"], out=tmp_path / "out", workers=1)
    assert caught.value.exit_code == 130 and "Run the same command again" in caught.value.fix
    assert not (tmp_path / "out/manifest.parquet").exists()
    again: list[bytes] = []
    monkeypatch.setattr(unip.data.manifests.facts, "read_facts", lambda path: again.append(path) or real(path))
    manifest = build(sources=[f"rgb={folder}"], out=tmp_path / "out").manifest
    assert manifest.read_bytes() == whole
    assert 0 < len(again) < 12


def test_a_killed_call_goes_on(tmp_path: Path) -> None:
    """In processes of their own, shot without warning: one while it reads, one while it writes."""
    for i in range(40):
        draw(tmp_path / f"set/{i}.png")
    whole = build(sources=[f"rgb={tmp_path / 'set'}"], out=tmp_path / "whole").manifest.read_bytes()

    def work(when: str) -> None:
        real, count = unip.data.manifests.facts.read_facts, 0

        def read(path: bytes) -> Any:
            nonlocal count
            count += 1
            if when == "reading" and count > 20:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(path)

        def write(table: Any, path: Path, **_: Any) -> None:
            path.write_bytes(b"PAR1 half")
            os.kill(os.getpid(), signal.SIGKILL)

        unip.data.manifests.facts.SYNC_EVERY_SECONDS = 0.0
        unip.data.manifests.facts.read_facts = read
        if when == "writing":
            pq.write_table = write
        build(sources=[f"rgb={tmp_path / 'set'}"], out=tmp_path / "out", workers=1)
        (tmp_path / "count").write_text(str(count))

    for when, code in (("reading", -signal.SIGKILL), ("writing", -signal.SIGKILL), ("", 0)):
        process = multiprocessing.get_context("fork").Process(target=work, args=(when,))
        process.start()
        process.join()
        assert process.exitcode == code
        assert (tmp_path / "out/manifest.parquet").exists() == (code == 0)
    assert (tmp_path / "count").read_text() == "0"  # all was read before
    assert (tmp_path / "out/manifest.parquet").read_bytes() == whole
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == [".unip", "manifest.parquet", "recipe.yaml", "stats.json"]
