from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from unip.data.building import BuildResult
from unip.data.images.decoding import read_image
from unip.data.manifests.manifest import paths_of, read_manifest
from unip.data.verbs import build
from unip.errors import UnipError

datasets = pytest.importorskip("datasets")


def encoded(i: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 7, 3), 10 * i, dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def make(images: list[bytes | None], labels: list[int]) -> Any:
    cells = [None if data is None else {"bytes": data, "path": None} for data in images]
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"picture": cells, "label": labels}, features=features)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def run(tmp_path: Path, out: str = "out", **source: Any) -> BuildResult:
    base = {"name": "hub", "modality": "rgb", "image_column": "picture", "label_column": "label"}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"sources": [{**base, **source}]}))
    return build(sources=[str(recipe)], out=tmp_path / out)


def test_a_parquet_dataset_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    images = [encoded(i, "PNG" if i % 2 else "JPEG") for i in range(6)]
    make(images, [0] * 6).to_parquet(tmp_path / "set/train-00000-of-00001.parquet")
    result = run(tmp_path, dataset="set")
    paths = paths_of(read_manifest(result.manifest))
    assert [Path(path).name for path in paths] == [
        f"{i:08d}{'.png' if i % 2 else '.jpg'}" for i in range(6)
    ]  # as they were encoded
    assert [Path(path).read_bytes() for path in paths] == images
    assert run(tmp_path, "again", dataset="set").manifest.read_bytes() == result.manifest.read_bytes()


def test_a_saved_dataset_with_caps_and_bad_rows(tmp_path: Path) -> None:
    images: list[bytes | None] = [encoded(i) for i in range(8)]
    images[1], images[2] = None, b"hello"
    datasets.DatasetDict({"test": make(images, [0, 0, 0, 0, 1, 1, 1, 1])}).save_to_disk(tmp_path / "saved")
    result = run(tmp_path, dataset="saved", split="test", cap_per_class=2)
    rows = read_manifest(result.manifest, all_rows=True).to_pylist()
    assert len(rows) == 8 and sum(row["kept"] for row in rows) == 4
    assert sum(Path(path).stem < "00000004" for path in paths_of(read_manifest(result.manifest))) == 2
    everything = run(tmp_path, "all", dataset="saved", split="test")
    bad = [row for row in read_manifest(everything.manifest, all_rows=True).to_pylist() if not row["kept"]]
    assert everything.dropped == {"unreadable": 2}
    assert [row["reason"].partition(" (")[0] for row in bad] == [
        "unreadable: empty cell",
        "unreadable: file is not an image that can be read",
    ]


def test_a_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for i in range(3):
        (tmp_path / f"pets/{i}.png").write_bytes(encoded(i))
    result = run(tmp_path, dataset="pets", image_column="image", label_column=None)
    paths = paths_of(read_manifest(result.manifest))
    assert paths == [str(tmp_path / f"pets/{i}.png") for i in range(3)]  # used where they are
    assert read_image(paths[2]).max() == 20


def test_a_hub_id_is_read_from_the_cache_without_a_network(tmp_path: Path) -> None:
    """Laid out as `datasets` caches what it once downloaded: OWNER___NAME/config/version/commit."""
    (tmp_path / "made").mkdir()
    images = [encoded(i) for i in range(4)]
    make(images, [0, 0, 1, 1]).to_parquet(tmp_path / "made/train.parquet")
    datasets.load_dataset(str(tmp_path / "made"), cache_dir=str(tmp_path / "first"))
    (prepared,) = (path.parent for path in (tmp_path / "first").rglob("dataset_info.json"))
    cached = tmp_path / "cache/someone___pets/default/0.0.0" / ("a" * 40)
    cached.parent.mkdir(parents=True)
    prepared.rename(cached)
    for arrow in cached.glob("*.arrow"):
        arrow.rename(cached / f"pets-{arrow.name.partition('-')[2]}")
    result = run(tmp_path, dataset="someone/pets", cap_per_class=1)
    rows = read_manifest(result.manifest, all_rows=True).to_pylist()
    assert [row["kept"] for row in rows].count(True) == 2 and len(rows) == 4
    for path in paths_of(read_manifest(result.manifest)):
        assert Path(path).read_bytes() == images[int(Path(path).stem)]
    with pytest.raises(UnipError, match=r"dataset someone/pets \(split test\) cannot be opened"):
        run(tmp_path, "other", dataset="someone/pets", split="test")
    with pytest.raises(UnipError, match=r"dataset someone/dogs \(split train\) cannot be opened"):
        run(tmp_path, "none", dataset="someone/dogs")


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make([encoded(1)], [0]).save_to_disk(tmp_path / "saved")
    with pytest.raises(UnipError, match="has no column image"):
        run(tmp_path, dataset="saved", image_column="image")
    with pytest.raises(UnipError, match=r"dataset gone \(split train\) cannot be opened"):
        run(tmp_path, dataset="gone")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UnipError, match="needs the package datasets") as caught:
        run(tmp_path, dataset="saved")
    assert "unip[data]" in caught.value.fix
