"""The conversion of counts: chosen or stated by the data, kept with the model, used by evaluate and predict."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.images.config import Conversion, ConversionOptions
from unip.data.images.conversion import DEFAULT
from unip.data.sampling.frames import Frames
from unip.deployment.verbs import evaluate, predict
from unip.errors import UnipError
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.inference import Inference
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.segmentation.verbs import finetune

BLACK_HOT = Conversion(method="window", window=(7000, 9000), polarity="black-hot")


@pytest.fixture
def counts_folder(segmentation_folder):
    """The folder's frames as 14-bit counts."""
    for path in segmentation_folder.glob("*/images/*.png"):
        grey = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(7000 + grey * 7).save(path)
    return segmentation_folder


@pytest.fixture
def settings(tmp_path, backbone_folder, counts_folder):
    return {
        "model": str(backbone_folder),
        "recipe": "fast",
        "data": counts_folder,
        "out": tmp_path / "run",
        "steps": 2,
        "batch_size": 2,
        "decoder": "linear",
        "crop": 32,
        "base": (64, 32),
        "device": "cpu",
        "workers": 0,
        "tensorboard": False,
    }


def state(folder, conversion):
    path = folder / "classes.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "conversion": conversion.model_dump(mode="json")}))


def test_options_are_kept_and_used(settings, capsys, tmp_path):
    result = finetune(**settings, window=(7000, 9000), polarity="black-hot", val="test")
    assert result is not None
    assert load_segmenter(result.run).spec.conversion == BLACK_HOT
    card = (result.run / "model" / "README.md").read_text()
    assert "window 7000..9000" in card and "black-hot" in card
    recorded = FinetuneConfig.from_yaml(result.run / "config.yaml")
    assert (recorded.conversion, recorded.window, recorded.polarity) == ("window", (7000, 9000), "black-hot")
    said = capsys.readouterr().out
    assert said.count("window 7000..9000 (Kelvin of radiometric files, else counts), black-hot inverted") == 2

    images = settings["data"] / "test" / "images"
    predicted = predict(model=result.run, images=(images,), out=tmp_path / "out", device="cpu", workers=0)
    assert predicted is not None
    assert any("become grey" in line and "black-hot" in line for line in capsys.readouterr().out.splitlines())
    assert Conversion(**json.loads((predicted.out / "predictions.json").read_text())["conversion"]) == BLACK_HOT
    metrics = json.loads((result.run / "evaluation" / "test" / "metrics.json").read_text())
    assert Conversion(**metrics["conversion"]) == BLACK_HOT
    again = finetune(**settings, window=(7000, 9000), polarity="black-hot")  # finished: nothing to do, and no quarrel
    assert again is not None
    with pytest.raises(UnipError, match="polarity"):
        finetune(**settings, window=(7000, 9000))


def test_the_statement_of_the_data_is_taken_over(settings, capsys):
    state(settings["data"], BLACK_HOT)
    result = finetune(**settings)
    assert result is not None
    assert load_segmenter(result.run).spec.conversion == BLACK_HOT
    state(settings["data"], DEFAULT)  # the model's own conversion wins, and the difference is said
    capsys.readouterr()
    evaluate(model=result.run, data=settings["data"], device="cpu", workers=0, dry_run=True)
    said = capsys.readouterr().out
    assert "black-hot inverted" in said and "states another conversion, which is not used: percentiles" in said


def test_a_conversion_says_that_8_bit_frames_keep_their_values(settings, capsys):
    finetune(**settings, conversion="plateau", dry_run=True)
    assert "8-bit" not in capsys.readouterr().out
    for path in settings["data"].glob("*/images/*.png"):
        Image.fromarray((np.asarray(Image.open(path)) // 256).astype(np.uint8)).save(path)
    finetune(**settings, conversion="plateau", dry_run=True)
    assert "note: 8-bit frames, as the first one is, keep their values" in capsys.readouterr().out
    finetune(**settings, dry_run=True)
    assert "8-bit" not in capsys.readouterr().out


def test_training_and_prediction_see_the_same_grey(settings, make_segmenter, tmp_path, monkeypatch):
    """The model is told apart by what reaches it: frames of a window differ from stretched ones."""
    save_segmenter(make_segmenter(conversion=BLACK_HOT), tmp_path / "model")
    path = settings["data"] / "test" / "images" / "0.png"
    grey = 255 - np.clip((np.asarray(Image.open(path)).astype(float) - 7000) / 2000 * 255, 0, 255)
    assert np.abs(Frames([path], 32, BLACK_HOT)[0].pixels[0].numpy() - grey).max() <= 0.51
    seen = []
    run = Inference.run
    monkeypatch.setattr(Inference, "run", lambda self, group: seen.extend(group) or run(self, group))
    predict(model=tmp_path / "model", images=(path,), out=tmp_path / "out", device="cpu", workers=0)
    torch.testing.assert_close(seen[0].pixels, Frames([path], 32, BLACK_HOT)[0].pixels)


def test_models_saved_before_have_the_default_reading(make_segmenter, tmp_path):
    save_segmenter(make_segmenter(), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    record = json.loads(path.read_text())
    del record["spec"]["conversion"]
    path.write_text(json.dumps(record))
    assert load_segmenter(tmp_path / "model").spec.conversion == DEFAULT


@pytest.mark.parametrize(
    ("options", "stated", "expected"),
    [
        ({}, None, DEFAULT),
        ({}, BLACK_HOT, BLACK_HOT),
        ({"conversion": "plateau"}, None, Conversion(method="plateau")),
        ({"conversion": "plateau"}, BLACK_HOT, Conversion(method="plateau", polarity="black-hot")),
        ({"window": (1, 2)}, None, Conversion(method="window", window=(1, 2))),
        ({"window": (1, 2)}, BLACK_HOT, BLACK_HOT.model_copy(update={"window": (1, 2)})),
        ({"percentiles": (1, 99), "radiometric": True}, None, Conversion(percentiles=(1, 99), radiometric=True)),
    ],
)
def test_options_win_over_the_statement(options, stated, expected):
    assert ConversionOptions(**options).resolve_conversion(stated) == expected


@pytest.mark.parametrize("options", [{"conversion": "window"}, {"conversion": "minmax", "window": (1, 2)}])
def test_options_that_do_not_fit(options, settings):
    with pytest.raises(UnipError, match="window"):
        finetune(**settings, **options)
