from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.balance import assign
from unip.data.labelled.datasets import check_segmentation, open_segmentation
from unip.data.splitting import SplitResult, split, unique_names
from unip.data.statistics import stats
from unip.errors import UnipError


def folder(root: Path, count: int = 24, *, per_flight: int = 3) -> Path:
    """Frames of flights of three, whose classes differ from flight to flight."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    rows = ["file,flight"]
    for n in range(count):
        flight = n // per_flight
        mask = np.where(rng.random((8, 8)) < (flight % 4) / 5, 1 + flight % 2, 0).astype(np.uint8)
        Image.fromarray(np.full((8, 8), n, np.uint8)).save(root / f"images/v{flight}_{n:03}.png")
        Image.fromarray(mask).save(root / f"masks/v{flight}_{n:03}.png")
        rows.append(f"v{flight}_{n:03},flight-{flight}")
    (root / "classes.json").write_text(json.dumps({"names": ["background", "person", "car"]}))
    (root / "flights.csv").write_text("\n".join(rows) + "\n")
    return root


def leaks(result: SplitResult) -> bool:
    return len(set(zip(result.groups, result.splits, strict=True))) != len(set(result.groups))


def test_flights_stay_whole_and_the_folder_opens(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    result = split(data=root, out=tmp_path / "out", groups=root / "flights.csv", shares=(0.5, 0.25, 0.25))
    assert not leaks(result) and len(set(result.groups)) == 8
    assert [result.splits.count(name) for name in ("train", "val", "test")] == [12, 6, 6]
    for name in ("train", "val", "test"):
        data = open_segmentation(tmp_path / "out", name)
        check_segmentation(data)
        for i, path in enumerate(data.images):
            assert path.is_symlink()
            np.testing.assert_array_equal(data.read_mask(i), np.asarray(Image.open(root / "masks" / path.name)))
    rows = list(csv.DictReader((tmp_path / "out/splits.csv").open()))
    assert {row["split"] for row in rows} == {"train", "val", "test"} and rows[0]["group"] == "flight-0"
    assert (tmp_path / "out" / rows[5]["file"]).samefile(rows[5]["image"])


def test_other_places_become_a_segmentation_folder(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    masks = {path.name: np.asarray(Image.open(path)) for path in (root / "masks").iterdir()}
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_S.png"))
    (root / "images").rename(root / "thermal")
    (root / "masks").rename(root / "truth")
    places = {"images": "thermal", "masks": "truth", "mask_suffix": "_S"}
    with pytest.raises(UnipError, match="not a segmentation folder"):
        split(data=root, out=tmp_path / "out")
    split(data=root, out=tmp_path / "out", shares=(0.5, 0.5, 0), **places)
    for name in ("train", "val"):
        data = open_segmentation(tmp_path / "out", name)
        for i, path in enumerate(data.images):
            np.testing.assert_array_equal(data.read_mask(i), masks[path.name])
    found = stats(data=root, **places)
    assert found is not None and found.pixels[0].images == len(masks) and not found.problems


def test_patterns_copies_and_seeds(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    first = split(data=root, out=tmp_path / "a", group=r"v(\d+)_", copy_images=True)
    again = split(data=root, out=tmp_path / "b", group=r"v(\d+)_", dry_run=True)
    other = split(data=root, out=tmp_path / "b", group=r"v(\d+)_", seed=5, dry_run=True)
    assert first.splits == again.splits and not leaks(first) and not leaks(other)
    assert not (tmp_path / "b").exists()
    copied = open_segmentation(tmp_path / "a", "train").images[0]
    assert not copied.is_symlink() and copied.read_bytes() == (root / "images" / copied.name).read_bytes()
    with pytest.raises(UnipError, match="exists"):
        split(data=root, out=tmp_path / "a")
    with pytest.raises(UnipError, match=r"are in the way: classes.json \(not written by unip\)"):
        split(data=root, out=tmp_path / "set", overwrite=True)
    before = sorted(os.listdir(tmp_path / "a"))
    split(data=root, out=tmp_path / "a", overwrite=True, shares=(0.8, 0.0, 0.2))
    assert before == [".unip", "classes.json", "splits.csv", "test", "train", "val"]
    assert sorted(os.listdir(tmp_path / "a")) == [".unip", "classes.json", "splits.csv", "test", "train"]


def test_a_disk_that_becomes_full_while_images_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, copy = folder(tmp_path / "set"), shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if source.stem == "v5_015":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))
        copy(source, target)

    monkeypatch.setattr("unip.data.splitting.shutil.copyfile", full)
    with pytest.raises(UnipError, match=r"cannot write .*: No space left on device"):
        split(data=root, out=tmp_path / "out", copy_images=True)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    split(data=root, out=tmp_path / "out", copy_images=True)


def test_other_layouts_become_folders(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8, 4), np.uint8)
    for part in ("images", "labels"):
        (tmp_path / "mf" / part).mkdir(parents=True)
    for n, part in enumerate(("train", "train", "val", "test")):
        pixels[..., 3] = n * 10
        Image.fromarray(pixels).save(tmp_path / f"mf/images/{n}D.png")
        Image.fromarray(np.full((6, 8), n, np.uint8)).save(tmp_path / f"mf/labels/{n}D.png")
        with (tmp_path / f"mf/{part}.txt").open("a") as file:
            file.write(f"{n}D\n")
    split(data=f"mfnet:{tmp_path / 'mf'}", out=tmp_path / "out", shares=(0.5, 0.25, 0.25), remap=["person=human"])
    seen = {}
    for part in ("train", "val", "test"):
        data = open_segmentation(tmp_path / "out", part)
        assert "human" in data.classes.names and "person" not in data.classes.names
        for i, path in enumerate(data.images):
            seen[path.name] = (int(data.read_image(i)[0, 0]), data.classes.names[data.read_mask(i)[0, 0]])
    assert seen == {"0D.png": (0, "background"), "1D.png": (10, "car"), "2D.png": (20, "human"), "3D.png": (30, "bike")}


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_balanced_better_than_by_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = tuple(f"g{n // 10}" for n in range(400))
    counts = rng.integers(1, 1000, (40, 1, 5)) * (rng.random((40, 1, 5)) < 0.4) * np.ones((40, 10, 5), np.int64)
    counts = counts.reshape(400, 5).astype(np.int64)
    names, shares = [str(n) for n in range(400)], np.array([0.7, 0.15, 0.15])

    def distance(chosen: np.ndarray) -> float:
        parts = np.stack([counts[chosen == k].sum(0) / counts.sum(0) for k in range(3)])
        return float(np.abs(parts - shares[:, None]).max())

    chosen = np.array(assign(names, groups, counts, tuple(shares), seed))
    assert (np.bincount(chosen) / 400 == shares).all() and distance(chosen) < 0.04
    random = [np.repeat(rng.permutation(np.repeat([0, 1, 2], [28, 6, 6])), 10) for _ in range(50)]
    assert distance(chosen) < min(distance(order) for order in random)
    shuffled = rng.permutation(400)  # the order of a listing does not matter
    again = assign(
        [names[i] for i in shuffled], tuple(groups[i] for i in shuffled), counts[shuffled], tuple(shares), seed
    )
    np.testing.assert_array_equal(again, chosen[shuffled])


def test_every_split_gets_a_group() -> None:
    counts = np.ones((5, 2), np.int64)
    chosen = assign(list("abcde"), ("x", "x", "x", "y", "z"), counts, (0.98, 0.01, 0.01), 0)
    assert sorted(set(chosen)) == [0, 1, 2] and chosen[0] == chosen[1] == chosen[2]
    with pytest.raises(UnipError, match="2 groups of images cannot be divided into 3 splits") as caught:
        assign(list("abcde"), ("x", "x", "x", "y", "y"), counts, (0.6, 0.2, 0.2), 0)
    assert "folds" in caught.value.fix


def test_names() -> None:
    assert unique_names((Path("a/1.png"), Path("b/2.png"))) == ["1", "2"]
    assert unique_names((Path("a/1.png"), Path("b/1.png"))) == ["a__1", "b__1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": (0.5, 0.1, 0.1)}, "do not add up to 1"),
        ({"group": "(x"}, "not a regular expression"),
        ({"group": "flight"}, "does not fit 24 of 24 images"),
        ({"group": "v", "groups": "flights.csv"}, "both group and groups"),
        ({"groups": "gone.csv"}, "cannot read"),
        ({"groups": "flights.csv", "group_column": "video"}, "no column 'video'"),
        ({"groups": "few.csv"}, "does not name 23 of 24 images"),
        ({"groups": "two.csv"}, "two groups"),
    ],
)
def test_problems(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    root = folder(tmp_path / "set")
    (root / "few.csv").write_text("file,flight\nv0_000,1\n")
    (root / "two.csv").write_text("file,flight\nv0_000,1\nv0_000,2\n")
    if "groups" in changes:
        changes = {**changes, "groups": root / str(changes["groups"])}
    with pytest.raises(UnipError, match=message):
        split(data=root, out=tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("how", "links"), [("copy", False), ("link", True)])
def test_the_former_way_to_copy_works_and_says_the_new_one(tmp_path, caplog, how, links):
    root = folder(tmp_path / "data")
    split(data=root, out=tmp_path / "out", images=how)
    assert {path.is_symlink() for path in (tmp_path / "out/train/images").iterdir()} == {links}
    assert "--copy-images" in caplog.text


def test_each_image_is_tested_in_one_fold_and_trained_on_in_all_others(tmp_path: Path) -> None:
    root, out = folder(tmp_path / "set"), tmp_path / "out"
    result = split(data=root, out=out, groups=root / "flights.csv", folds=4)
    assert not leaks(result)
    tested: list[str] = []
    for number in range(1, 5):
        parts = {part: open_segmentation(out / f"fold-{number}", part) for part in ("train", "test")}
        names = {part: {path.name for path in data.images} for part, data in parts.items()}
        assert not names["train"] & names["test"] and len(names["train"] | names["test"]) == 24
        assert len(names["test"]) == 6
        tested += names["test"]
        for data in parts.values():
            check_segmentation(data)
            for i, path in enumerate(data.images):
                np.testing.assert_array_equal(data.read_mask(i), np.asarray(Image.open(root / "masks" / path.name)))
    assert len(tested) == len(set(tested)) == 24
    rows = list(csv.DictReader((out / "splits.csv").open()))
    assert all((out / row["file"]).samefile(row["image"]) for row in rows)


def test_fewer_folds_replace_more_only_when_told_so(tmp_path: Path) -> None:
    root, out = folder(tmp_path / "set"), tmp_path / "out"
    split(data=root, out=out, groups=root / "flights.csv", folds=4)
    with pytest.raises(UnipError, match="exists"):
        split(data=root, out=out, groups=root / "flights.csv", folds=3)
    split(data=root, out=out, groups=root / "flights.csv", folds=3, overwrite=True)
    assert sorted(path.name for path in out.glob("fold-*")) == ["fold-1", "fold-2", "fold-3"]
    split(data=root, out=out, groups=root / "flights.csv", overwrite=True)
    assert not list(out.glob("fold-*")) and (out / "classes.json").is_file()


def test_folds_and_shares_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(UnipError, match="folds and shares"):
        split(data=folder(tmp_path / "set"), out=tmp_path / "out", folds=3, shares=(0.5, 0.5, 0))
