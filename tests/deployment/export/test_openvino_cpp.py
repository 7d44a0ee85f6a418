"""The example in C++ is compiled against OpenVINO's wheel, and gives the masks of Python."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.deployment.export.frames import make_frame
from tests.deployment.export.test_graph import contrasting
from tests.segmentation.conftest import make_segmenter as segmenter_maker
from unip.deployment.export.config import ExportConfig
from unip.deployment.export.runners import open_runner
from unip.deployment.export.telemetry import import_silent
from unip.deployment.verbs import export
from unip.segmentation.storage import save_segmenter

pytest.importorskip("onnx", reason="needs the extra `onnx`")
if find_spec("openvino") is None:
    pytest.skip("needs the extra `openvino`", allow_module_level=True)
if not (shutil.which("cmake") and shutil.which("c++")):
    pytest.skip("needs cmake and a C++ compiler", allow_module_level=True)

EXAMPLE = Path(__file__).parents[3] / "examples" / "openvino_cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = import_silent("openvino").utils.get_cmake_path()
    build = tmp_path_factory.mktemp("build")
    options = [f"-DOpenVINO_DIR={path}", "-DCMAKE_CXX_FLAGS=-Wall -Wextra"]
    for command in (["cmake", "-S", EXAMPLE, "-B", build, *options], ["cmake", "--build", build]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "segment.cpp:" not in done.stdout + done.stderr  # no warning of the compiler
    return build / "segment"


@pytest.fixture(scope="module", params=["uint8", "int32"])
def exported(request, tmp_path_factory):
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("model")
    save_segmenter(contrasting(segmenter_maker.__wrapped__()(short_side=32, crop=32)), out / "model")
    result = export(ExportConfig.make(model=out / "model", to="openvino", input=request.param))
    assert result is not None
    return request.param, result.file


def run(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def write_pgm(path: Path, frame: np.ndarray) -> Path:
    top = 255 if frame.dtype == np.uint8 else 65535
    header = f"P5\n# made by a test\n{frame.shape[1]} {frame.shape[0]}\n{top}\n".encode()
    path.write_bytes(header + frame.astype(frame.dtype.newbyteorder(">")).tobytes())
    return path


def read_pgm(path: Path) -> np.ndarray:
    kind, size, top, pixels = path.read_bytes().split(b"\n", 3)
    assert (kind, top) == (b"P5", b"255")
    width, height = map(int, size.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width)


@pytest.mark.parametrize("size", [(32, 40), (41, 33)])
def test_it_gives_the_masks_of_python(program, exported, tmp_path, size):
    kind, file = exported
    frame = make_frame(size, kind, 3)
    stored = frame if kind == "uint8" else frame.astype(np.uint16)
    code, said, problem = run(program, file, write_pgm(tmp_path / "a.pgm", stored), tmp_path / "mask.pgm")
    assert code == 0, problem
    expected = open_runner(file).outputs(stored.astype(kind))
    mask = read_pgm(tmp_path / "mask.pgm")
    assert mask.shape == size and len(np.unique(mask)) > 1
    assert (mask == expected.ids).mean() >= 0.999  # the engine may add up in another order
    assert f"{size[1]}x{size[0]}" in said


def test_what_does_not_fit_is_refused(program, exported, tmp_path):
    kind, file = exported
    other = np.zeros((32, 40), np.uint16 if kind == "uint8" else np.uint8)
    mine = np.zeros((8, 400), np.uint8 if kind == "uint8" else np.uint16)
    (tmp_path / "cut.pgm").write_bytes(write_pgm(tmp_path / "whole.pgm", other).read_bytes()[:-1])
    (tmp_path / "text.pgm").write_text("P2\n1 1\n255\n0\n")
    cases = {
        write_pgm(tmp_path / "other.pgm", other): "the model takes",
        write_pgm(tmp_path / "long.pgm", mine): "longer than the model is right for",
        tmp_path / "cut.pgm": "ends before its last pixel",
        tmp_path / "text.pgm": "is not a binary PGM file",
        tmp_path / "missing.pgm": "cannot read",
    }
    for frame, words in cases.items():
        code, _, problem = run(program, file, frame, tmp_path / "mask.pgm")
        assert code == 2 and words in problem, problem
    assert not (tmp_path / "mask.pgm").exists()
    assert run(program)[0] == 2
