"""Weights chosen on a split while they are trained, end to end."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.labelled.datasets import open_segmentation
from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.segmentation import predictor, strips
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.model import SegmentationLoss
from unip.segmentation.storage import save_segmenter
from unip.segmentation.torch_strips import logits_in_strips
from unip.segmentation.validation import quick_miou
from unip.segmentation.verbs import finetune
from unip.vit.architecture import BackboneSpec


@pytest.fixture
def settings(small_run):
    here = {"batch_size": 2, "compile": False}
    return {**small_run, **here, "crop": 32, "base": (128, 32), "decoder": "light", "lr": 3e-3}


def scores_of(run):
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {record["step"]: record["val_miou"] for record in records if "val_miou" in record}


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_best_step_is_the_model(settings, capsys, ema):
    result = finetune(**settings, steps=14, val="test", eval_every=4, ema=ema)
    scores = scores_of(settings["out"])
    assert list(scores) == [4, 8, 12, 14]
    best = max(scores, key=scores.get)
    assert result.scores.miou == scores[best] == result.training.best.score
    said = capsys.readouterr().out
    assert f"the best, those of step {best}, with {100 * scores[best]:.1f} % mIoU on test" in said
    assert "evaluation every 4 steps and after the last one on test; the best weights are the result" in said
    info = json.loads((settings["out"] / "model" / "config.json").read_text())["info"]
    assert (info["steps"], info["best_step"], info["val_miou"]) == (14, best, scores[best])


def test_patience_ends_it(settings, capsys):
    settings["lr"] = 1e-9  # nothing changes, so nothing gets better
    result = finetune(**settings, steps=100, val="test", eval_every=2, patience=3)
    assert (result.training.steps, result.training.best.step) == (8, 2)
    assert "the end after 3 evaluations without better ones" in capsys.readouterr().out


def test_the_split_that_was_chosen_on_may_not_change(settings):
    finetune(**settings, steps=2, val="test", eval_every=1)
    shutil.copytree(Path(settings["data"]) / "test", Path(settings["data"]) / "other")
    with pytest.raises(UnipError, match=r"other settings \(val: 'test' there, 'other' now\)"):
        finetune(**settings, steps=2, val="other", eval_every=1)


def test_what_cannot_be(settings):
    with pytest.raises(UnipError, match="val is train, which is trained on"):
        FinetuneConfig.make(**settings, val="train", eval_every=3)
    with pytest.raises(UnipError, match="eval_every needs images to evaluate on"):
        FinetuneConfig.make(**settings, eval_every=3, val_share=0)
    with pytest.raises(UnipError, match="patience counts evaluations"):
        FinetuneConfig.make(**settings, val="test", patience=3)
    for path in (settings["data"] / "test" / "masks").iterdir():
        Image.fromarray(np.full((32, 40), 255, np.uint8)).save(path)
    with pytest.raises(UnipError, match="no labelled pixel"):
        finetune(**settings, val="test", eval_every=3)
    assert not settings["out"].exists()


def test_too_little_memory_to_evaluate(settings, monkeypatch):
    """The batch size of training has no part in it, so the advice is another."""

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("unip.segmentation.inference.sliding_logits", full)
    with pytest.raises(UnipError, match=r"in an evaluation during training, .* windows of 40 pixels") as caught:
        finetune(**settings, steps=4, val="test", eval_every=2)
    assert "--checkpoint-activations" in caught.value.fix and "Lower --batch-size" not in caught.value.fix
    assert not (settings["out"] / "model").exists()
    again = {**settings, "out": settings["out"].parent / "again"}
    with pytest.raises(UnipError, match=r"in the evaluation of the trained model, .* windows of 40 pixels") as caught:
        finetune(**again, steps=4, val="test")
    assert "The model is saved" in caught.value.fix and (again["out"] / "model" / "config.json").exists()


ROPE = BackboneSpec(
    timm_name="vit_small_patch16_dinov3", arguments={"img_size": 32, "embed_dim": 16, "depth": 4, "num_heads": 2}
)
PLACED = BackboneSpec(
    timm_name="vit_small_patch14_reg4_dinov2",
    arguments={"img_size": 28, "embed_dim": 16, "depth": 4, "num_heads": 2},
)


@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize("backbone", [None, ROPE, PLACED], ids=["vit", "rope", "registers"])
def test_it_says_what_evaluate_says_and_training_goes_on(
    make_segmenter, segmentation_folder, tmp_path, monkeypatch, backbone, in_strips
):
    """Also of large frames, which both run in strips."""
    ran = []
    monkeypatch.setattr(
        predictor, "logits_in_strips", lambda *given: ran.append(given[1].shape) or logits_in_strips(*given)
    )
    if in_strips:
        monkeypatch.setattr(strips, "MAX_WHOLE_LOGITS", 0)
        monkeypatch.setattr(strips, "BLOCK_LOGITS", 1000)
    segmenter = make_segmenter(decoder="light", **({"backbone": backbone} if backbone else {}))
    data = open_segmentation(segmentation_folder, "test")
    settings = {"device": torch.device("cpu"), "dtype": torch.float32, "workers": 0}
    found = quick_miou(segmenter, data, **settings)
    assert len(ran) == in_strips * len(data)
    assert quick_miou(segmenter, data, lambda: True, **settings) is None
    save_segmenter(segmenter, tmp_path / "model")
    loss = SegmentationLoss(segmenter).train()  # nothing that inference left behind may be in the way
    loss(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(2, 32, 32, dtype=torch.uint8))["loss"].backward()
    said = evaluate(model=tmp_path / "model", data=segmentation_folder, split="test", device="cpu", workers=0)
    assert found == said.scores.miou
