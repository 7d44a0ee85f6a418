"""Pseudo-labels: what `unip predict` wrote is trained on beside labelled frames."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import unip
from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT
from unip.data.labelled.datasets import open_segmentation
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset, SegmentationTrainTransform
from unip.errors import UnipError
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.defaults import changing_setting
from unip.segmentation.pseudo import open_pseudo
from unip.segmentation.recipes import obstacle_to_quick
from unip.segmentation.training_data import MixedCrops
from unip.suites.suite import GRID_SETTINGS


@pytest.fixture
def frames(segmentation_folder: Path) -> Path:
    """Four new frames, and one that is labelled."""
    folder = segmentation_folder.parent / "frames"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(4):
        image = rng.integers(110, 130, (32, 40), dtype=np.uint8)
        image[5:20, 5:20] = 250
        Image.fromarray(image).save(folder / f"new{number}.png")
    (folder / "old.png").symlink_to(segmentation_folder / "train/images/0.png")
    return folder


def predictions(folder: Path, frames: Path, **changes) -> Path:
    """Write what unip predict would: one pixel of each mask is not known."""
    (folder / "masks").mkdir(parents=True)
    images = []
    for path in sorted(frames.iterdir()):
        mask = np.zeros((32, 40), np.uint8)
        mask[5:20, 5:20], mask[0, 0] = 1, 255
        Image.fromarray(mask).save(folder / "masks" / path.name)
        images.append({"image": str(path), "mask": f"masks/{path.name}", "overlay": "x", "shares": {}})
    record = {"model": "runs/ft", "classes": {"names": ["background", "hot", "cold"]}, "risk": 0.1, "images": images}
    (folder / "predictions.json").write_text(json.dumps({**record, **changes}))
    return folder


def test_frames_are_read_as_labelled_ones_are_but_for_those_that_have_labels(segmentation_folder, frames, tmp_path):
    labelled = open_segmentation(segmentation_folder, "train")
    folder = predictions(tmp_path / "p", frames)
    found = open_pseudo(folder, labelled, [frames / "new3.png"])
    assert [image.name for image in found.data.images] == ["new0.png", "new1.png", "new2.png"]
    assert (found.left_out, found.risk, found.data.classes) == (2, 0.1, labelled.classes)
    pair = found.data.read(0)
    assert (pair.mask[10, 10], pair.mask[0, 0], pair.mask[0, 1]) == (1, 255, 0)
    assert "2 more are labelled or evaluated on" in found.describe(0.5)[1]
    assert not found.stored_otherwise and found.data.conversion == DEFAULT
    unsure = open_pseudo(predictions(tmp_path / "q", frames, risk=None), labelled, [])
    assert "note: unsure pixels count like sure ones" in unsure.describe(0.25)[-1]


def test_frames_that_are_stored_in_another_way_are_read_as_predict_read_them(segmentation_folder, frames, tmp_path):
    """As predict --polarity says of the frames; how counts become grey stays that of the labelled ones."""
    window = Conversion(method="window", window=(0, 9000))
    labelled = replace(open_segmentation(segmentation_folder, "train"), conversion=window)
    stored = DEFAULT.given(polarity="black-hot", nodata=7)
    folder = predictions(tmp_path / "p", frames, conversion=stored.model_dump(mode="json"))
    found = open_pseudo(folder, labelled, [])
    assert found.data.conversion == window.given(polarity="black-hot", nodata=7)
    white = np.asarray(Image.open(found.data.images[0]))
    np.testing.assert_array_equal(found.data.read(0).image, 255 - white)
    assert any("read as unip predict read them" in line and "black-hot" in line for line in found.describe(0.5))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"classes": {"names": ["background", "cold", "hot"]}},
            "the classes of .* are background, cold, hot, and those",
        ),
        ({"images": []}, "none of the 0 frames of .* is without labels"),
        ({"images": [{"image": "gone.png", "mask": "masks/new0.png"}]}, "pseudo: gone.png is gone"),
        ({"images": "x"}, "predictions.json"),
    ],
)
def test_what_does_not_fit_is_refused(segmentation_folder, frames, tmp_path, spoil, message):
    folder = predictions(tmp_path / "p", frames, **spoil)
    with pytest.raises(UnipError, match=message):
        open_pseudo(folder, open_segmentation(segmentation_folder, "train"), [])


def test_crops_are_mixed_evenly_and_by_position_alone(segmentation_folder, frames, tmp_path):
    labelled = open_segmentation(segmentation_folder, "train")
    pseudo = open_pseudo(predictions(tmp_path / "p", frames), labelled, []).data
    transform = SegmentationTrainTransform(crop=16, base=(80, 32))

    def make(share: float) -> MixedCrops:
        parts = (SegmentationTrainDataset(data, transform, seed=seed) for data, seed in ((labelled, 0), (pseudo, 9)))
        return MixedCrops(*parts, share)

    alone, other = make(0.25).labelled, make(0.25).pseudo
    for share, per_eight in ((0.25, 2), (0.5, 4), (0.75, 6)):
        mixed = make(share)
        ours, theirs, kinds = 0, 0, []
        for position in range(24):
            is_pseudo = int((position + 1) * share) > int(position * share)
            expected = other[theirs] if is_pseudo else alone[ours]
            assert all(map(torch.equal, mixed[position], expected))
            ours, theirs = ours + (not is_pseudo), theirs + is_pseudo
            kinds.append(is_pseudo)
        assert [sum(kinds[first : first + 8]) for first in (0, 8, 16)] == [per_eight] * 3
    assert all(map(torch.equal, make(0.5)[17], make(0.5)[17]))


def test_what_keeps_features_from_being_cached_and_suites_do_not_have_it(tmp_path):
    config = FinetuneConfig.make(
        model="unip-ir-tiny", data="d", out="o", pseudo=tmp_path, mode="frozen", photometric=False
    )
    assert "(pseudo)" in (changing_setting(config.model_copy(update={"ratio": (1.0, 1.0)})) or "")
    assert "pseudo is given" in (obstacle_to_quick(config) or "")
    assert "pseudo" in GRID_SETTINGS


def test_a_model_teaches_the_next_one(segmentation_folder, backbone_folder, frames, tmp_path, capsys):
    settings = {
        "model": str(backbone_folder),
        "data": segmentation_folder,
        "recipe": "fast",
        "val": "test",
        "steps": 3,
        "batch_size": 4,
        "crop": 32,
        "base": (64, 32),
        "device": "cpu",
        "workers": 0,
        "tensorboard": False,
    }
    unip.finetune(**settings, out=tmp_path / "first")
    unip.predict(model=tmp_path / "first", images=frames, out=tmp_path / "p", device="cpu", workers=0)
    second = {**settings, "pseudo": tmp_path / "p", "pseudo_share": 0.5}
    unip.finetune(**second, out=tmp_path / "second")
    assert "4 frames with pseudo-labels of" in capsys.readouterr().out
    unip.finetune(**second, out=tmp_path / "again")
    first, two, again = (
        load_file(tmp_path / run / "model" / "model.safetensors") for run in ("first", "second", "again")
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in two.items())
    assert any(not torch.equal(tensor, first[name]) for name, tensor in two.items())
    described = json.loads((tmp_path / "second/model/config.json").read_text())
    assert (described["info"]["pseudo_images"], described["info"]["pseudo_share"]) == (4, 0.5)
    ancestors = described["lineage"]["ancestors"]
    teacher = next(each for each in ancestors if each["role"] == "teacher")
    assert (teacher["name"], teacher["note"]) == ("first", "made the pseudo-labels") and len(teacher["sha256"]) == 64
    assert {each.get("through") for each in ancestors} == {None, "first"}
    assert "frames with pseudo-labels" in {each["name"] for each in ancestors}
    # a run that is stopped goes on with the same crops
    half = tmp_path / "half"
    unip.finetune(**second, out=half, checkpoint_every=2)
    shutil.rmtree(half / "checkpoints" / "step-00000003")
    unip.finetune(**second, out=half, checkpoint_every=2)
    whole = load_file(half / "model" / "model.safetensors")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in two.items())


def test_a_folder_that_predict_did_not_write_is_refused_early(segmentation_folder, tmp_path):
    with pytest.raises(UnipError, match=r"pseudo: .* has no predictions\.json"):
        unip.finetune(data=segmentation_folder, out=tmp_path / "o", pseudo=tmp_path)


def test_a_share_of_no_pseudo_labels_is_refused(small_run):
    with pytest.raises(UnipError, match=r"pseudo_share 0\.3 is of pseudo-labels, and none are given"):
        unip.finetune(**small_run, pseudo_share=0.3)
    assert not small_run["out"].exists()


def test_a_list_that_predict_does_not_write_is_refused(segmentation_folder, frames, tmp_path):
    labelled = open_segmentation(segmentation_folder, "train")
    other = predictions(tmp_path / "other", frames)
    images = json.loads((other / "predictions.json").read_text())["images"]
    elsewhere = [{**images[0], "mask": f"../other/{images[0]['mask']}"}, *images[1:]]
    for name, listed, message in (
        ("twice", [*images, images[0]], "new0.png twice"),
        ("elsewhere", elsewhere, "outside of the folder"),
        ("absolute", [{**images[0], "mask": str(other / images[0]["mask"])}], "outside of the folder"),
    ):
        with pytest.raises(UnipError, match=message):
            open_pseudo(predictions(tmp_path / name, frames, images=listed), labelled, ())
