"""A loaded model evaluates and exports itself as the verbs do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import unip
from unip.deployment import methods, verbs
from unip.deployment.config import LoadConfig
from unip.deployment.export.config import ExportConfig
from unip.errors import UnipError
from unip.segmentation.storage import save_segmenter


@pytest.fixture
def folder(tmp_path, make_segmenter) -> Path:
    save_segmenter(make_segmenter(), tmp_path / "model")
    return tmp_path / "model"


def test_predict_is_the_call(folder):
    frame = np.random.default_rng(0).integers(0, 255, (32, 40), np.uint8)
    model = unip.load(folder, device="cpu")
    np.testing.assert_array_equal(model.predict(frame).mask, model(frame).mask)
    assert [result.name for result in model.predict([frame, frame], stream=True)] == ["frame 0", "frame 1"]


@pytest.mark.parametrize("given", [{}, {"polarity": "black-hot"}, {"window": "whole"}])
def test_it_evaluates_as_it_was_loaded(folder, segmentation_folder, tmp_path, given):
    model = unip.load(folder, device="cpu", compile=False, **given)
    found = model.evaluate(segmentation_folder, out=tmp_path / "method")
    verb = unip.evaluate(model=folder, data=segmentation_folder, out=tmp_path / "verb", device="cpu", **given)
    np.testing.assert_array_equal(found.scores.matrix, verb.scores.matrix)
    assert found.out == tmp_path / "method"
    assert "array([[" not in repr(found) and f"miou={found.scores.miou}" in repr(found)


def test_what_is_given_counts_more_than_what_it_was_loaded_with(folder, segmentation_folder, tmp_path):
    model = unip.load(folder, device="cpu", polarity="black-hot")
    found = model.evaluate(segmentation_folder, polarity="white-hot", out=tmp_path / "method")
    verb = unip.evaluate(model=folder, data=segmentation_folder, out=tmp_path / "verb", device="cpu")
    np.testing.assert_array_equal(found.scores.matrix, verb.scores.matrix)


def test_it_exports_as_the_verb_does(folder, tmp_path, monkeypatch):
    """What is exported is tested in test_exported.py, whose files come from this method."""
    monkeypatch.setattr(verbs, "export", lambda config: config)
    expected = ExportConfig.make(model=folder, to="openvino", precision="bf16", out=tmp_path / "out")
    model = unip.load(folder, device="cpu", window="whole", batch_size=2)
    assert model.export("openvino", precision="bf16", out=tmp_path / "out") == expected
    assert model.export() == ExportConfig.make(model=folder)


def test_an_exported_file_is_not_exported_again(folder):
    facts = replace(unip.load(folder, device="cpu").facts, folder=None)
    with pytest.raises(UnipError, match="is an exported file"):
        methods.export_loaded(facts, LoadConfig(), {})


@pytest.mark.parametrize("name", ["nodata", "polarity", "palette"])
def test_what_the_file_would_not_do_is_refused(folder, segmentation_folder, name):
    model = unip.load(folder, device="cpu", **{name: {"nodata": 0, "polarity": "black-hot", "palette": "iron"}[name]})
    with pytest.raises(UnipError, match=f"loaded with {name} cannot be exported"):
        model.export()
    if name == "nodata":
        with pytest.raises(UnipError, match="loaded with nodata cannot be evaluated"):
            model.evaluate(segmentation_folder)


def test_wrong_settings_are_refused(folder, segmentation_folder):
    model = unip.load(folder, device="cpu")
    with pytest.raises(UnipError, match="unknown setting 'splt'") as caught:
        model.evaluate(segmentation_folder, splt="val")
    assert "split" in caught.value.fix
    with pytest.raises(UnipError, match="to"):
        model.export("tflite")
    with pytest.raises(UnipError, match="dry_run"):
        model.export(dry_run=True)


def test_nothing_is_written_to_the_cache_of_the_hub(folder):
    facts = replace(unip.load(folder, device="cpu").facts, name="hf:owner/thing")
    assert methods.source(facts, {"out": "there"}) == folder
    with pytest.raises(UnipError, match="hf:owner/thing has no folder of its own"):
        methods.source(facts, {})
    with pytest.raises(UnipError, match="hf:owner/thing has no folder of its own to keep a calibration in"):
        methods.source(facts, {"out": "there", "calibrate": True})
