from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.build import BuildConfig, build
from unip.data.manifest import read_manifest
from unip.errors import UnipError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for i in range(3):
        Image.fromarray(np.full((8, 9), i // 2, dtype=np.uint8)).save(tmp_path / f"set/{i}.png")
    return tmp_path / "set"


def test_build_writes_a_manifest_and_says_what_is_in_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = build(sources=[str(folder)], out=tmp_path / "out")
    assert result.manifest == tmp_path / "out" / "manifest.parquet"
    assert read_manifest(result.manifest).num_rows == 3
    assert result.copies == 1
    assert [(part.source, part.images) for part in result.sources] == [("set", 3)]
    said = capsys.readouterr().out
    assert "taken for infrared by its pixels" in said
    assert "1 images are exact copies" in said
    assert f"written: {result.manifest}" in said


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = build(BuildConfig(sources=(f"rgb={folder}",), out=tmp_path / "out", dry_run=True))
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
    with pytest.raises(UnipError, match="no image source"):
        build(sources=[], out=tmp_path)
