"""What keys are made of."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from unip.data.manifests.manifest import write_manifest
from unip.data.manifests.scan import open_images
from unip.errors import UnipError
from unip.features.config import NeighbourSettings
from unip.pretraining.config import PretrainConfig
from unip.segmentation.config import FinetuneConfig
from unip.suites.identity import images_identity, key_of, settings_identity
from unip.suites.settings import LayerSettings


@pytest.fixture
def mix(tmp_path):
    rng = np.random.default_rng(0)
    for place in ("a/thermal/0.png", "a/thermal/1.png", "a/rgb/2.png", "other/3.png"):
        path = tmp_path / "mix" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    return tmp_path / "mix"


def test_a_mix_is_its_content_and_not_its_place(mix, tmp_path, monkeypatch):
    before = images_identity((str(mix),))
    moved = shutil.copytree(mix, tmp_path / "elsewhere" / "mix")
    assert images_identity((str(moved),)) == before
    monkeypatch.chdir(moved / "a")
    assert images_identity(("../../mix",)) == before
    assert images_identity((str(moved), "../../mix")) == before
    rest = (f"infrared={moved / 'a' / 'thermal'}", f"rgb={moved / 'a' / 'rgb'}")
    assert images_identity((*rest, f"infrared={moved / 'other'}")) != images_identity((*rest, f"rgb={moved / 'other'}"))


def test_what_a_later_source_tells_of_a_mix_counts(mix):
    names = [(), (f"infrared={mix / 'other'}",), (f"rgb={mix / 'other'}",)]
    assert len({images_identity((str(mix), *told)) for told in names}) == 3
    assert images_identity((str(mix), str(mix / "other"))) == images_identity((str(mix),))


@pytest.mark.parametrize("change", ["content", "modality", "more", "fewer"])
def test_what_changes_a_mix_changes_its_identity(mix, tmp_path, change):
    before = images_identity((str(mix),))
    other = shutil.copytree(mix, tmp_path / "elsewhere" / "mix")
    if change == "content":
        (other / "a/rgb/2.png").write_bytes(b"broken, which training will say")
    elif change == "modality":
        shutil.move(other / "a/rgb/2.png", other / "a/thermal/2.png")
    elif change == "more":
        shutil.copy(other / "a/rgb/2.png", other / "a/rgb/4.png")
    else:
        (other / "a/rgb/2.png").unlink()
    assert images_identity((str(other),)) != before


def test_a_guessed_modality_is_not_a_named_one(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(place := tmp_path / "infrared.png")
    (tmp_path / "col" / "infrared").mkdir(parents=True)
    shutil.copy(place, tmp_path / "col" / "infrared")
    assert images_identity((str(tmp_path / "col"),)) != images_identity((f"infrared={tmp_path / 'col'}",))


def test_a_file_that_cannot_be_read(mix):
    (mix / "other/4.png").symlink_to(mix / "gone.png")
    with pytest.raises(UnipError, match=r"4\.png cannot be read: No such file"):
        images_identity((str(mix),))


def test_a_manifest_counts_with_its_weights(mix, tmp_path):
    table = open_images([str(mix)])
    found = []
    for name, weight in (("one", 1.0), ("again", 1.0), ("two", 2.0)):
        index = table.column_names.index("weight")
        write_manifest(table.set_column(index, "weight", [[weight] * table.num_rows]), tmp_path / f"{name}.parquet")
        found.append(images_identity((str(tmp_path / f"{name}.parquet"),)))
    assert found[0] == found[1] != found[2]
    shutil.copy(mix / "other/3.png", mix / "a/rgb/2.png")  # pre-training's manifest has no hashes
    shutil.copy(tmp_path / "one.parquet", tmp_path / "other.parquet")
    assert images_identity((str(tmp_path / "other.parquet"),)) != found[0]


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (PretrainConfig.make(data="x", teacher="timm:y", out="o"), "39fe5a0be6535189"),
        (FinetuneConfig.make(model="m", data="d", out="o", val="v", eval_every=3), "596f94d82dcf498f"),
        (NeighbourSettings(), "615eb1406b66353d"),
        (LayerSettings(), "3d544e7cce73e920"),
    ],
)
def test_the_key_of_settings_stays(config, key):
    """Another one would run every cell again; after a new setting or default, put in the new key."""
    assert key_of(settings=settings_identity(config, but={"model", "data"}))[:16] == key
