"""`unip evaluate` of exported files: the scores of a plain count, and the comparison with the model in torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import unip
from tests.deployment.export.frames import make_frame
from tests.deployment.export.test_graph import contrasting
from tests.segmentation.conftest import NAMES
from tests.segmentation.conftest import make_segmenter as segmenter_maker
from unip.data.corruptions import CorruptFrames
from unip.deployment.export.acceptance import CORRUPTIONS, size_of
from unip.deployment.export.files import checksum
from unip.deployment.export.runners import open_runner
from unip.errors import UnipError
from unip.segmentation.calibration import BINS, Calibration
from unip.segmentation.metrics import class_iou
from unip.segmentation.storage import save_segmenter
from unip.segmentation.training_images import TrainingImages

pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

IMAGES = TrainingImages(depth="8 bits", colours="grey", size=(32, 40))
TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A calibrated model, its file, and labelled frames."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("file")
    segmenter = contrasting(segmenter_maker.__wrapped__()(decoder="linear", images=IMAGES))
    save_segmenter(segmenter, root / "ft" / "model")
    rows = tuple(tuple(100 * (number > 50) for number in range(BINS)) for _ in range(3))
    none = tuple((0,) * BINS for _ in range(3))
    made = {"temperature": TEMPERATURE, "data": "d", "images": 50, "right": rows, "wrong": none, "shown": (50, 50, 50)}
    (root / "ft/model/calibration.json").write_text(Calibration(**made).model_dump_json())
    for kind in ("images", "masks"):
        (root / "data/test" / kind).mkdir(parents=True)
    for seed in range(3):
        frame = make_frame((32, 40), "uint8", seed)
        mask = (frame > 120).astype(np.uint8)
        mask[0] = 255
        Image.fromarray(frame).save(root / f"data/test/images/{seed}.png")
        Image.fromarray(mask).save(root / f"data/test/masks/{seed}.png")
    (root / "data/classes.json").write_text(json.dumps({"names": NAMES}))
    unip.export(model=root / "ft")
    return root


@pytest.fixture(scope="module")
def file(place):
    return place / "ft/export/ft-fp32.onnx"


@pytest.fixture(scope="module")
def result(place, file):
    return unip.evaluate(model=file, data=place / "data", device="cpu", worst=1)


def counted(runner, data, corruption=None):
    """Count by a loop what the file finds: the confusion matrix, and its confidence on labelled pixels with right."""
    matrix, sure, right = np.zeros((3, 3), np.int64), [], []
    for number in range(3):
        frame = np.asarray(Image.open(data / f"test/images/{number}.png"))
        truth = np.asarray(Image.open(data / f"test/masks/{number}.png"))
        ids, confidence, _ = runner.outputs(frame if corruption is None else corruption(frame, number))
        known = truth != 255
        np.add.at(matrix, (truth[known], ids[known]), 1)
        sure.append(confidence[known])
        right.append(ids[known] == truth[known])
    return matrix, np.concatenate(sure).astype(np.float64), np.concatenate(right)


def error_of(sure, right):
    """Return the expected calibration error of 15 bins by its definition."""
    edges = np.linspace(0, 1, 16)
    bins = [(sure > low) & (sure <= high) for low, high in pairwise(edges)]
    return sum(each.mean() * abs(right[each].mean() - sure[each].mean()) for each in bins if each.any())


def test_scores_equal_a_plain_count(result, place, file):
    matrix, sure, right = counted(open_runner(file), place / "data")
    np.testing.assert_array_equal(result.scores.matrix, matrix)
    assert result.scores.miou == pytest.approx(np.nanmean(class_iou(matrix)))
    assert result.reliability.calibration.temperature == TEMPERATURE
    assert result.reliability.ece == pytest.approx(error_of(sure, right), abs=1e-4)
    assert result.interval is not None and len(result.frames) == 3


def test_it_writes_what_a_model_folder_does_and_the_comparison(result, place, file):
    assert result.out == place / "ft/export/results/ft-fp32.onnx/test"
    record = json.loads((result.out / "metrics.json").read_text())
    assert (record["engine"], record["precision"], record["window"]) == ("ONNX Runtime", "fp32", "whole")
    assert record["confidence"]["temperature"] == TEMPERATURE and record["miou_interval"]["drawn"] == 3
    assert (result.out / "evaluation.html").read_text().count("data:image/jpeg;base64,") == 3
    report = json.loads((result.out / "acceptance.json").read_text())
    assert report["accepted"] is True and report["model"] == str(place / "ft")
    found = report["acceptance"]
    assert found["file"]["confusion_matrix"] == result.scores.matrix.tolist()
    assert found["pixel_agreement"] >= 0.999 and abs(found["lost_miou"]) < 0.1
    assert found["file"]["ece"] == pytest.approx(result.reliability.ece)
    assert found["model"]["ece"] == pytest.approx(found["file"]["ece"], abs=1e-3)
    assert 0 < found["latency_ms"]["p50"] <= found["end_to_end_ms"]["p99"] and found["bytes"] == file.stat().st_size
    whole = unip.evaluate(model=place / "ft", data=place / "data", window="whole", device="cpu", out=place / "whole")
    assert found["model"]["confusion_matrix"] == whole.scores.matrix.tolist()


def test_corrupted_frames_are_compared_too(result, place, file):
    found = json.loads((result.out / "acceptance.json").read_text())["acceptance"]["corrupted"]
    assert [each["corruption"] for each in found] == list(CORRUPTIONS)
    for each in found:
        name, severity = each["corruption"].split(":")
        matrix, sure, right = counted(open_runner(file), place / "data", CorruptFrames(name, int(severity)))
        assert each["file"]["confusion_matrix"] == matrix.tolist() and each["frames"] == 3
        assert each["file"]["ece"] == pytest.approx(error_of(sure, right), abs=1e-4)
        lost = 100 * (each["model"]["miou"] - each["file"]["miou"])
        assert each["lost_miou"] == pytest.approx(lost) and each["within_tolerance"] is (lost <= 0.5)


def test_corruptions_that_are_asked_for(place, file, tmp_path):
    result = unip.evaluate(
        model=file, data=place / "data", device="cpu", corruption=("stripes", "fog:1"), worst=0, out=tmp_path / "out"
    )
    assert list(result.corrupted) == ["stripes:3", "fog:1"]
    matrix, _, _ = counted(open_runner(file), place / "data", CorruptFrames("stripes", 3))
    np.testing.assert_array_equal(result.corrupted["stripes:3"].matrix, matrix)
    compared = json.loads((tmp_path / "out/acceptance.json").read_text())["acceptance"]["corrupted"]
    assert sorted(each["corruption"] for each in compared) == sorted({*CORRUPTIONS, "fog:1"})


def test_a_loaded_file_evaluates_itself(result, place, file, tmp_path):
    found = unip.load(file, device="cpu").evaluate(place / "data", worst=0, reference=place / "ft", out=tmp_path / "o")
    np.testing.assert_array_equal(found.scores.matrix, result.scores.matrix)
    assert json.loads((tmp_path / "o/acceptance.json").read_text())["accepted"] is True


def spoilt(file, place):
    """Copy a file whose biases favour one class."""
    import onnx

    model = onnx.load(file)
    (bias,) = [each for each in model.graph.initializer if each.name.endswith("classifier.bias")]
    bias.raw_data = np.array([0, 9, 0], np.float32).tobytes()
    onnx.save(model, place)
    return place


@pytest.mark.filterwarnings("ignore:.*gives other masks on this device")
def test_a_file_that_loses_too_much(place, file, tmp_path, capsys):
    bad = spoilt(file, tmp_path / "bad.onnx")
    settings = {"model": bad, "data": place / "data", "device": "cpu", "worst": 0, "out": tmp_path / "out"}
    with pytest.raises(UnipError, match=r"bad\.onnx does not do what .*ft does: it loses .* points of mIoU") as caught:
        unip.evaluate(**settings, reference=place / "ft")
    assert caught.value.exit_code == 2 and "acceptance.json" in caught.value.fix
    report = json.loads((tmp_path / "out/acceptance.json").read_text())
    assert report["accepted"] is False and report["acceptance"]["lost_miou"] > 0.5
    assert (tmp_path / "out/metrics.json").exists()
    said = capsys.readouterr().out
    assert "mIoU" in said and "calibration error (ECE)" in said
    for each in report["acceptance"]["corrupted"]:
        warned = f"with {each['corruption']} the file loses {each['lost_miou']:.2f}" in said
        assert warned is not each["within_tolerance"]


def test_without_the_model_it_is_evaluated_alone(place, file, tmp_path, capsys):
    """The model is known by the hash of its weights, wherever the file lies."""
    other = shutil.copy(file, tmp_path / "m.onnx")
    settings = {"data": place / "data", "device": "cpu", "worst": 0, "dry_run": True}
    assert unip.evaluate(model=other, **settings) is None
    assert f"beside {place / 'ft'} in torch" in capsys.readouterr().out  # by the path in the file
    moved = tmp_path / "moved"
    (place / "ft").rename(moved)
    try:
        unip.evaluate(model=other, **settings)
        assert "is not here: the file is evaluated alone" in capsys.readouterr().out
        with pytest.raises(UnipError, match="so what the file loses is not known"):
            unip.evaluate(model=other, tolerance=0.5, **settings)
        unip.evaluate(model=other, reference=moved, **settings)
        assert f"beside {moved} in torch" in capsys.readouterr().out
        unip.evaluate(model=moved / "export/ft-fp32.onnx", **settings)
        assert f"beside {moved} in torch" in capsys.readouterr().out  # of MODEL/export/FILE
        save_segmenter(segmenter_maker.__wrapped__()(decoder="linear", images=IMAGES), place / "ft" / "model")
        unip.evaluate(model=other, **settings)
        assert "the file is evaluated alone" in capsys.readouterr().out
        with pytest.raises(UnipError, match="was made from other weights than those of"):
            unip.evaluate(model=other, reference=place / "ft", **settings)
        result = unip.evaluate(model=other, **{**settings, "dry_run": False}, out=tmp_path / "alone")
        assert sorted(path.name for path in result.out.iterdir() if path.name != ".unip") == [
            "evaluation.html",
            "metrics.json",
        ]
    finally:
        shutil.rmtree(place / "ft", ignore_errors=True)
        moved.rename(place / "ft")


def test_a_file_against_its_model(place, file, tmp_path):
    settings = {"data": place / "data", "device": "cpu", "window": "whole"}
    result = unip.evaluate(model=file, against=place / "ft", **settings, out=tmp_path / "one")
    assert abs(result.comparison.miou.change.mean) < 1e-3
    record = json.loads((tmp_path / "one/comparison.json").read_text())
    assert (record["old"]["engine"], record["new"]["engine"]) == ("torch", "ONNX Runtime")
    assert (record["old"]["scale"], record["new"]["scale"]) == ("fit", "fit")  # large frames are seen whole by both
    from unip.deployment.verbs import sort_models
    from unip.segmentation.config import EvaluateConfig

    beside = unip.evaluate(model=file, against=place / "ft", **settings)
    assert beside.out == place / "ft/export/results/ft-fp32.onnx/against-ft-test"
    words = EvaluateConfig.make(model=place / "ft", data=file, against=place / "data")
    assert (sort_models(words).model, sort_models(words).against) == (file, place / "ft")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"calibrate": True}, "is an exported file, which says what its confidence means"),
        ({"window": "slide"}, "sees frames whole, and sliding windows were requested"),
        ({"batch_size": 4}, "are of model folders"),
        ({"precision": "fp16"}, "computes in fp32, and precision fp16 was requested"),
        ({"against": "x", "reference": "y"}, "reference is of one model, and two are compared"),
    ],
)
def test_settings_of_other_models_are_refused(settings, what, place, file):
    with pytest.raises(UnipError, match=what):
        unip.evaluate(model=file, data=place / "data", **settings)


def test_a_report_of_others_stays(place, file, tmp_path):
    (tmp_path / "acceptance.json").write_text("of others")
    with pytest.raises(UnipError, match=r"acceptance\.json"):
        unip.evaluate(model=file, data=place / "data", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["acceptance.json"]
    assert (tmp_path / "acceptance.json").read_text() == "of others"


def test_a_model_folder_has_no_reference(place):
    settings = {"model": place / "ft", "data": place / "data"}
    with pytest.raises(UnipError, match=r"reference is for exported files, and .* is a model folder"):
        unip.evaluate(**settings, reference=place / "ft")
    with pytest.raises(UnipError, match=r"tolerance is for exported files, and .* is a model folder"):
        unip.evaluate(**settings, tolerance=0.5)


def test_weights_beside_a_file_are_part_of_it(tmp_path):
    path = tmp_path / "m.xml"
    path.write_bytes(b"graph")
    alone = checksum(path)
    assert alone == hashlib.sha256(b"graph").hexdigest() and size_of(path) == 5
    found = set()
    for weights in (b"one", b"two"):
        path.with_suffix(".bin").write_bytes(weights)
        found.add(checksum(path))
        assert size_of(path) == 8
    assert len(found | {alone}) == 3


def test_a_missing_file(place, tmp_path):
    with pytest.raises(UnipError, match=r"cannot read .*no\.onnx"):
        unip.evaluate(model=tmp_path / "no.onnx", data=place / "data")
