from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.synthetic import files
from unip.data.synthetic.config import ScenesConfig
from unip.data.synthetic.files import SCENE_IMAGES, scene_seed, write_scenes
from unip.data.synthetic.generator import generate_scene
from unip.data.synthetic.materials import SCENE_CLASSES
from unip.errors import Interrupted, UnipError
from unip.files import read_json

SMALL = {"count": 6, "size": (32, 40), "splits": (4, 1, 1), "workers": 1}


def _stamps(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in sorted(root.rglob("*.png"))}


def test_layout_and_content(tmp_path: Path) -> None:
    result = write_scenes(out=tmp_path / "s", **SMALL)
    assert result.counts == {"train": 4, "val": 1, "test": 1} and (result.made, result.kept) == (6, 0)
    names = {kind: [p.name for p in sorted((tmp_path / "s/train" / kind).iterdir())] for kind in SCENE_IMAGES}
    assert all(name == [f"scene-{i:06d}.png" for i in range(4)] for name in names.values())
    classes = read_json(tmp_path / "s/classes.json")
    assert tuple(classes["names"]) == SCENE_CLASSES and classes["ignore_index"] == 255
    assert len(classes["palette"]) == len(SCENE_CLASSES)
    scene = generate_scene(scene_seed(0, 4), (32, 40))
    folder, name = tmp_path / "s/val", "scene-000004.png"
    expected = {
        "L": ("images", scene.thermal8),
        "RGB": ("visible", scene.visible),
        "I;16": ("thermal16", scene.thermal16),
    }
    for mode, (kind, picture) in expected.items():
        with Image.open(folder / kind / name) as image:
            assert image.mode == mode
            assert np.array_equal(np.asarray(image), picture)
    assert np.array_equal(np.asarray(Image.open(folder / "masks" / name)), scene.mask)


def test_processes_write_the_same(tmp_path: Path) -> None:
    many = {**SMALL, "count": 17, "splits": (0.5, 0.25, 0.25)}
    write_scenes(out=tmp_path / "one", **many)
    write_scenes(out=tmp_path / "two", **{**many, "workers": 2})
    one, two = sorted((tmp_path / "one").rglob("*.png")), sorted((tmp_path / "two").rglob("*.png"))
    assert [p.relative_to(tmp_path / "one") for p in one] == [p.relative_to(tmp_path / "two") for p in two]
    assert len(one) == 17 * 4
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


def test_going_on_makes_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def stopping(seed: int, size: tuple[int, int]) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return generate_scene(seed, size)

    monkeypatch.setattr(files, "generate_scene", stopping)
    for overwrite, hint in ((True, " (without --overwrite)"), (False, "")):
        calls = 0
        with pytest.raises(Interrupted, match="stopped after 0 of 6") as caught:
            write_scenes(out=tmp_path / "s", overwrite=overwrite, **SMALL)
        assert caught.value.fix == f"Run the same command again{hint} to go on."
        if overwrite:
            shutil.rmtree(tmp_path / "s")
    before = _stamps(tmp_path / "s")
    assert len(before) == 3 * 4 and not (tmp_path / "s/classes.json").exists()
    leftover = tmp_path / "s/.unip/tmp/.unip-half"
    leftover.mkdir(parents=True)
    monkeypatch.undo()
    result = write_scenes(out=tmp_path / "s", **SMALL)
    assert (result.made, result.kept) == (3, 3) and not leftover.exists()
    after = _stamps(tmp_path / "s")
    assert len(after) == 24 and all(after[name] == stamp for name, stamp in before.items())
    again = write_scenes(out=tmp_path / "s", **SMALL)
    assert (again.made, again.kept) == (0, 6) and _stamps(tmp_path / "s") == after


def test_a_frame_that_lacks_a_file_is_made_again(tmp_path: Path) -> None:
    write_scenes(out=tmp_path, **SMALL)
    (tmp_path / "train/masks/scene-000002.png").unlink()
    assert write_scenes(out=tmp_path, **SMALL).made == 1
    assert (tmp_path / "train/masks/scene-000002.png").is_file()


def test_other_settings_are_refused_unless_overwrite(tmp_path: Path) -> None:
    write_scenes(out=tmp_path, **SMALL)
    with pytest.raises(UnipError, match=r"other settings: seed 0 \(now 5\)"):
        write_scenes(out=tmp_path, seed=5, **SMALL)
    result = write_scenes(out=tmp_path, seed=5, overwrite=True, **{**SMALL, "count": 3, "splits": (1, 1, 1)})
    assert result.made == 3 and len(_stamps(tmp_path)) == 12


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/images/mine.png").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(UnipError, match="not empty and holds no synthetic scenes"):
            write_scenes(out=tmp_path, overwrite=overwrite, **SMALL)
    assert (tmp_path / "train/images/mine.png").read_bytes() == b"x"
    with pytest.raises(UnipError, match="is a file"):
        write_scenes(out=tmp_path / "train/images/mine.png", **SMALL)


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = write_scenes(out=tmp_path / "s", dry_run=True, **SMALL)
    assert result.made == 0 and not (tmp_path / "s").exists()
    assert "would write 6 of 6 scenes (4 train, 1 val, 1 test)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"splits": (0.5, 0.5, 0.5)}, "three shares that add up to 1"),
        ({"splits": (5, 5, 5)}, "three counts that add up to 6"),
        ({"splits": (-1, 1, 1)}, "three shares"),
        ({"size": (8, 64)}, "between 32 and 4096"),
        ({"count": 0, "splits": (1, 0, 0)}, "greater than or equal to 1"),
        ({"workers": 0}, "auto or at least 1"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_bad_settings(tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(UnipError, match=message):
        ScenesConfig.make(out=tmp_path, **{**SMALL, **values})


def test_shares_add_up() -> None:
    for count in (1, 2, 3, 7, 10, 99):
        counts = ScenesConfig.make(out="x", count=count, splits=(0.7, 0.15, 0.15)).counts()
        assert sum(counts.values()) == count and min(counts.values()) >= 0
    assert scene_seed(0, 1) != scene_seed(1, 0) and 0 <= scene_seed(3, 9) < 2**63
