"""`unip export`: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unip
from tests.deployment.export.cached import cache_graphs
from tests.deployment.export.frames import make_frame
from tests.deployment.export.test_graph import contrasting
from tests.forked import run_unip
from tests.segmentation.conftest import NAMES
from tests.segmentation.conftest import make_segmenter as segmenter_maker
from unip.deployment.export import files as export_files
from unip.deployment.export import program
from unip.deployment.export.acceptance import CORRUPTIONS
from unip.deployment.export.config import ExportConfig
from unip.deployment.export.runners import as_input, open_runner
from unip.errors import UnipError
from unip.segmentation.storage import save_segmenter
from unip.segmentation.training_images import TrainingImages
from unip.zoo.lineage import Ancestor, Lineage

pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

IMAGES = TrainingImages(depth="8 bits", colours="grey", size=(32, 40))
LINEAGE = Lineage.of([Ancestor(role="init", name="a backbone", licence="MIT")])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model folder, and labelled frames."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("export")
    segmenter = contrasting(segmenter_maker.__wrapped__()(decoder="linear", images=IMAGES))
    save_segmenter(segmenter, root / "ft" / "model", lineage=LINEAGE)
    for kind in ("images", "masks", "counts"):
        (root / "data/test" / kind).mkdir(parents=True)
    for seed in range(4):
        frame = make_frame((32, 40), "uint8", seed)
        Image.fromarray(frame).save(root / f"data/test/images/{seed}.png")
        Image.fromarray((frame > 120).astype(np.uint8)).save(root / f"data/test/masks/{seed}.png")
        Image.fromarray(frame.astype(np.uint16) * 20).save(root / f"data/test/counts/{seed}.png")
    (root / "data/classes.json").write_text(json.dumps({"names": NAMES}))
    return root


@pytest.fixture(scope="module", autouse=True)
def _graphs_are_made_once():
    with pytest.MonkeyPatch.context() as patch:
        cache_graphs(patch)
        yield


@pytest.fixture(scope="module")
def result(place):
    return unip.export(model=place / "ft", data=place / "data", out=place / "out")


def test_what_is_written(result, place):
    out = place / "out"
    assert sorted(path.name for path in out.iterdir() if path.name != ".unip") == ["ft-fp32.onnx", "ft-fp32.onnx.json"]
    assert (result.file, result.report) == (out / "ft-fp32.onnx", out / "ft-fp32.onnx.json")
    report = json.loads(result.report.read_text())
    assert report["accepted"] is True and report["reason"] == "" and report["file"] == "ft-fp32.onnx"
    found = report["acceptance"]
    assert found["frames"] == 4 and found["pixel_agreement"] >= 0.999 and found["largest_logit_difference"] <= 1e-3
    assert abs(found["lost_miou"]) < 0.1 and found["file"]["miou"] == pytest.approx(found["model"]["miou"], abs=1e-3)
    assert found["bytes"] == result.file.stat().st_size
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["end_to_end_ms"]["p99"]
    assert found["file"]["ece"] == pytest.approx(found["model"]["ece"], abs=1e-3) and found["tolerance"] == 0.5
    assert [each["corruption"] for each in found["corrupted"]] == list(CORRUPTIONS)
    for each in found["corrupted"]:
        assert each["frames"] == 4 and each["within_tolerance"] is True and abs(each["lost_miou"]) < 0.1
        assert each["file"]["confusion_matrix"] != found["file"]["confusion_matrix"]


def test_what_the_file_says_about_itself(result, place):
    runner = open_runner(result.file)
    said = runner.metadata
    assert said == result.metadata
    assert (said.engine, said.precision, said.input, said.channels) == ("onnx", "fp32", "uint8", 1)
    assert said.classes.names == NAMES and said.lineage == LINEAGE and said.images == IMAGES
    assert said.largest == (64, 80) and (said.short_side, said.patch) == (32, 8)
    assert said.sha256 == program.sha256(place / "ft/model/model.safetensors")
    assert {"unip", "torch", "onnx"} <= said.versions.keys()
    assert len(runner.golden) == 3
    for golden in runner.golden:
        found = runner.outputs(golden.frame)
        assert golden.agreement(found.ids) >= 0.999
        np.testing.assert_allclose(found.confidence, golden.confidence / 255, atol=0.004)


def test_it_runs_without_torch(result):
    code = f"""
import sys
from pathlib import Path
from unip.deployment.export.runners import open_runner
runner = open_runner(Path({str(result.file)!r}))
print(runner.outputs(runner.golden[0].frame).ids.shape, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "(96, 128) False\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_onnx_runtime_has_as_many_threads_as_the_process_has_cores(result):
    """By itself it starts one for each core of the machine, which then take turns on the few that the process has."""
    code = f"""
import os
from pathlib import Path
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from unip.deployment.export.runners import open_runner
import onnxruntime
before = len(os.listdir("/proc/self/task"))
runner = open_runner(Path({str(result.file)!r}))
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


def test_the_command_says_what_it_does(place, tmp_path, capsys):
    unip.export(model=place / "ft", out=tmp_path)
    said = capsys.readouterr().out
    assert "it takes frames (H, W) of uint8, up to 80x64 pixels, and resizes them to short side 32" in said
    assert "note: without --data, file and model are compared on made frames only" in said
    assert "pixels of the same class" in said and f"exported to {tmp_path / 'ft-fp32.onnx'}" in said


def test_the_table_says_what_is_lost(result, capsys):
    """Each score of file and model with its difference, and for each corruption whether the tolerance is kept to."""
    clean, names = result.acceptance.clean, NAMES
    rows = [*zip(*(list(column.cells) for column in result.acceptance.table(0.5).columns), strict=True)]
    assert [row[0] for row in rows[:5]] == [*(f"IoU {name}" for name in names), "mIoU", "calibration error (ECE)"]
    miou = [f"{100 * each.miou:.1f}" for each in (clean.scores, clean.model_scores)]
    assert list(rows[3][1:]) == [*miou, f"{clean.lost:+.2f}"]
    assert [row[0] for row in rows[5:9]] == [f"mIoU, {name}, 4 frames" for name in CORRUPTIONS]
    assert all("more than" not in row[3] for row in rows)
    worse = dataclasses.replace(result.acceptance.corrupted["stripes:3"], scores=replace_miou(clean.scores, -0.02))
    accepted = dataclasses.replace(result.acceptance, corrupted={"stripes:3": worse})
    lost = 100 * (worse.model_scores.miou - clean.scores.miou + 0.02)
    (row,) = [cells for cells in accepted.table(0.5).columns[3].cells if "more than 0.5" in cells]
    assert row == f"{lost:+.2f} (more than 0.5)"
    assert accepted.to_dict(0.5)["corrupted"][0]["within_tolerance"] is False and not accepted.rejection(
        result.metadata, 0.5
    )


def replace_miou(scores, change):
    return dataclasses.replace(scores, miou=scores.miou + change)


@pytest.mark.parametrize(("size", "cut"), [((32, 40), False), ((32, 80), True)])
def test_it_is_said_that_frames_of_training_are_cut_into_windows_by_predict(place, tmp_path, capsys, size, cut):
    images = TrainingImages(depth="8 bits", colours="grey", size=size)
    save_segmenter(segmenter_maker.__wrapped__()(decoder="linear", images=images), tmp_path / "ft/model")
    unip.export(model=tmp_path / "ft", out=tmp_path / "out", dry_run=True)
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert (f"frames of {size[1]}x{size[0]}, as in training, are such larger ones" in text) == cut


def test_a_dry_run_writes_nothing(place, tmp_path, capsys):
    assert unip.export(model=place / "ft", data=place / "data", out=tmp_path / "out", dry_run=True) is None
    said = capsys.readouterr().out
    assert "would write ft-fp32.onnx and ft-fp32.onnx.json" in said
    assert "it segments whole frames" in said
    assert not (tmp_path / "out").exists()


def test_a_file_that_gives_other_masks_is_rejected(place, tmp_path, monkeypatch, capsys):
    """It is kept under another name, and no earlier file stays under the name that says it is good."""
    first = unip.export(model=place / "ft", data=place / "data", out=tmp_path)
    good = program.make

    def spoil(segmenter, metadata, path, texts, frames):
        good(segmenter, metadata, path, texts, frames)
        import onnx

        model = onnx.load(path)
        (bias,) = [each for each in model.graph.initializer if each.name.endswith("classifier.bias")]
        bias.raw_data = np.array([0, 9, 0], np.float32).tobytes()
        onnx.save(model, path)

    monkeypatch.setattr(program, "make", spoil)
    for settings, words in (
        ({"data": place / "data"}, "points of mIoU, and 0.5 are tolerated"),
        ({}, "% of pixels have the model's class, and 99.9 % are needed"),
    ):
        with pytest.raises(UnipError) as caught:
            unip.export(model=place / "ft", out=tmp_path, **settings)
        assert words in caught.value.what and caught.value.exit_code == 2
        assert "ft-fp32.rejected.onnx" in caught.value.fix
        assert not first.file.exists() and (tmp_path / "ft-fp32.rejected.onnx").exists()
        assert json.loads(first.report.read_text())["accepted"] is False
    monkeypatch.setattr(program, "make", good)
    assert unip.export(model=place / "ft", out=tmp_path).file == first.file
    assert not (tmp_path / "ft-fp32.rejected.onnx").exists()


def test_own_golden_frames(place, tmp_path):
    paths = [place / f"data/test/images/{number}.png" for number in (1, 2)]
    runner = open_runner(unip.export(model=place / "ft", golden=paths, out=tmp_path).file)
    for golden, path in zip(runner.golden, paths, strict=True):
        np.testing.assert_array_equal(golden.frame, np.asarray(Image.open(path)))
    with pytest.raises(
        UnipError, match=r"counts/0\.png: the frame has samples of type uint16, but the graph takes uint8"
    ):
        unip.export(model=place / "ft", golden=place / "data/test/counts/0.png", out=tmp_path)


def test_frames_of_another_type_are_refused(place, tmp_path):
    """Before a graph is made."""
    with pytest.raises(UnipError, match="the graph takes int32") as caught:
        unip.export(model=place / "ft", data=place / "data", input="int32", out=tmp_path)
    assert "0.png" in caught.value.what and "--input uint8" in caught.value.fix


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": "openvino", "precision": "fp16"}, "fp16 cannot be exported to openvino"),
        ({"to": "torch", "precision": "int8"}, "int8 cannot be exported to torch"),
        ({"input": "float32", "colours": "colour"}, "frames in colour are 8-bit"),
        ({"precision": "int8", "data": "x"}, "int8 needs frames to measure ranges on"),
        ({"precision": "int8", "calibration": "x"}, "accepted by its mIoU"),
        ({"calibration": "x"}, "fp32 is not calibrated"),
    ],
)
def test_what_cannot_be_exported_is_refused(settings, message):
    with pytest.raises(UnipError, match=message):
        ExportConfig.make(model="x", **settings)


def test_percentiles_that_cannot_be_counted_are_refused(make_segmenter, tmp_path):
    save_segmenter(make_segmenter(decoder="linear", conversion={"percentiles": (0.125, 99)}), tmp_path / "model")
    with pytest.raises(UnipError, match=r"the percentiles 0\.125 and 99 .* more than two decimals"):
        unip.export(model=tmp_path / "model", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_engine_that_is_not_installed(place, tmp_path, monkeypatch):
    monkeypatch.setattr(export_files, "find_spec", lambda name: None)
    with pytest.raises(UnipError, match="exporting to onnx needs onnx, onnxscript, onnxruntime") as caught:
        unip.export(model=place / "ft", out=tmp_path / "out")
    assert caught.value.fix == "pip install 'unip[onnx]'"


def test_int8_of_openvino_needs_nncf(monkeypatch):
    monkeypatch.setattr(export_files, "find_spec", lambda name: None if name == "nncf" else object())
    export_files.check_engine("openvino", "bf16")
    export_files.check_engine("onnx", "int8")
    with pytest.raises(UnipError, match="exporting to openvino needs nncf") as caught:
        export_files.check_engine("openvino", "int8")
    assert caught.value.fix == "pip install 'unip[openvino]'"


@pytest.mark.parametrize(
    ("images", "settings", "kind", "channels"),
    [
        (None, {}, "uint8", 1),
        ({"depth": "more than 8 bits"}, {}, "int32", 1),
        ({"depth": "more than 8 bits"}, {"input": "float32"}, "float32", 1),
        ({"depth": "both"}, {}, "uint8", 1),
        ({"colours": "colour"}, {}, "uint8", 3),
        ({"colours": "both"}, {}, "uint8", 3),
        ({"colours": "colour"}, {"colours": "grey"}, "uint8", 1),
        ({"colours": "colour"}, {"input": "int32"}, "int32", 1),
        ({"depth": "more than 8 bits"}, {"colours": "colour"}, "uint8", 3),
    ],
)
def test_what_the_graph_takes(images, settings, kind, channels, make_segmenter, tmp_path):
    trained = None if images is None else TrainingImages(**{**IMAGES.model_dump(), **images})
    segmenter = make_segmenter(decoder="linear", images=trained)
    save_segmenter(segmenter, tmp_path / "model")
    found = program.describe_file(ExportConfig.make(model=tmp_path / "model", **settings), segmenter)
    assert (found.input, found.channels) == (kind, channels)


def test_frames_are_given_the_type_and_shape_of_the_graph(result):
    grey = make_frame((5, 6), "uint8")
    three = np.repeat(grey[..., None], 3, axis=2)
    said = result.metadata
    coloured, counted, warm = (
        said.model_copy(update=changes) for changes in ({"channels": 3}, {"input": "int32"}, {"input": "float32"})
    )
    np.testing.assert_array_equal(as_input(three, said), grey)
    np.testing.assert_array_equal(as_input(grey, coloured), three)
    assert as_input(grey.astype(np.uint16), counted).dtype == np.int32
    assert as_input(grey.astype(np.float64), warm).dtype == np.float32
    red = three * np.array([1, 0, 0], np.uint8)
    with pytest.raises(UnipError, match="is in colour, but the graph takes grey"):
        as_input(red, said)
    for many in (np.uint32(2**32 - 1), np.int64(2**32), np.int64(-(2**32)), np.int32(2**24 + 1)):
        with pytest.raises(UnipError, match="counts beyond 16,777,216"):
            as_input(np.full((4, 5), many), counted)
    assert as_input(np.full((4, 5), np.int64(2**24)), counted).max() == 2**24
    for frame, metadata in ((grey, counted), (grey.astype(np.uint16), said), (grey > 3, counted)):
        with pytest.raises(UnipError, match="the graph takes"):
            as_input(frame, metadata)


def test_the_command_line(place, tmp_path):
    code, _, said = run_unip("export", place / "ft", "--precision", "bf16", "--out", tmp_path).finish()
    assert code == 2 and "bf16 cannot be exported to onnx" in said and "Traceback" not in said


EXAMPLE = Path(__file__).parents[3] / "examples" / "onnx_example.py"


def run_example(*words):
    done = subprocess.run([sys.executable, "-I", str(EXAMPLE), *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_the_plain_example(result, place, tmp_path):
    """It needs neither unip nor torch, and gives the masks of the file."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 65
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported == {"base64", "json", "sys", "zlib", "pathlib", "numpy", "onnxruntime", "PIL"}
    frame = make_frame((32, 40), "uint8", 7)
    Image.fromarray(frame).save(tmp_path / "a.png")
    code, said, problem = run_example(result.file, tmp_path / "a.png")
    assert code == 0, problem
    assert said.count("golden frame: 100.00% of pixels as in torch") == 3 and "a.png: background" in said
    ids = open_runner(result.file).outputs(frame).ids
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.mask.png")), ids)
    Image.fromarray(frame).convert("RGB").save(tmp_path / "three.png")
    assert run_example(result.file, tmp_path / "three.png")[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "three.mask.png")), ids)
    Image.fromarray(frame).convert("RGBA").save(tmp_path / "clear.png")
    Image.fromarray(np.zeros((65, 80), np.uint8)).save(tmp_path / "large.png")
    Image.fromarray(np.zeros((32, 40), np.uint16)).save(tmp_path / "counts.png")
    Image.fromarray(np.full((32, 40, 3), (9, 9, 90), np.uint8)).save(tmp_path / "colour.png")
    for name, words in (
        ("large", "is larger than the model is right for"),
        ("counts", "holds uint16, but the model takes uint8"),
        ("colour", "has the shape (32, 40, 3), but the model takes 1 channels"),
        ("clear", "has the shape (32, 40, 4), but the model takes 1 channels"),
    ):
        code, _, problem = run_example(result.file, tmp_path / f"{name}.png")
        assert code == 1 and words in problem
        assert not (tmp_path / f"{name}.mask.png").exists()
