from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

LAYERS, ROWS, WIDTH = 24, 2**16, 64  # results of 16 MiB, 400 MB in all

PROGRAM = f"""
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from pathlib import Path
from unip.deployment.export.integers import quantise
from unip.deployment.export.metadata import INPUT_NAME

rng = np.random.default_rng(0)
weights = [
    numpy_helper.from_array(rng.normal(0, 0.1, ({WIDTH}, {WIDTH})).astype("f"), f"w{{i}}") for i in range({LAYERS})
]
names = [INPUT_NAME, *(f"y{{i}}" for i in range({LAYERS}))]
nodes = [helper.make_node("MatMul", [names[i], f"w{{i}}"], [names[i + 1]], name=f"n{{i}}") for i in range({LAYERS})]
ends = [
    helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", {WIDTH}]) for name in (names[0], names[-1])
]
graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
folder = Path(sys.argv[1])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), folder / "chain.onnx")
frames = [rng.normal(0, 1, ({ROWS}, {WIDTH})).astype("f")]
def peak():  # in kB; what getrusage tells includes the process that started this one
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1])

before = peak()
quantise(folder / "chain.onnx", folder / "int8.onnx", [node.name for node in nodes], frames)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_results_are_freed_while_ranges_are_measured(tmp_path):
    found = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (tmp_path / "int8.onnx").exists()
    assert int(found.stdout.split()[-1]) < 250_000, "kB: all results were kept"
