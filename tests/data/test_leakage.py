"""Splits that leak are said aloud, with the option that mends them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.leakage import describe_near_duplicates, describe_no_groups, guess_pattern
from unip.data.splitting import split

SEQUENCES = ("one", "two", "three", "four", "five")
LAYOUTS = {
    "prefix_0001": "set/images/{sequence}_{n:04}.png",
    "prefix-1": "set/images/{sequence}-{n}.png",
    "prefix0001": "set/images/{sequence}{n:04}.png",
    "a word after the number": "set/images/{sequence}_{n:04}_thermal.png",
    "numbers in the prefix": "set/images/20260110_{sequence}_{n:04}.png",
    "numbers in the folders above": "set2/9/images/{sequence}_{n:04}.png",
    "a folder each": "set/images/{sequence}/{n:04}.png",
    "a folder each with images in it": "set/{sequence}/thermal/{n:04}.png",
    "a folder each, names with their own numbers": "set/images/{sequence}/DJI_{n:04}_T.png",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sequences_are_found_by_their_names(layout: str) -> None:
    images = [Path("/data", LAYOUTS[layout].format(sequence=s, n=n)) for s in SEQUENCES for n in range(1, 13)]
    guess = guess_pattern(images, 3)
    assert guess is not None and len(guess.sequences) == len(SEQUENCES)
    assert all(any(name in found for found in guess.sequences) for name in SEQUENCES)
    said = describe_no_groups(images, 3)
    assert "5 sequences" in said
    pattern = shlex.split(said)[-1]  # as the shell gives it
    groups = [re.search(pattern, path.as_posix()) for path in images]
    assert all(group is not None and s in group[1] for group, s in zip(groups, np.repeat(SEQUENCES, 12), strict=True))


@pytest.mark.parametrize(
    "names",
    [
        [f"{n:04}" for n in range(40)],  # one video, or none
        [f"DJI_{n:04}_T" for n in range(40)],
        [f"frame{n}" for n in range(40)],
        [f"{n * 7919 % 9973}_{n}" for n in range(40)],  # each its own
        ["dog", "car", "street", "a_1", "a_2", "b_1", "b_2", "c_1", "c_2"],  # not all
    ],
)
def test_names_that_tell_no_sequences(names: list[str]) -> None:
    images = [Path("/data/set/images", f"{name}.png") for name in names]
    assert guess_pattern(images, 3) is None
    assert "--group or --groups" in describe_no_groups(images, 3)


def test_the_splits_that_are_there_are_no_sequences() -> None:
    for text in ("/data/{}/images/{:04}.png", "/data/images/{}/{:04}.png"):
        assert guess_pattern([Path(text.format(s, n)) for s in ("train", "val", "test") for n in range(9)], 3) is None


def test_too_few_sequences_for_the_splits_are_not_advised() -> None:
    images = [Path(f"/data/{s}_{n}.png") for s in "ab" for n in range(9)]
    assert guess_pattern(images, 2) is not None and guess_pattern(images, 3) is None


def test_near_duplicates_count_across_splits_only() -> None:
    images = [Path(name) for name in "abcde"]
    hashes = np.array([0, 0b1111, 0b11111 << 40, 0b111 << 20 | 0b1111 << 50, 0xFFFF << 32], np.uint64)
    assert describe_near_duplicates(images, hashes, ["train", "train", "val", "val", "val"]) is None
    said = describe_near_duplicates(images, hashes, ["train", "val", "val", "val", "val"])
    assert said is not None and "2 of 5 images" in said and "such as a (train) and b (val)" in said


def videos(root: Path) -> Path:
    """Write videos whose frames hardly differ, and which differ much from each other."""
    rng = np.random.default_rng(1)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for name in SEQUENCES:
        scene = np.kron(rng.integers(20, 220, (8, 8)), np.ones((4, 4))).astype(np.uint8)
        for n in range(6):
            Image.fromarray(scene + np.uint8(n)).save(root / f"images/{name}_{n:03}.png")
            Image.fromarray((scene > 120).astype(np.uint8)).save(root / f"masks/{name}_{n:03}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["background", "person"]}))
    return root


def test_a_split_by_frames_is_said_to_leak_and_the_advised_one_does_not(tmp_path, caplog) -> None:
    root = videos(tmp_path / "set")
    split(data=root, out=tmp_path / "out", dry_run=True)
    groups, near = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "every image is its own group" in groups and "have a near duplicate in another split" in near
    caplog.clear()
    found = split(data=root, out=tmp_path / "out", group=shlex.split(groups)[-1], dry_run=True)
    assert set(found.groups) == set(SEQUENCES)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_near_duplicates_in_different_groups_are_said(tmp_path, caplog) -> None:
    root = videos(tmp_path / "set")
    split(data=root, out=tmp_path / "out", group=r"_(\d+)", dry_run=True)
    (near,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "30 of 30 images have a near duplicate" in near
