from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from unip.data.manifests.manifest import paths_of, with_paths, write_manifest
from unip.data.manifests.scan import open_images
from unip.data.statistics import stats
from unip.errors import UnipError


def images(folder: Path, arrays: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for n, pixels in enumerate(arrays):
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


def test_pixels_of_sources(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = [rng.integers(0, 256, (9, 7 + n), dtype=np.uint8) for n in range(3)]
    colour = [rng.integers(0, 256, (5, 6, 3), dtype=np.uint8) for _ in range(2)]
    thermal, visible = images(tmp_path / "a/thermal", grey), images(tmp_path / "b/rgb", colour)
    result = stats(sources=[str(thermal), f"rgb={visible}"], out=tmp_path / "stats.json")
    assert result is not None
    values = np.concatenate([image.ravel() for image in grey]).astype(np.float64) / 255
    first, second = result.pixels
    assert (first.images, first.pixels, first.colour, first.rgb_mean) == (3, len(values), 0, None)
    assert first.mean == pytest.approx(values.mean(), abs=1e-12) and first.std == pytest.approx(values.std(), abs=1e-12)
    channels = np.concatenate([image.reshape(-1, 3) for image in colour]).astype(np.float64) / 255
    assert second.rgb_mean == pytest.approx(channels.mean(0).tolist())
    assert second.rgb_std == pytest.approx(channels.std(0).tolist())
    luma = np.concatenate([np.asarray(Image.fromarray(image).convert("L")).ravel() for image in colour]) / 255
    assert second.mean == pytest.approx(luma.mean()) and second.colour == 2
    assert json.loads((tmp_path / "stats.json").read_text())["pixels"][0]["mean"] == first.mean
    table = open_images([str(thermal)])
    write_manifest(table, tmp_path / "manifest.parquet")
    again = stats(sources=[str(tmp_path / "manifest.parquet")])
    assert again is not None and again.pixels[0].mean == first.mean
    files = [Path(path).read_bytes() for path in paths_of(table)]
    inside = with_paths(table, [None] * 3).set_column(1, "image", pa.array(files, pa.binary()))
    write_manifest(inside, tmp_path / "inside.parquet")  # without hashes, as files are listed
    again = stats(sources=[str(tmp_path / "inside.parquet")])
    assert again is not None and (again.pixels[0].images, again.pixels[0].mean) == (3, first.mean)


def test_classes_and_bad_pairs(tmp_path: Path) -> None:
    for part in ("train", "test"):
        images(tmp_path / part / "images", [np.full((4, 5), 51, np.uint8)] * 3)
        images(tmp_path / part / "masks", [np.full((4, 5), value, np.uint8) for value in (0, 1, 255)])
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "test/masks/1.png")
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["sky", "car"]}))
    result = stats(data=tmp_path)
    assert result is not None
    rows = {(row.split, row.name): row for row in result.classes}
    assert rows["train", "sky"].share == rows["train", "car"].share == 0.5
    assert rows["train", "ignore"].share == pytest.approx(1 / 3) and rows["train", "car"].image_share == pytest.approx(
        1 / 3
    )
    assert (rows["test", "sky"].pixels, rows["test", "sky"].share, rows["test", "car"].images) == (20, 1.0, 0)
    assert len(result.problems) == 1 and "unknown id 9" in result.problems[0]
    assert [row.mean for row in result.pixels] == [0.2, 0.2] and result.pixels[0].std == 0
    merged = stats(data=tmp_path, splits=["train"], remap=["car=sky"])
    assert merged is not None and [row.name for row in merged.classes] == ["sky", "ignore"]


def test_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnipError, match="nothing to measure"):
        stats()
    folder = images(tmp_path / "thermal", [np.zeros((2, 2), np.uint8)])
    (folder / "bad.png").write_bytes(b"no image")
    result = stats(sources=[str(folder)])
    assert result is not None and len(result.problems) == 1 and result.pixels[0].images == 1
    assert stats(sources=[str(folder)], dry_run=True) is None
    assert "2 images" in "".join(capsys.readouterr())
    (folder / "0.png").unlink()
    with pytest.raises(UnipError, match="no image of"):
        stats(sources=[str(folder)])
