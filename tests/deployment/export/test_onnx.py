"""ONNX files give what prediction gives, for frames of 30 sizes and three types, on ONNX Runtime.

An export takes seconds, so each is of another backbone, decoder, type and conversion.
"""

from __future__ import annotations

import collections

import numpy as np
import pytest

from tests.deployment.export.frames import SIZES, make_frame
from tests.deployment.export.test_graph import BACKBONES, compare, contrasting
from unip.data.images.config import Conversion
from unip.deployment.export.graph import trace
from unip.deployment.export.onnx_file import save_onnx, to_onnx

onnx = pytest.importorskip("onnx", reason="needs the extra `onnx`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")


def exported(segmenter, path, kind="uint8", channels=1):
    """Export a model; return a function that runs the file."""
    save_onnx(to_onnx(trace(segmenter, kind, channels)), path, {"unip": "said"})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda frame: session.run(["ids", "confidence", "logits"], {"frame": frame})


@pytest.mark.parametrize(
    ("kind", "backbone", "decoder", "conversion"),
    [
        ("uint8", "registers", "light", Conversion(polarity="black-hot")),
        ("int32", "DINOv3", "conv", Conversion()),
        ("float32", "patch 8", "upernet", Conversion(method="plateau")),
    ],
)
def test_sizes(kind, backbone, decoder, conversion, make_segmenter, tmp_path):
    made = make_segmenter(BACKBONES[backbone], decoder=decoder, conversion=conversion, short_side=48, crop=48)
    segmenter = contrasting(made)
    run = exported(segmenter, tmp_path / "m.onnx", kind)
    for seed, size in enumerate(SIZES):
        same, difference = compare(segmenter, make_frame(size, kind, seed), run)
        assert same >= 0.999 and difference <= 1e-3, size


def test_colour_and_what_the_file_holds(make_segmenter, tmp_path):
    segmenter = contrasting(make_segmenter(BACKBONES["EVA-02"], decoder="linear"))
    run = exported(segmenter, tmp_path / "m.onnx", channels=3)
    for seed, size in enumerate(SIZES):
        frame = np.stack([make_frame(size, "uint8", seed + i) for i in range(3)], axis=2)
        same, difference = compare(segmenter, frame, run)
        assert same >= 0.999 and difference <= 1e-3, size
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {each.key: each.value for each in model.metadata_props} == {"unip": "said"}
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
    kinds = collections.Counter(node.op_type for node in model.graph.node)
    assert kinds["LayerNormalization"] >= 4 and kinds["Softmax"] == 2 and not kinds["ReduceMean"]  # whole
    data = (tmp_path / "m.onnx").read_bytes()
    assert b"site-packages" not in data and b".py" not in data  # nothing of the machine that made it
