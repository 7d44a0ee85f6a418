"""What confidence means: temperature, thresholds and calibration error against computations in float64."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unip
from unip.errors import UnipError
from unip.segmentation.calibrating import PixelSample, fit_temperature
from unip.segmentation.calibration import BINS, NEVER, Calibration, bin_of, lowest_of, unsure
from unip.segmentation.reliability import ReliabilityCounter, confidence_of, weighted_error
from unip.segmentation.storage import save_segmenter

NAMES = ("background", "hot", "cold")


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """In float64, classes last."""
    shifted = logits.astype(np.float64) / temperature
    shifted -= shifted.max(-1, keepdims=True)
    return np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)


def drawn(count: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(N, 3)``, and truths that are drawn with their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, 3))
    shares = softmax(logits, temperature).cumsum(1)
    return logits, (rng.uniform(size=(count, 1)) > shares).sum(1)


def loss(logits, truth, weights, temperature):
    return -(weights * np.log(softmax(logits, temperature)[np.arange(len(truth)), truth])).sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.7])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature):
    logits, truth = drawn(40_000, temperature)
    assert fit_temperature(logits, truth, np.ones(len(truth))) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_a_smaller_loss():
    logits, truth = drawn(500, 1.7, seed=1)
    weights = np.random.default_rng(2).uniform(0.5, 3, 500)
    found = fit_temperature(logits + 1000, truth, weights)
    least = loss(logits, truth, weights, found)
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert loss(logits, truth, weights, found * factor) > least
    again = fit_temperature(np.repeat(logits, 3, axis=0), np.repeat(truth, 3), np.repeat(weights, 3) / 3)
    assert again == pytest.approx(found, rel=1e-6)


def test_frames_without_an_error_do_not_ask_for_certainty():
    logits, truth = np.eye(3)[[0, 1, 2]] * 5, np.array([0, 1, 2])
    assert fit_temperature(logits, truth, np.ones(3)) == pytest.approx(0.2, rel=1e-3)


def test_bins_of_confidence():
    bins = np.arange(BINS)
    low = lowest_of(bins)
    assert low[0] == 0 and (np.diff(low) > 0).all() and low[-1] < 1
    np.testing.assert_array_equal(bin_of(low[1:] * (1 + 1e-12)), bins[1:])
    np.testing.assert_array_equal(bin_of(low[1:] * (1 - 1e-9) - 1e-12)[:200], bins[:200])
    assert bin_of(np.array([0.0, 1.0])).tolist() == [0, BINS - 1]


def measure(temperature=2.0, frames=12, size=(40, 50)):
    """A model's frames whose labels were drawn with a temperature; returns what is measured, and all pixels."""
    sample, plain = PixelSample(NAMES, frames), ReliabilityCounter(NAMES, None)
    all_logits, all_truth = [], []
    for number in range(frames):
        logits, truth = drawn(size[0] * size[1], temperature, seed=number)
        truth[:50] = 255
        cube = torch.from_numpy(logits.T.reshape(3, *size)).float()
        given = cube, cube.argmax(0).byte(), torch.from_numpy(truth.reshape(size).astype(np.uint8))
        sample.add(*given)
        plain.add(*given)
        all_logits.append(logits[50:])
        all_truth.append(truth[50:])
    return sample, plain.finish(), np.concatenate(all_logits), np.concatenate(all_truth)


def plain_ece(confidence, right):
    """The calibration error as a loop over bins (lower, upper]."""
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_the_calibration_error_is_that_of_its_definition():
    _, counted, logits, truth = measure()
    shares = softmax(logits, 1)
    expected = plain_ece(shares.max(1), shares.argmax(1) == truth)
    assert counted.ece == pytest.approx(expected, abs=2e-5)
    assert counted.ece == counted.ece_uncalibrated > 0.05
    assert weighted_error(shares.max(1), shares.argmax(1) == truth, np.ones(len(truth))) == pytest.approx(expected)


def test_calibration_makes_the_error_small_and_counts_all_pixels():
    sample, counted, logits, truth = measure()
    measured = sample.measure("frames")
    calibration = measured.calibration
    assert calibration.temperature == pytest.approx(2.0, rel=0.03)
    shares = softmax(logits, calibration.temperature)
    ids, confidence = shares.argmax(1), shares.max(1)
    assert measured.ece == pytest.approx(plain_ece(confidence, ids == truth), abs=1e-6)
    assert measured.ece < 0.01 < measured.ece_uncalibrated == pytest.approx(counted.ece, abs=1e-4)
    for c in range(3):
        for of, rows in ((ids == truth, calibration.right), (ids != truth, calibration.wrong)):
            expected = np.bincount(bin_of(confidence[(ids == c) & of]), minlength=BINS)
            np.testing.assert_array_equal(rows[c], expected)
    assert calibration.shown == (12, 12, 12) and calibration.images == 12


def test_a_sample_stands_for_all_pixels(monkeypatch):
    whole = measure(frames=4, size=(100, 120))[0].measure("frames")
    monkeypatch.setattr("unip.segmentation.calibrating.BUDGET", 12_000)
    some = measure(frames=4, size=(100, 120))[0].measure("frames")
    assert sum(map(sum, some.calibration.right + some.calibration.wrong)) == pytest.approx(4 * 11_950, rel=0.01)
    assert some.calibration.temperature == pytest.approx(whole.calibration.temperature, rel=0.05)
    kept = [len(each[1]) for each in measure(frames=4, size=(100, 120))[0].kept]
    assert max(kept) == 1000


def test_the_counter_agrees_with_the_calibration_on_its_frames():
    """Another way to count the same pixels: on the device, in float32."""
    sample, _, logits, truth = measure()
    measured = sample.measure("frames")
    counter = ReliabilityCounter(NAMES, measured.calibration)
    cube = torch.from_numpy(logits.T[:, None]).float()
    counter.add(cube, cube.argmax(0).byte(), torch.from_numpy(truth[None].astype(np.uint8)))
    again = counter.finish()
    assert again.ece == pytest.approx(measured.ece, abs=2e-5)
    assert np.abs(again.right - measured.right).sum() <= 20  # at the edges of bins
    assert again.right.sum() == measured.right.sum()


@pytest.mark.parametrize("risk", [0.02, 0.05, 0.2])
def test_a_threshold_is_the_least_that_keeps_to_the_risk(risk):
    calibration = measure(frames=200, size=(15, 15))[0].measure("frames").calibration
    right, wrong = np.array(calibration.right), np.array(calibration.wrong)
    for c, threshold in enumerate(calibration.thresholds(risk)):

        def corrected(first, c=c):
            share = wrong[c, first:].sum() / (right[c, first:] + wrong[c, first:]).sum()
            return (200 * share + 1) / 201

        good = [
            first for first in range(BINS) if (right[c, first:] + wrong[c, first:]).any() and corrected(first) <= risk
        ]
        assert threshold == (np.float32(lowest_of(np.array(good[0]))) if good else NEVER)
    assert (np.diff([calibration.thresholds(r)[0] for r in (0.02, 0.05, 0.2)]) <= 0).all()


def test_few_frames_show_no_small_risk():
    rows = tuple((0,) * 200 + (1000,) + (0,) * 39 for _ in range(2))
    none = tuple((0,) * BINS for _ in range(2))
    made = {"temperature": 1.0, "data": "d", "images": 30, "right": rows, "wrong": none}
    calibration = Calibration(**made, shown=(9, 30))
    assert (calibration.thresholds(0.05) >= NEVER).tolist() == [True, False]
    assert (calibration.thresholds(0.1) < NEVER).all()
    with pytest.raises(UnipError, match="risk 1 is no share"):
        calibration.thresholds(1.0)


def test_risk_wanted_is_risk_got_on_other_frames():
    calibration = measure(frames=100, size=(20, 30))[0].measure("frames").calibration
    logits, truth = drawn(200_000, 2.0, seed=999)
    cube = torch.from_numpy(logits.T[:, None]).float()
    counter = ReliabilityCounter(NAMES, calibration)
    counter.add(cube, cube.argmax(0).byte(), torch.from_numpy(truth[None].astype(np.uint8)))
    reliability = counter.finish()
    confidence = confidence_of(cube, calibration.temperature).numpy()
    ids = cube.argmax(0).numpy().astype(np.uint8)
    for wanted in (0.05, 0.1, 0.2):
        check = reliability.check(wanted)
        kept = ~unsure(ids, confidence, calibration.thresholds(wanted))
        wrong = ids != truth[None]
        assert check.coverage == pytest.approx(kept.mean(), abs=1e-3)
        assert check.risk == pytest.approx(wrong[kept].mean(), abs=1e-3)
        assert all(each.risk <= wanted + 0.01 for each in check.classes)
        assert check.risk > wanted / 2


def test_certain_pixels_pass_every_threshold_that_can_be_passed():
    """In float32 the highest thresholds are 1, and so is the confidence above them."""
    right = tuple(tuple(9 * (number == BINS - 1) for number in range(BINS)) for _ in range(3))
    wrong = tuple(tuple(9 * (number < BINS - 1) for number in range(BINS)) for _ in range(3))
    calibration = Calibration(temperature=1, data="d", images=99, right=right, wrong=wrong, shown=(99, 99, 99))
    assert (calibration.thresholds(0.05) == 1).all()
    logits = torch.tensor([40.0, 0.0, 0.0]).repeat(10, 1).T[:, None]
    counter = ReliabilityCounter(NAMES, calibration)
    counter.add(logits, logits.argmax(0).byte(), torch.zeros(1, 10, dtype=torch.uint8))
    check = counter.finish().check(0.05)
    assert (check.coverage, check.risk) == (1.0, 0.0)
    assert not unsure(np.zeros((1, 10), np.uint8), confidence_of(logits, 1).numpy(), calibration.thresholds(0.05)).any()


def test_the_curve_of_risk_and_coverage():
    sample, _, logits, truth = measure()
    reliability = sample.measure("frames")
    shares = softmax(logits, reliability.calibration.temperature)
    confidence, wrong = shares.max(1), shares.argmax(1) != truth
    thresholds, coverage, risk = reliability.curve()
    for threshold, covered, share in list(zip(thresholds, coverage, risk, strict=True))[::7]:
        above = confidence >= threshold
        assert (covered, share) == (pytest.approx(above.mean()), pytest.approx(wrong[above].mean()))
    assert coverage[0] == 1 and risk[0] == pytest.approx(wrong.mean())
    best = max(covered for covered, share in zip(coverage, risk, strict=True) if share <= 0.1)
    assert reliability.coverage_at(0.1) == best
    at = np.abs(coverage - 0.9).argmin()
    wrong_of_all, covered, wrong_of_those = (f"{100 * share:.1f} %" for share in (risk[0], coverage[at], risk[at]))
    told = f"{wrong_of_all} of all pixels are wrong, of the most confident {covered} {wrong_of_those}"
    assert reliability.describe().endswith(told)


# In the folder of a model ------------------------------------------------------------------------------------------


@pytest.fixture
def trained(small_run) -> Path:
    settings = {"steps": 3, "batch_size": 2, "decoder": "linear", "crop": 32, "base": (64, 32), "val": "test"}
    return unip.finetune(**small_run, **settings).run


def test_fine_tuning_measures_it_and_every_user_of_the_model_has_it(trained, segmentation_folder, tmp_path, capsys):
    calibration = Calibration.read(trained / "model", 3)
    assert calibration.images == 3 and "(test)" in calibration.data
    total = sum(map(sum, calibration.right + calibration.wrong))
    assert total == 3 * 31 * 40  # a row of each mask has no label
    model, images = unip.load(trained, device="cpu"), sorted((segmentation_folder / "test" / "images").iterdir())
    (trained / "model" / "calibration.json").rename(tmp_path / "calibration.json")
    plain = unip.load(trained, device="cpu")
    (tmp_path / "calibration.json").rename(trained / "model" / "calibration.json")
    for path in images:
        one, other = model(path), plain(path)
        np.testing.assert_array_equal(one.mask, other.mask)
        logits = np.log(np.moveaxis(other.probabilities.astype(np.float64), 0, -1))
        np.testing.assert_allclose(one.confidence, softmax(logits, calibration.temperature).max(-1), atol=1e-5)
        assert one.is_calibrated and not other.is_calibrated
    found = unip.evaluate(model=trained, data=segmentation_folder, split="test", out=tmp_path / "out", device="cpu")
    assert found.reliability.calibration == calibration
    assert found.reliability.ece <= found.reliability.ece_uncalibrated + 1e-3
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())["confidence"]
    assert record["temperature"] == calibration.temperature
    assert record["ece"] == pytest.approx(found.reliability.ece)
    assert record["curve"]["coverage"][0] == 1 and len(record["thresholds"]) == 4
    assert found.reliability.describe() in capsys.readouterr().out
    assert "<polyline" in (tmp_path / "out" / "evaluation.html").read_text()


def test_a_model_that_exists_is_calibrated(trained, segmentation_folder, tmp_path, capsys):
    """What fine-tuning measured is what a later call measures on the same frames."""
    file = trained / "model" / "calibration.json"
    measured = Calibration.read(trained / "model", 3)
    file.unlink()
    settings = {"data": segmentation_folder, "device": "cpu", "worst": 0, "calibrate": True, "out": tmp_path / "out"}
    assert unip.evaluate(model=trained, **settings, dry_run=True) is None and not file.exists()
    found = unip.evaluate(model=trained, **settings)
    assert Calibration.read(trained / "model", 3) == measured == found.reliability.calibration
    assert f"measured on 3 images of {segmentation_folder} (test)" in capsys.readouterr().out
    copy = Path(shutil.copytree(trained / "model", tmp_path / "copy"))
    (copy / "calibration.json").unlink()
    unip.evaluate(model=copy, **settings)
    assert Calibration.read(copy, 3) == measured and "is not known" not in capsys.readouterr().out
    moved = Path(shutil.copytree(segmentation_folder, tmp_path / "moved"))
    unip.evaluate(model=copy, **{**settings, "data": moved})
    assert f"whether {copy} was trained on these images is not known" in capsys.readouterr().out


def test_nothing_is_calibrated_on_images_of_training(trained, segmentation_folder, tmp_path):
    """Known by the files that the run has read, and without a run by the split that the model names."""
    kept = (trained / "model" / "calibration.json").read_text()
    settings = {"data": segmentation_folder, "split": "train", "device": "cpu", "calibrate": True}
    with pytest.raises(UnipError, match=r"was trained on \d+ of these \d+ images, where it is surer") as caught:
        unip.evaluate(model=trained, **settings)
    assert "--split val" in caught.value.fix
    copy = Path(shutil.copytree(trained / "model", tmp_path / "copy"))
    with pytest.raises(UnipError, match=r"copy was trained on train of"):
        unip.evaluate(model=copy, **settings)
    with pytest.raises(UnipError, match=r"unip-aerial-tiny is part of the package"):
        unip.evaluate(model="unip-aerial-tiny", **settings)
    assert (trained / "model" / "calibration.json").read_text() == kept == (copy / "calibration.json").read_text()


def test_a_calibration_of_others_stays(make_segmenter, segmentation_folder, tmp_path):
    save_segmenter(make_segmenter(), tmp_path / "model")
    (tmp_path / "model" / "calibration.json").write_text("of others")
    with pytest.raises(UnipError, match=r"calibration\.json"):
        unip.evaluate(model=tmp_path / "model", data=segmentation_folder, device="cpu", calibrate=True)
    assert (tmp_path / "model" / "calibration.json").read_text() == "of others"
    assert not (tmp_path / "model" / "evaluation").exists()


def test_pixels_that_are_not_sure_enough_are_unknown(tmp_path, make_segmenter):
    save_segmenter(make_segmenter(), tmp_path / "model")
    frames = np.random.default_rng(0).integers(0, 255, (4, 32, 40), np.uint8)
    with pytest.raises(UnipError, match="has no calibration"):
        unip.load(tmp_path / "model", device="cpu")(frames[0], risk=0.1)
    plain = unip.load(tmp_path / "model", device="cpu")(frames[0]).probabilities
    sure = softmax(np.log(np.moveaxis(plain.astype(np.float64), 0, -1)), 0.5).max(-1)
    edge = int(bin_of(np.median(sure)))
    right = tuple(tuple(100 if number >= edge else 0 for number in range(BINS)) for _ in range(3))
    wrong = tuple(tuple(0 if number >= edge else 10**6 for number in range(BINS)) for _ in range(3))
    made = {"temperature": 0.5, "data": "d", "images": 90, "right": right, "wrong": wrong, "shown": (90, 90, 0)}
    (tmp_path / "model" / "calibration.json").write_text(Calibration(**made).model_dump_json())
    model = unip.load(tmp_path / "model", device="cpu")
    for result in model(list(frames), risk=0.05):
        limits = np.array([*model.thresholds(0.05)[:2], NEVER])
        all_ids = model(result.image).mask
        expected = np.where(result.confidence < limits[all_ids], 255, all_ids)
        np.testing.assert_array_equal(result.mask, expected)
        assert result.unknown_share == (expected == 255).mean() and result.risk == 0.05
        assert "not sure enough" in repr(result) and "Not sure enough for a risk of 0.05" in result._repr_html_()
    path = tmp_path / "0.png"
    Image.fromarray(frames[0]).save(path)
    predicted = unip.predict(model=tmp_path / "model", images=path, out=tmp_path / "out", risk=0.05, device="cpu")
    ids = np.asarray(Image.open(predicted.masks[path]))
    np.testing.assert_array_equal(ids, model(path, risk=0.05).mask)
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["images"][0]["unknown"] == pytest.approx((ids == 255).mean(), abs=1e-6)
    assert record["thresholds"]["cold"] is None
    assert record["thresholds"]["hot"] == pytest.approx(lowest_of(np.array(edge)), abs=1e-6)
    assert 0 < (ids == 255).mean() < 1


def test_a_damaged_calibration_is_refused(tmp_path, make_segmenter):
    save_segmenter(make_segmenter(), tmp_path / "model")
    file = tmp_path / "model" / "calibration.json"
    rows = tuple((0,) * BINS for _ in range(2))
    for text, what in (
        ("{}", "temperature"),
        ("{", "calibration.json"),
        (
            Calibration(temperature=1, data="d", images=1, right=rows, wrong=rows, shown=(0, 0)).model_dump_json(),
            "is of 2 classes, and the model has 3",
        ),
        (json.dumps({"temperature": 1, "data": "d", "images": 1, "right": [[1]], "wrong": [[1]], "shown": [1]}), "240"),
    ):
        file.write_text(text)
        with pytest.raises(UnipError, match=what):
            unip.load(tmp_path / "model", device="cpu")
