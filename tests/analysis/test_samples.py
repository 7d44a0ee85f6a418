from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.analysis.config import AnalyzeConfig
from unip.analysis.samples import Sample, draw_sample, list_files
from unip.data.manifests.manifest import write_manifest
from unip.data.manifests.scan import open_images
from unip.data.verbs import build
from unip.errors import UnipError


def write(folder: Path, *names: str) -> str:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20), 10 * number, np.uint8)).save(folder / name)
    return str(folder)


def draw(images, *, pair=(), count: int, seed: int) -> Sample:
    config = AnalyzeConfig(models=("any",), images=tuple(images), pair=tuple(pair), max_images=count, seed=seed)
    return draw_sample(config, list_files(config)[0], [16])


def names(paths: list[str]) -> list[str]:
    return [Path(path).name for path in paths]


def test_a_draw_is_seeded_and_in_the_order_of_the_names(tmp_path):
    folder = write(tmp_path / "a", *(f"{n}.png" for n in range(9)))
    few = draw((folder,), count=4, seed=0)
    assert (len(few.names), few.of, list(few.paths), few.skipped) == (4, 9, ["images"], [])
    assert few.names == sorted(few.names) == draw((folder,), count=4, seed=0).names
    assert any(draw((folder,), count=4, seed=seed).paths != few.paths for seed in range(1, 5))
    assert names(draw((folder, folder + "/3.png"), count=99, seed=0).names) == [f"{n}.png" for n in range(9)]


def test_a_manifest_gives_the_same_images_as_its_folder(tmp_path):
    folder = write(tmp_path / "a", *(f"{n}.png" for n in range(5)))
    write_manifest(open_images([folder]), tmp_path / "m.parquet")
    found = draw((str(tmp_path / "m.parquet"),), count=3, seed=2)
    assert found.paths == draw((folder,), count=3, seed=2).paths


def test_images_of_a_manifest_are_converted_as_it_says(tmp_path):
    folder = write(tmp_path / "a", "x.png", "y.png")
    counts = np.linspace(7000, 9000, 400).reshape(20, 20).astype(np.uint16)
    for name in ("x", "y"):
        Image.fromarray(counts).save(tmp_path / "a" / f"{name}.png")
    source = {"folder": folder, "conversion": {"polarity": "black-hot", "method": "window", "window": [7500, 8500]}}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"sources": [source]}))
    build(sources=(str(tmp_path / "recipe.yaml"),), out=tmp_path / "mix")
    shown = draw((str(tmp_path / "mix/manifest.parquet"),), count=2, seed=0).squares["images"][16]
    plain = draw((folder,), count=2, seed=0).squares["images"][16]
    for square, default in zip(shown, plain, strict=True):
        assert (square[0, 0] > 250).all() and (square[0, -1] < 5).all()
        assert (default[0, 0] < 20).all() and (default[0, -1] > 235).all()


def test_others_are_drawn_for_images_that_cannot_be_read(tmp_path):
    folder = write(tmp_path / "a", *(f"{n}.png" for n in range(6)))
    for n in (1, 4):
        (tmp_path / f"a/{n}.png").write_bytes(b"")
    found = draw((folder,), count=4, seed=0)
    assert names(found.names) == ["0.png", "2.png", "3.png", "5.png"]
    assert {Path(s.path).name for s in draw((folder,), count=9, seed=0).skipped} == {"1.png", "4.png"}


def test_partners_have_the_same_path_in_their_folder(tmp_path):
    infrared = write(tmp_path / "ir", "day/1.png", "night/1.png", "night/2.png")
    visible = write(tmp_path / "visible", "day/1.jpg", "night/1.jpg", "other/2.jpg")
    found = draw((infrared,), pair=(visible,), count=9, seed=0)
    for paths in found.paths.values():
        assert [Path(path).parent.name for path in paths] == ["day", "night"]
    assert (found.of, list(found.paths)) == (2, ["infrared", "visible"])
    config = AnalyzeConfig(models=("any",), images=(infrared,), pair=(visible,))
    assert list_files(config)[1] == 1  # without a partner
    (tmp_path / "visible/day/1.jpg").write_bytes(b"")
    found = draw((infrared,), pair=(visible,), count=9, seed=0)
    assert [len(paths) for paths in found.paths.values()] == [1, 1]
    assert found.skipped[0].path.endswith("visible/day/1.jpg")


def test_as_many_pair_folders_belong_to_the_folders_one_by_one(tmp_path):
    infrared = [write(tmp_path / name, "0.png", "1.png") for name in ("ir-a", "ir-b")]
    visible = [write(tmp_path / name, "0.png", "1.png") for name in ("visible-a", "visible-b")]
    found = draw(infrared, pair=visible, count=9, seed=0)
    ends = [[path.split("-")[-1] for path in paths] for paths in found.paths.values()]
    assert ends[0] == ends[1] == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    with pytest.raises(UnipError, match=r"ir-a/0.png and .*ir-b/0.png would have the same partner"):
        draw(infrared, pair=visible[:1], count=9, seed=0)
    write(tmp_path / "visible-a", "0.jpg")
    with pytest.raises(UnipError, match="would have the same partner"):
        draw(infrared[:1], pair=visible[:1], count=9, seed=0)


def test_refused(tmp_path):
    folder = write(tmp_path / "a", "1.png")
    with pytest.raises(UnipError, match="has a partner"):
        draw((folder,), pair=(write(tmp_path / "b", "2.png"),), count=1, seed=0)
    with pytest.raises(UnipError, match="no such folder"):
        draw((folder, "nowhere"), count=1, seed=0)
