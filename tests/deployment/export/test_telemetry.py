"""OpenVINO and NNCF send nothing and write nothing to the user's folder, although both do when they are imported."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from tests.test_no_network import watched
from unip.deployment.export.telemetry import SENDER

if find_spec("openvino") is None or find_spec("nncf") is None:
    pytest.skip("needs the extra `openvino`", allow_module_level=True)

QUANTISE = """
import sys
import numpy as np
from unip.deployment.export.openvino_integers import quantise_openvino
from unip.deployment.export.telemetry import import_silent
openvino = import_silent("openvino")
made = openvino.opset13
frame = made.parameter([1, 3, 8, 8], np.float32, name="frame")
frame.output(0).set_names({"frame"})
weights = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
product = made.convolution(frame, weights, [2, 2], [0, 0], [0, 0], [1, 1])
model = quantise_openvino(openvino.Model([made.result(product)], [frame]), [np.ones((1, 3, 8, 8), np.float32)] * 2)
print("FakeQuantize" in {node.get_type_name() for node in model.get_ops()}, "SENDER" in sys.modules)
"""


def test_quantising_reaches_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CI", "NNCF_CI", "NNCF_DEV"):
        monkeypatch.delenv(name, raising=False)
    done, noted = watched(tmp_path, ["-c", QUANTISE.replace("SENDER", SENDER)])
    assert (done.stdout, noted) == ("True False\n", []), done.stderr
    assert set(os.listdir(tmp_path)) <= {"hook", ".cache", ".config"}
