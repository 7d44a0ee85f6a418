"""An accepted export runs `unip predict MODEL` on the CPU; the graph here is the network itself, as in ONNX Runtime."""

from __future__ import annotations

import json
from inspect import signature

import numpy as np
import pytest
from PIL import Image

import unip
from tests.deployment.test_graph_engine import Graph
from unip.deployment.config import LoadConfig, PredictConfig
from unip.deployment.engines import accepted
from unip.deployment.engines.graph_engine import GraphEngine
from unip.deployment.engines.opening import open_engine
from unip.deployment.export.metadata import ExportMetadata, GoldenFrame
from unip.deployment.model import Model
from unip.deployment.verbs import predict
from unip.errors import UnipError
from unip.files import sha256
from unip.segmentation.calibration import BINS, Calibration
from unip.segmentation.model_folder import read_model_config, spec_digest
from unip.segmentation.storage import save_segmenter
from unip.segmentation.training_images import TrainingImages

IMAGES = TrainingImages(depth="8 bits", colours="grey", size=(32, 40))


@pytest.fixture
def run(tmp_path, make_segmenter, monkeypatch):
    """A run folder with a model; exported files are empty, and what opens them gives the network."""
    segmenter = make_segmenter(images=IMAGES)
    save_segmenter(segmenter, tmp_path / "run/model")
    graphs: dict[str, Graph] = {}
    monkeypatch.setattr(accepted, "open_exported", lambda file, config: GraphEngine(graphs[file], config, file))
    monkeypatch.setattr(accepted, "find_spec", lambda name: None if name == "openvino" else object())

    def export(name="m.onnx", place="run/export", *, latency=5.0, is_accepted=True, lost=None, **changes):
        folder = tmp_path / place
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            "engine": "onnx", "precision": "fp32", "input": "uint8", "channels": 1, "classes": segmenter.spec.classes,
            "conversion": segmenter.spec.conversion, "images": IMAGES, "short_side": 32, "crop": 32, "patch": 8,
            "longest": 200, "model": "m", "sha256": sha256(tmp_path / "run/model/model.safetensors"),
            "spec_sha256": spec_digest(read_model_config(tmp_path / "run")[1]),
        }  # fmt: skip
        metadata = ExportMetadata(**{**values, **changes})
        graphs[str(folder / name)] = Graph(segmenter, metadata)
        (folder / name).write_bytes(b"")
        report = {
            "file": name,
            "file_sha256": sha256(folder / name),
            "accepted": is_accepted,
            "reason": "",
            "metadata": metadata.model_dump(mode="json"),
        }
        measured = {"frames": 3, "latency_ms": {"p50": latency, "p99": latency}, "lost_miou": lost}
        (folder / f"{name}.json").write_text(json.dumps(report | {"acceptance": measured}))
        return graphs[str(folder / name)]

    export.path = tmp_path / "run"
    export.graphs = graphs
    return export


def engine_of(run, **settings):
    return open_engine(str(run.path), LoadConfig(**{"engine": "auto", "device": "cpu", **settings})).facts.engine


def test_the_fastest_accepted_file_of_these_weights_is_taken(run, capsys):
    run("slow.onnx", latency=9.0)
    run("other.onnx", latency=1.0, sha256="0" * 64)
    run("bad.onnx", latency=1.0, is_accepted=False)
    run("missing.xml", latency=1.0, engine="openvino")
    run("fast.onnx", "run/model/export", latency=3.0)
    engine = open_engine(str(run.path), LoadConfig(engine="auto", device="cpu"))
    assert (engine.facts.engine, engine.facts.precision) == ("ONNX Runtime", "fp32")
    assert engine.facts.view.endswith("model/export/fast.onnx") and engine.facts.folder == run.path / "model"
    assert "openvino is not installed" in capsys.readouterr().out
    assert engine_of(run, engine="torch") == "torch"


def test_a_file_that_loses_more_than_half_a_point_is_taken_only_when_asked_for(run, capsys):
    run(latency=1.0, lost=0.6)
    assert engine_of(run) == "torch" and "it loses 0.60 points of mIoU" in capsys.readouterr().out
    assert engine_of(run, engine="onnx") == "ONNX Runtime"
    run(latency=1.0, lost=0.5)
    assert engine_of(run) == "ONNX Runtime"


def test_predict_uses_it_and_gives_the_same_masks(run, tmp_path, capsys):
    graph = run()
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(32, 40), (40, 32), (32, 120), (33, 48)]):
        frame = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(frame).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in/4.png").write_bytes(b"no image")
    for engine in ("auto", "torch"):
        with pytest.raises(UnipError, match="1 of 5 images"):
            predict(
                model=run.path, images=(tmp_path / "in",), out=tmp_path / engine, device="cpu", engine=engine,
                precision="fp32", batch_size="auto",
            )  # fmt: skip
    assert [shape[:2] for shape in graph.seen] == [(32, 40), (40, 32), (33, 48)]  # the long one is cut into windows
    for number in range(4):
        masks = [np.asarray(Image.open(tmp_path / engine / f"masks/{number}.png")) for engine in ("auto", "torch")]
        np.testing.assert_array_equal(*masks)
    record = json.loads((tmp_path / "auto/predictions.json").read_text())
    assert (record["engine"], record["precision"]) == ("ONNX Runtime", "fp32")
    assert record["view"] == f"whole images, by {run.path / 'export/m.onnx'}"
    assert [each["engine"] for each in record["images"]] == [*["ONNX Runtime"] * 2, "torch", "ONNX Runtime"]
    said = capsys.readouterr().out
    assert "with ONNX Runtime on cpu in fp32; whole images, by " in said
    assert "torch segments frames that the exported file does not take: " in said and "2.png: 120x32 pixels" in said


@pytest.mark.parametrize(("size", "by_torch"), [((96, 120), False), ((40, 320), True)])
def test_frames_are_seen_whole_as_by_torch_where_that_is_asked_for(run, size, by_torch):
    """Large ones, which would be cut into windows; and those that are too long for the graph."""
    graph = run()
    frame = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    settings = {"window": "whole", "device": "cpu", "precision": "fp32"}
    configs = [LoadConfig(engine="auto", **settings), LoadConfig(engine="torch", **settings)]
    one, other = (Model(open_engine(str(run.path), config))(frame) for config in configs)
    assert (one.windows, one.scale) == (other.windows, other.scale) == (1, 32 / min(size))
    assert (size in [shape[:2] for shape in graph.seen]) != by_torch
    np.testing.assert_array_equal(one.mask, other.mask)


def test_frames_that_the_graph_refuses_are_run_by_torch(run):
    run()
    coloured = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    results = [
        Model(open_engine(str(run.path), LoadConfig(engine=engine, device="cpu")))([coloured, coloured[..., 0]])
        for engine in ("auto", "torch")
    ]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.image, other.image)
        assert one.name == other.name


@pytest.mark.parametrize(
    "settings",
    [
        {"compile": True},
        {"window": "slide"},
        {"batch_size": 2},
        {"augment": "flip"},
        {"augment_scales": (0.5, 1.0)},
        {"precision": "bf16"},
    ],
)
def test_settings_that_no_file_has_leave_the_model_to_torch(run, settings):
    run()
    assert accepted.open_accepted(run.path, LoadConfig(engine="auto", device="cpu", **settings), "m") is None
    with pytest.raises(UnipError, match=r"is for model folders|has no accepted file for onnx") as caught:
        engine_of(run, engine="onnx", **settings)
    assert "--engine torch" in caught.value.fix


def test_nothing_is_used_that_may_be_wrong(run, capsys):
    """Each in place of a good file: windows are needed, other calibration, other masks here, another file, no JSON."""
    none = ((0,) * BINS,) * 3
    calibration = Calibration(temperature=2.0, data="d", images=1, right=none, wrong=none, shown=(0, 0, 0))
    cases = [
        ({"images": IMAGES.model_copy(update={"size": (32, 80)})}, "frames of 80x32 are segmented in windows"),
        ({"calibration": calibration}, "the model was calibrated again since"),
        ({"spec_sha256": "0" * 64}, "the model's config.json (classes, conversion, sizes) was changed since"),
        ({"spec_sha256": None}, "the model's config.json (classes, conversion, sizes) was changed since"),
    ]
    for changes, said in cases:
        run(**changes)
        assert engine_of(run) == "torch" and said in capsys.readouterr().out
    graph = run()
    graph.golden = [
        GoldenFrame(np.zeros((32, 40), np.uint8), np.full((32, 40), 7, np.uint8), np.zeros((32, 40), np.uint8))
    ]
    assert engine_of(run) == "torch" and "gives other masks on this device" in capsys.readouterr().out
    graph = run()
    graph.metadata = graph.metadata.model_copy(update={"short_side": 64})
    assert engine_of(run) == "torch" and "another file than its report is of" in capsys.readouterr().out


GOOD = (
    '{"file": "m.onnx", "file_sha256": "0", "accepted": true, "metadata": METADATA, '
    '"acceptance": {"latency_ms": {"p50": 5.0}}}'
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is not valid JSON"),
        (b"{}", "file"),
        (b"[1]", ""),
        (b"null", ""),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
        (GOOD[:-9].encode(), "it is not valid JSON"),
        (GOOD.replace("METADATA", "{}").encode(), "metadata"),
        (GOOD.replace("METADATA", '{"engine": "tensorrt"}').encode(), "metadata"),
        (GOOD.replace("true", '"perhaps"').encode(), "accepted"),
        (GOOD.replace("5.0", "NaN").encode(), "NaN"),
        (GOOD.replace("5.0", '"fast"').encode(), "latency_ms"),
        (GOOD.replace("5.0", "9" * 5000).encode(), "digits"),
        (GOOD.replace('"m.onnx"', '"../m.onnx"').encode(), "it is of another file, '../m.onnx'"),
        (GOOD.replace('"m.onnx"', '"other.onnx"').encode(), "it is of another file, 'other.onnx'"),
        (GOOD.replace('"m.onnx"', '"a\\u0000b"').encode(), ""),
        (GOOD.replace('"m.onnx"', '""').encode(), "it is of another file, ''"),
        (None, "directory"),
    ],
)
def test_a_report_that_cannot_be_read_is_said_once(run, capsys, content, why):
    """The file is not used, others are, and nothing stops."""
    run()
    report = run.path / "export/m.onnx.json"
    metadata = json.dumps(json.loads(report.read_text())["metadata"])
    report.unlink()
    if content is None:
        report.mkdir()
    else:
        report.write_bytes(content.replace(b"METADATA", metadata.encode()))
    for others in (False, True):
        if others:
            run("other.onnx")
        assert engine_of(run) == ("ONNX Runtime" if others else "torch")
        said = capsys.readouterr()
        text = " ".join((said.out + said.err).split())
        assert text.count(f"{report} does not say whether the exported file beside it was accepted") == 1
        assert why in text and "Export the model again, or delete both" in text
    with pytest.raises(UnipError, match="has no accepted file for openvino"):
        engine_of(run, engine="openvino")


def test_other_json_beside_exported_files_is_nobody_s_business(run, capsys):
    run()
    for name in ("acceptance.json", "notes.json", "m.json"):
        (run.path / "export" / name).write_text("{")
    run("bad.onnx", is_accepted=False)
    run("gone.onnx")
    (run.path / "export/gone.onnx").unlink()
    assert engine_of(run) == "ONNX Runtime"
    said = capsys.readouterr()
    assert "does not say" not in said.out + said.err


@pytest.mark.parametrize("part", ["classes", "conversion", "mean", "crop"])
def test_a_model_whose_description_was_changed_is_not_run_by_its_old_file(run, part, capsys):
    run()
    assert engine_of(run) == "ONNX Runtime"
    file = run.path / "model/config.json"
    record = json.loads(file.read_text())
    spec = record["spec"]
    spec[part] = {
        "classes": {**spec["classes"], "names": ["background", "cold", "hot"]},
        "conversion": {**spec["conversion"], "polarity": "black-hot"},
        "mean": [0.9, 0.9, 0.9],
        "crop": 24,
    }[part]
    file.write_text(json.dumps(record))
    assert engine_of(run) == "torch" and "was changed since" in capsys.readouterr().out


def test_without_a_file_the_export_is_named(run, capsys):
    assert engine_of(run) == "torch"
    assert f"unip export {run.path} --to onnx" in capsys.readouterr().out
    assert not (run.path / "export").exists()
    with pytest.raises(UnipError, match="has no accepted file for openvino"):
        engine_of(run, engine="openvino")


def test_no_export_is_named_that_would_not_be_used(tmp_path, make_segmenter, capsys):
    save_segmenter(make_segmenter(images=IMAGES.model_copy(update={"size": (32, 80)})), tmp_path / "long")
    for window, is_named in (("auto", False), ("whole", True)):
        config = LoadConfig(engine="auto", device="cpu", window=window)
        assert open_engine(str(tmp_path / "long"), config).facts.engine == "torch"
        assert ("unip export" in capsys.readouterr().out) == is_named


def test_it_is_said_that_the_folder_is_evaluated_in_place_of_the_file(run, segmentation_folder, tmp_path, capsys):
    run()
    found = [
        unip.load(run.path, device="cpu", **given).evaluate(segmentation_folder, out=tmp_path / f"{number}")
        for number, given in enumerate([{}, {"engine": "torch"}])
    ]
    np.testing.assert_array_equal(*[each.scores.matrix for each in found])
    said = " ".join("".join(capsys.readouterr()).split())
    assert said.count("evaluated with torch, as unip evaluate does with model folders") == 1
    model = unip.load(run.path, device="cpu", engine="onnx")
    with pytest.raises(UnipError, match="run by ONNX Runtime") as caught:
        model.evaluate(segmentation_folder)
    assert caught.value.fix == 'Load it with engine="torch".'


def test_load_takes_what_predict_takes(run, tmp_path, capsys):
    """One default, one choice and one notice: for a folder, a name of a folder, and settings that no file has."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 40), dtype=np.uint8)).save(tmp_path / "a.png")
    assert LoadConfig().engine == PredictConfig.model_fields["engine"].default == "auto"
    assert signature(unip.load).parameters["engine"].default == "auto"
    for is_there in (False, True):
        if is_there:
            run()
        for settings in ({}, {"augment": "flip"}, {"batch_size": 1}, {"window": "slide"}, {"engine": "torch"}):
            capsys.readouterr()
            model = unip.load(run.path, device="cpu", precision="fp32", **settings)
            loaded = "".join(capsys.readouterr())
            predict(
                model=run.path, images=(tmp_path / "a.png",), out=tmp_path / "out", device="cpu", precision="fp32",
                **{"batch_size": "auto", **settings},
            )  # fmt: skip
            record = json.loads((tmp_path / "out/predictions.json").read_text())
            assert model.facts.engine == record["engine"] == ("ONNX Runtime" if is_there and not settings else "torch")
            np.testing.assert_array_equal(
                model(tmp_path / "a.png").mask, np.asarray(Image.open(tmp_path / "out/masks/a.png"))
            )
            assert ("torch runs the model" in loaded) == (not is_there and not settings)
            assert loaded in "".join(capsys.readouterr()) or not loaded


def test_probabilities_and_confidence_are_those_of_torch(run):
    run()
    frame = np.random.default_rng(0).integers(0, 256, (32, 40), dtype=np.uint8)
    one, other = (
        unip.load(run.path, device="cpu", precision="fp32", engine=engine)(frame) for engine in ("auto", "torch")
    )
    assert (one.engine, other.engine) == ("ONNX Runtime", "torch")
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-6)


def test_a_file_that_was_damaged_after_it_was_accepted_is_not_used(run, capsys):
    run()
    (run.path / "export/m.onnx").write_bytes(b"\x01")
    assert engine_of(run) == "torch"
    assert "was changed or damaged since it was accepted" in capsys.readouterr().out
