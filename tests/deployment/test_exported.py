"""Exported files are models like others: loaded, called, used by predict, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unip
from tests.deployment.export.frames import make_frame
from tests.deployment.export.test_graph import contrasting
from tests.segmentation.conftest import make_segmenter as segmenter_maker
from unip.data.labelled.classes import IGNORE
from unip.deployment.engines import exported
from unip.deployment.export.runners import open_runner
from unip.errors import UnipError
from unip.segmentation.calibration import BINS, Calibration
from unip.segmentation.storage import save_segmenter
from unip.segmentation.training_images import TrainingImages

HEAVY = ("torch", "timm", "torchvision", "matplotlib", "safetensors", "onnx", "pyarrow")
IMAGES = TrainingImages(depth="8 bits", colours="grey", size=(32, 40))
ROWS = tuple(tuple(100 * (number > 50) for number in range(BINS)) for _ in range(3))


def test_what_is_no_exported_file(tmp_path):
    with pytest.raises(UnipError, match=r"cannot read .*m\.onnx"):
        unip.load(tmp_path / "m.onnx")
    with pytest.raises(UnipError, match=r"cannot read .*m\.xml"):
        unip.predict(model=tmp_path / "m.xml", images=(tmp_path,), out=tmp_path / "out")


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_torch_is_not_said_to_run_what_it_does_not(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnipError, match="which torch does not run"):
        unip.predict(model=tmp_path / name, images=(tmp_path,), out=tmp_path / "out", engine="torch")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A calibrated model."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("exported")
    segmenter = contrasting(segmenter_maker.__wrapped__()(decoder="linear", images=IMAGES))
    save_segmenter(segmenter, place / "ft" / "model")
    nothing = tuple((0,) * BINS for _ in range(3))
    made = {"temperature": 1.7, "data": "d", "images": 50, "right": ROWS, "wrong": nothing, "shown": (50, 50, 50)}
    (place / "ft" / "model" / "calibration.json").write_text(Calibration(**made).model_dump_json())
    return place / "ft"


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def file(folder, request) -> Path:
    """The same as a file for another engine, which takes seconds to make."""
    for package in {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}[request.param]:
        if find_spec(package) is None:
            pytest.skip(f"needs the extra `{request.param}`")
    return unip.load(folder, device="cpu").export(request.param).file


def test_a_file_is_a_model_like_its_folder(file, folder, tmp_path):
    model, other = unip.load(file, device="cpu"), unip.load(folder, device="cpu", window="whole")
    assert model.names == other.names and model.calibration == other.calibration
    frames = [make_frame(size, "uint8", seed) for seed, size in enumerate([(32, 40), (31, 47), (40, 32)])]
    for one, two in zip(model(frames, probabilities=True), other(frames, probabilities=True), strict=True):
        assert (one.mask == two.mask).mean() >= 0.999
        np.testing.assert_allclose(one.confidence, two.confidence, atol=1e-4)
        np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-4)
        assert one.is_calibrated
    (risky,) = model(frames[:1], risk=0.05)
    assert (risky.mask == IGNORE).any() == (model(frames[0]).confidence < model.thresholds(0.05).min()).any()
    path = tmp_path / "frames" / "0.png"
    path.parent.mkdir()
    Image.fromarray(frames[0]).save(path)
    result = unip.predict(model=file, images=(path,), out=tmp_path / "out", probabilities=True)
    np.testing.assert_array_equal(np.asarray(Image.open(result.masks[path])), model(frames[0]).mask)
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["classes"]["names"] == list(model.names)


def test_a_risk_that_no_class_can_be_kept_to_is_refused(folder, tmp_path):
    """All pixels would become 255; 5 % takes 19 images."""
    shutil.copytree(folder, tmp_path / "few")
    path = next((tmp_path / "few").rglob("calibration.json"))
    few = Calibration.model_validate_json(path.read_text()).model_copy(update={"images": 10, "shown": (10, 10, 10)})
    path.write_text(few.model_dump_json())
    model = unip.load(tmp_path / "few", device="cpu")
    frame = make_frame((32, 40), "uint8", 0)
    with pytest.raises(UnipError, match="takes 19 images or more that show the class; 10 were seen"):
        model(frame, risk=0.05)
    assert (model(frame, risk=0.5).mask != IGNORE).any()


def test_a_large_frame_is_cut_into_windows(file):
    """Of training's short side, 32, at its scale; logits are averaged where they overlap."""
    frame = make_frame((75, 90), "uint8", 0)
    with pytest.warns(UserWarning, match="is 90x75, and the model was trained on frames of 40x32: it is resized by 1 "):
        result = unip.load(file, device="cpu")(frame)
    runner = open_runner(Path(file))
    logits, count = np.zeros((3, 75, 90)), np.zeros((75, 90))
    for top in (0, 22, 43):
        for left in (0, 22, 44, 58):
            place = slice(top, top + 32), slice(left, left + 32)
            logits[:, *place] += runner.outputs(frame[place])[2]
            count[place] += 1
    shares = np.exp(logits / count / 1.7)
    assert (result.scale, result.windows) == (1, 12)
    assert (result.mask == logits.argmax(0)).mean() > 0.999
    np.testing.assert_allclose(result.probabilities, shares / shares.sum(0), atol=1e-4)
    np.testing.assert_allclose(result.confidence, (shares / shares.sum(0)).max(0), atol=1e-4)


def test_it_needs_no_torch(file, tmp_path):
    Image.fromarray(make_frame((32, 40), "uint8", 0)).save(tmp_path / "0.png")
    code = (
        "import sys, unip\n"
        f"model = unip.load({str(file)!r})\n"
        f"print(model({str(tmp_path / '0.png')!r}, risk=0.1).summary() != [])\n"
        f"unip.predict(model={str(file)!r}, images={str(tmp_path / '0.png')!r}, out={str(tmp_path / 'out')!r})\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines() == ["True", "[]"]


def test_a_gpu_that_is_not_there(file):
    if file.suffix == ".onnx":
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("there is one")
    for device in ("cuda", "mps"):
        with pytest.raises(UnipError, match=f"device {device} was requested, and what runs .* offers none") as caught:
            unip.load(file, device=device)
        assert "onnxruntime-gpu" in caught.value.fix


def test_a_gpu_computes_without_tf32(monkeypatch):
    """ONNX Runtime's CUDA provider rounds to 10 bits by itself."""

    class Session:
        given: object = None

        def set_providers(self, providers):
            Session.given = providers

        def get_providers(self):
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    runtime = type("Runtime", (), {"get_available_providers": staticmethod(lambda: ["CUDAExecutionProvider"])})
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    runner = type("Runner", (), {"metadata": type("M", (), {"engine": "onnx"}), "session": Session()})
    assert exported._place(runner, "auto", "m") == "cuda"
    assert Session.given[0] == ("CUDAExecutionProvider", {"use_tf32": 0})
    assert exported._place(runner, "cpu", "m") == "cpu"
