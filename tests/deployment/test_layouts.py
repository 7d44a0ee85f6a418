"""Every verb takes segmentation data in any layout."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.labelled.classes import Classes
from unip.data.labelled.datasets import open_segmentation
from unip.data.sampling.frames import Frames
from unip.data.sampling.segmentation_crops import SegmentationTrainDataset, SegmentationTrainTransform
from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.segmentation.storage import save_segmenter
from unip.segmentation.verbs import finetune


@pytest.fixture
def mfnet(tmp_path: Path) -> str:
    """MFNet as it is released: RGB and thermal in one PNG; the thermal channel shows a hot square."""
    root = tmp_path / "mfnet"
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        names = [f"{split}{n}D" for n in range(count)]
        for name in names:
            image, mask = rng.integers(0, 60, (32, 40, 4), dtype=np.uint8), np.zeros((32, 40), np.uint8)
            top, left = rng.integers(0, 20), rng.integers(0, 28)
            image[top : top + 12, left : left + 12, 3] = 250
            mask[top : top + 12, left : left + 12] = 2
            Image.fromarray(image).save(root / f"images/{name}.png")
            Image.fromarray(mask).save(root / f"labels/{name}.png")
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    return f"mfnet:{root}"


def test_finetune_and_evaluate(mfnet, backbone_folder, tmp_path, capsys):
    sizes = {"batch_size": 2, "crop": 32, "base": (128, 32), "steps": 2, "decoder": "light"}
    quiet = {"recipe": "fast", "device": "cpu", "compile": False, "workers": 0, "tensorboard": False}
    run = tmp_path / "run"
    names = ("car", "bike", "curve", "car stop", "guardrail", "color cone", "bump")
    remap = ["person=hot", *(f"{name}=ignore" for name in names)]
    result = finetune(model=str(backbone_folder), data=mfnet, val="val", remap=remap, out=run, **sizes, **quiet)
    assert result.scores.names == ("background", "hot") and "4 labelled images: background" in capsys.readouterr().out
    again = evaluate(model=run, data=mfnet, split="val", remap=remap, device="cpu", workers=0)
    assert again.scores.matrix.tolist() == result.scores.matrix.tolist()
    assert remap[0] in (run / "model/config.json").read_text()
    with pytest.raises(UnipError, match=r"knows hot, which .* does not have") as caught:
        evaluate(model=run, data=mfnet, split="val", device="cpu")
    assert "--remap" in caught.value.fix


def test_evaluate_reads_the_thermal_channel(mfnet, make_segmenter, tmp_path):
    data = open_segmentation(mfnet, "test")
    segmenter = make_segmenter(classes=Classes(data.classes.names))
    save_segmenter(segmenter, tmp_path / "model", info={})
    result = evaluate(model=tmp_path / "model", data=mfnet, device="cpu", workers=0)
    assert result.scores.matrix.sum() == 2 * 32 * 40
    frame = Frames(data, 32)[0]
    with Image.open(data.images[0]) as image:
        np.testing.assert_array_equal(frame.image, np.asarray(image)[..., 3])


def test_spawned_workers_get_them_too(mfnet):
    transform = SegmentationTrainTransform(crop=16, base=(64, 32))
    dataset = SegmentationTrainDataset(open_segmentation(mfnet, "train"), transform)
    sent = pickle.loads(pickle.dumps(dataset))
    assert all((a == b).all() for a, b in zip(sent[3], dataset[3], strict=True))
