"""Images that belong together: found by patterns and names, never depending on where the images lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from unip.data.grouping import cut_blocks, guess_sequences, match_groups
from unip.errors import UnipError

VIDEOS = [f"{video}_{frame:03d}.png" for video in ("62", "63") for frame in range(4)]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (VIDEOS, ["62_*"] * 4 + ["63_*"] * 4),
        ([f"flight{f}/{n}.png" for f in "ab" for n in range(3)], ["flighta/*"] * 3 + ["flightb/*"] * 3),
        ([f"{f}/frame{n}_T.tiff" for f in "ab" for n in range(3)], ["a/frame*_T"] * 3 + ["b/frame*_T"] * 3),
        (
            [f"0_100_{angle}_0_{n:05d}.webp" for angle in (30, 60) for n in range(2)],
            ["0_100_30_0_*"] * 2 + ["0_100_60_0_*"] * 2,
        ),
    ],
)
def test_names_that_count_up_are_sequences(names, groups):
    assert guess_sequences([Path("/data/images", name) for name in names]) == groups
    assert guess_sequences([Path("elsewhere", name) for name in names]) == groups


@pytest.mark.parametrize(
    "names",
    [
        [f"{n:04d}.png" for n in range(20)],  # one sequence, or none
        ["a1b.png", "c7.png", "x.png", "dd90e.png"],  # hashes
        [f"{n}_640x512.png" for n in range(20)],  # the last number does not count frames
    ],
)
def test_names_that_show_no_sequences(names):
    assert guess_sequences([Path("images", name) for name in names]) is None


def test_blocks_are_neighbours_by_the_value_of_numbers():
    images = [Path("d", f"{n}.png") for n in (10, 2, 1, 9, 3, 11)]
    assert cut_blocks(images, 3) == ["9 to 11", "1 to 3", "1 to 3", "9 to 11", "1 to 3", "9 to 11"]
    assert cut_blocks(images, 1) == ["10", "2", "1", "9", "3", "11"]
    assert len(set(cut_blocks(images, 100))) == 1


def test_blocks_do_not_cross_sequences():
    images = [Path("d", name) for name in VIDEOS]
    blocks = cut_blocks(images, 3, guess_sequences(images))
    assert blocks == ["62_000 to 62_003"] * 4 + ["63_000 to 63_003"] * 4


def test_files_that_differ_by_their_endings_alone_are_two():
    assert cut_blocks([Path("a.png"), Path("a.jpg")], 1) == ["a.png", "a.jpg"]


def test_patterns():
    images = [Path("x/flight1-a.png"), Path("x/flight2-b.png")]
    assert match_groups(images, r"flight(\d)") == ["1", "2"]
    assert match_groups(images, r"flight\d") == ["flight1", "flight2"]
    with pytest.raises(UnipError, match="not a regular expression"):
        match_groups(images, "(")
    with pytest.raises(UnipError, match=r"does not fit 1 of 2 images, the first: x/flight2-b\.png"):
        match_groups(images, "flight1")
