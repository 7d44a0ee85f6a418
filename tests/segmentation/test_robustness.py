import json
import os
import shutil
import signal

import numpy as np
import pytest

from tests.segmented import segment_frames
from unip.data.corruptions import CORRUPTIONS, CorruptFrames
from unip.data.labelled.datasets import open_segmentation
from unip.data.sampling.frames import Frames
from unip.deployment.verbs import evaluate
from unip.errors import Interrupted, UnipError
from unip.outputs import output_folder, write_text
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation import score_frames
from unip.segmentation.metrics import percent, score
from unip.segmentation.robustness import mean_measures
from unip.segmentation.storage import save_segmenter


@pytest.fixture
def model(tmp_path, make_segmenter):
    save_segmenter(make_segmenter(decoder="linear"), tmp_path / "run" / "model")
    return tmp_path / "run"


def test_evaluation_gains_a_file_and_changes_nothing_else(model, segmentation_folder, tmp_path, capsys):
    settings = {"model": model, "data": segmentation_folder, "device": "cpu", "worst": 2}
    plain = evaluate(**settings)
    before = (plain.out / "metrics.json").read_bytes()
    page = (plain.out / "evaluation.html").read_text()
    assert plain.corrupted == {} and not (plain.out / "robustness.json").exists()
    assert "corrupted images" not in capsys.readouterr().out and "Corrupted images" not in page

    result = evaluate(**settings, corruption=("polarity", "temporal_noise:5"), seed=3)
    assert (result.out / "metrics.json").read_bytes() == before
    record = json.loads((result.out / "robustness.json").read_text())
    assert list(result.corrupted) == ["polarity:3", "temporal_noise:5"]
    assert (record["model"], record["seed"], record["clean"]["miou"]) == (str(model), 3, result.scores.miou)
    found = [(each["name"], each["severity"], each["seed"]) for each in record["each"]]
    assert found == [("polarity", 3, 3), ("temporal_noise", 5, 3)]
    for each, scores in zip(record["each"], result.corrupted.values(), strict=True):
        assert each["miou"] == scores.miou and each["confusion_matrix"] == scores.matrix.tolist()
        assert scores.matrix.sum() == result.scores.matrix.sum()
        assert (scores.matrix != result.scores.matrix).any()
    assert record["mean"]["miou"] == pytest.approx(np.mean([each["miou"] for each in record["each"]]))
    page = (result.out / "evaluation.html").read_text()
    for text in ("Corrupted images", "temporal_noise", f"<td>{percent(record['mean']['miou'])}</td>"):
        assert text in page
    printed = capsys.readouterr().out
    assert "polarity" in printed and "mean" in printed and "without background" in printed

    again = evaluate(**settings, corruption=("temporal_noise:5",), seed=3, batch_size=1, out=tmp_path / "again")
    other = evaluate(**settings, corruption=("temporal_noise:5",), seed=4, out=tmp_path / "other")
    matrices = [found.corrupted["temporal_noise:5"].matrix.tolist() for found in (result, again, other)]
    assert matrices[0] == matrices[1] != matrices[2]


def test_a_stop_loses_one_corruption_at_most(model, segmentation_folder, monkeypatch, capsys):
    settings = {"model": model, "data": segmentation_folder, "device": "cpu", "worst": 2}
    file, done = model / "evaluation" / "test" / "robustness.json", []

    def watched(ready, config, corruption=None, look=()):
        if corruption is not None:
            if corruption.name == "fog" and "fog" not in done:
                done.append("fog")
                os.kill(os.getpid(), signal.SIGINT)
            done.append(corruption.name)
        return score_frames(ready, config, corruption, look)

    monkeypatch.setattr("unip.segmentation.evaluation.score_frames", watched)
    with pytest.raises(Interrupted, match=r"interrupted: of 2 corruptions, those that are done are in .*robust") as how:
        evaluate(**settings, corruption=("polarity", "fog"))
    assert how.value.fix == "Run the same command again to continue."
    page = (file.parent / "evaluation.html").read_text().replace("\n", "")
    assert "<td>fog</td><td>3</td><td>-</td>" in page
    assert (file.parent / "metrics.json").exists() and (file.parent / "evaluation.html").exists()
    record = json.loads(file.read_text())
    assert [each["name"] for each in record["each"]] == ["polarity"]
    assert record["wanted"] == ["polarity:3", "fog:3"] and record["mean"] is None
    evaluate(**settings)
    page = (file.parent / "evaluation.html").read_text().replace("\n", "")
    assert "<td>fog</td><td>3</td><td>-</td>" in page and "<td>mean</td><td></td><td>-</td>" in page

    capsys.readouterr()
    whole = evaluate(**settings, corruption=("polarity", "fog"))
    assert f"{file} has polarity:3 already" in capsys.readouterr().out
    assert done == ["polarity", "fog", "fog"] and list(whole.corrupted) == ["polarity:3", "fog:3"]
    record = json.loads(file.read_text())
    assert record["mean"]["miou"] == pytest.approx(np.mean([scores.miou for scores in whole.corrupted.values()]))
    more = evaluate(**{**settings, "model": model / "model"}, out=file.parent, corruption=("fog", "polarity:1"))
    assert done[3:] == ["polarity"] and list(more.corrupted) == ["fog:3", "polarity:1"]
    assert more.corrupted["fog:3"].matrix.tolist() == whole.corrupted["fog:3"].matrix.tolist()
    assert len(json.loads(file.read_text())["each"]) == 3
    evaluate(**settings, corruption=("fog",), seed=1)
    assert done[4:] == ["fog"]
    record = json.loads(file.read_text())
    assert (record["wanted"], record["seed"], len(record["each"])) == (["fog:3"], 1, 4)


def test_a_plain_evaluation_shows_what_was_asked_for_last(model, segmentation_folder, make_segmenter, capsys):
    settings = {"model": model, "data": segmentation_folder, "device": "cpu", "worst": 2}
    page, file = (model / "evaluation" / "test" / name for name in ("evaluation.html", "robustness.json"))
    evaluate(**settings, corruption=("polarity",), seed=0)
    evaluate(**settings, corruption=("fog", "jpeg"), seed=1)
    shown, kept = page.read_text(), file.read_text()
    evaluate(**settings)
    assert page.read_text() == shown and "fog" in shown and "polarity" not in shown
    for change in ("other weights", "another window", "another version"):
        if change == "other weights":
            shutil.rmtree(model / "model")
            save_segmenter(make_segmenter(decoder="linear"), model / "model")
        if change == "another version":
            with output_folder(file.parent):
                write_text(file, json.dumps({**json.loads(kept), "each": [{"name": "fog"}]}))
        capsys.readouterr()
        evaluate(**settings, window="whole" if change == "another window" else "slide")
        assert f"{file} stays as it is" in capsys.readouterr().out
        assert "Corrupted images" not in page.read_text() and file.exists()
    found = evaluate(**settings, corruption=("jpeg",))
    assert [each["miou"] for each in json.loads(file.read_text())["each"]] == [found.corrupted["jpeg:3"].miou]


def test_a_folder_that_cannot_be_written_to_is_told_before_too(model, segmentation_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("unip.segmentation.evaluation.score_frames", None)
    with pytest.raises(UnipError, match=r"cannot write to .*file is a file"):
        evaluate(model=model, data=segmentation_folder, device="cpu", out=tmp_path / "file")


def test_a_stop_before_the_first_corruption(model, segmentation_folder, monkeypatch, capsys):
    def stopped(ready, config, corruption=None, look=()):
        if corruption is not None:
            os.kill(os.getpid(), signal.SIGINT)
        return score_frames(ready, config, corruption, look)

    monkeypatch.setattr("unip.segmentation.evaluation.score_frames", stopped)
    with pytest.raises(Interrupted):
        evaluate(model=model, data=segmentation_folder, device="cpu", corruption=("fog",))
    capsys.readouterr()
    result = evaluate(model=model, data=segmentation_folder, device="cpu")
    assert "stays as it is" not in capsys.readouterr().out
    assert "<td>fog</td>" in (result.out / "evaluation.html").read_text()


@pytest.mark.parametrize("settings", [{}, {"corruption": ("fog",)}, {"dry_run": True}])
def test_a_broken_file_is_told_before_anything_is_computed(model, segmentation_folder, monkeypatch, settings):
    file = model / "evaluation" / "test" / "robustness.json"
    with output_folder(file.parent):
        write_text(file, "{")
    monkeypatch.setattr("unip.segmentation.evaluation.score_frames", None)
    with pytest.raises(UnipError, match=r"robustness\.json is not valid JSON") as caught:
        evaluate(model=model, data=segmentation_folder, device="cpu", **settings)
    assert "delete it" in caught.value.fix and file.read_text() == "{"


def test_images_are_corrupted_at_their_own_size_whatever_the_workers(segmentation_folder, make_segmenter):
    data = open_segmentation(segmentation_folder, "test")
    corruption = CorruptFrames("temporal_noise", 4, 2)
    frames = Frames(data, 16, corruption=corruption)
    for index in (2, 0):
        expected = corruption(data.read_image(index), index)
        np.testing.assert_array_equal(frames[index].image, expected)
        assert frames[index].pixels.shape == (1, 16, 20)
    segmenter = make_segmenter(short_side=16)
    for workers in (0, 2):
        results = segment_frames(segmenter, frames, device=next(segmenter.parameters()).device, workers=workers)
        for frame, _ in results:
            np.testing.assert_array_equal(frame.image, frames[frame.index].image)


def test_unknown_corruptions_and_dry_run(model, segmentation_folder, capsys):
    with pytest.raises(UnipError, match="did you mean fog"):
        EvaluateConfig.make(model=model, data=segmentation_folder, corruption=("fogg",))
    evaluate(model=model, data=segmentation_folder, corruption=("all:2",), dry_run=True)
    assert f"{next(iter(CORRUPTIONS))}:2" in capsys.readouterr().out


def test_mean_over_corruptions():
    perfect, wrong = (score(np.array(matrix), ("background", "hot")) for matrix in ([[8, 0], [0, 2]], [[8, 0], [2, 0]]))
    found = mean_measures([perfect, wrong])
    assert found["miou"] == pytest.approx((1 + 0.4) / 2)
    assert found["foreground_miou"] == pytest.approx(0.5)
    assert found["pixel_accuracy"] == pytest.approx(0.9)
