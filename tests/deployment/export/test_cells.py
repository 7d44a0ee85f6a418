"""Every engine in every precision: 30 sizes, threads, and what computes in which type."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from tests.deployment.export.cached import cache_graphs
from tests.deployment.export.frames import SIZES, make_frame
from tests.deployment.export.test_graph import BACKBONES, compare, contrasting
from tests.segmentation.conftest import make_segmenter as segmenter_maker
from unip.deployment.export import program
from unip.deployment.export.config import ExportConfig
from unip.deployment.export.files import SUFFIXES
from unip.deployment.export.half_precision import types_by_operation
from unip.deployment.export.metadata import GOLDEN_KEY, KEY, pack_golden
from unip.deployment.export.openvino_file import check_bfloat16
from unip.deployment.export.openvino_types import Network
from unip.deployment.export.runners import open_runner
from unip.deployment.export.telemetry import import_silent
from unip.errors import UnipError
from unip.segmentation.storage import save_segmenter

pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

#: Least share of equal pixels over all sizes, and largest difference of logits in spreads. The model has random
#: weights, so that many of its pixels are close calls.
LIMITS = {"fp32": (0.999, 1e-3), "fp16": (0.99, 5e-3), "bf16": (0.99, 0.05), "int8": (0.8, 0.3)}


@pytest.fixture(scope="module")
def model():
    """A model with pooling, registers and patches of 14 pixels."""
    torch.manual_seed(0)
    make = segmenter_maker.__wrapped__()
    return contrasting(make(BACKBONES["registers"], decoder="upernet", short_side=48, crop=48))


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    """Return the exported file of a cell; the ONNX graph is made once."""
    files = {}
    root = tmp_path_factory.mktemp("cells")
    save_segmenter(model, root / "model")
    with pytest.MonkeyPatch.context() as patch:
        trace = program.trace
        cache_graphs(patch)
        once = program.trace

        def make(engine, precision, kind="uint8"):
            if (engine, precision, kind) not in files:
                program.trace = trace if engine == "torch" else once
                config = ExportConfig.make(model=root / "model", to=engine, precision="fp32", input=kind)
                config = config.model_copy(update={"precision": precision})
                metadata = program.describe_file(config, model)
                path = root / f"{precision}-{kind}{SUFFIXES[engine]}"
                texts = {KEY: metadata.as_json(), GOLDEN_KEY: pack_golden([])}
                frames = [make_frame(size, kind, seed) for seed, size in enumerate(SIZES)]
                program.make(model, metadata, path, texts, frames[:: 1 if engine == "onnx" else 4])
                files[engine, precision, kind] = path, metadata
            return files[engine, precision, kind]

        yield make


def cell(engine, precision, *kind):
    """A file; of 8-bit frames for :func:`test_sizes` if no type is given."""
    return pytest.param(engine, precision, *(kind or ("uint8",)), id="-".join((engine, precision, *kind)))


def skip_without(engine, precision):
    if engine == "openvino":
        if find_spec("openvino") is None or (precision == "int8" and find_spec("nncf") is None):
            pytest.skip("needs the extra `openvino`")
        try:
            check_bfloat16()
        except UnipError as error:
            if precision == "bf16":
                pytest.skip(error.what)


@pytest.mark.parametrize(
    ("engine", "precision", "kind"),
    [
        cell("onnx", "fp16"),
        cell("onnx", "int8"),
        cell("openvino", "fp32"),
        cell("openvino", "bf16"),
        cell("openvino", "bf16", "int32"),
        cell("openvino", "int8", "int32"),
        cell("torch", "fp32"),
        cell("torch", "bf16"),
    ],
)
def test_sizes(engine, precision, kind, made, model):
    skip_without(engine, precision)
    path, metadata = made(engine, precision, kind)
    runner = open_runner(path)
    assert runner.metadata == metadata and runner.golden == []
    same, difference = np.transpose(
        [compare(model, make_frame(size, kind, seed), runner.outputs) for seed, size in enumerate(SIZES)]
    )
    least, largest = LIMITS[precision]
    assert same.mean() >= least and difference.max() <= largest


@pytest.mark.parametrize(("engine", "precision"), [("onnx", "fp16"), ("openvino", "fp32")])
def test_threads(engine, precision, made):
    skip_without(engine, precision)
    runner = open_runner(made(engine, precision)[0])
    frames = [make_frame(size, "uint8", seed) for seed, size in enumerate(SIZES)]
    alone = [runner.outputs(frame) for frame in frames]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(runner.outputs, frames))
    for one, other in zip(alone, together, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_only_large_products_are_float16(made):
    """By walking the graph: what engines must not compute in 16 bits is typed float32 in the file."""
    path, _ = made("onnx", "fp16")
    types = types_by_operation(path)
    assert types["Conv"] == types["ConvTranspose"] == {"FLOAT16"}
    assert types["MatMul"] == {"FLOAT16", "FLOAT"}  # resizing and pooling are products, too
    others = {kind: found for kind, found in types.items() if kind not in ("Conv", "ConvTranspose", "MatMul")}
    assert {"LayerNormalization", "Softmax", "ReduceMax", "ReduceSum", "Exp", "Gelu", "Resize"} <= others.keys()
    assert all(found == {"FLOAT"} for found in others.values()), others
    import onnx

    graph = onnx.load(path).graph
    halves = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT16}
    fed = [
        node for node in graph.node if node.op_type == "MatMul" and any(name.endswith("_fp16") for name in node.input)
    ]
    assert len(fed) == 2 * (4 + 2)  # of each block: qkv, projection, two of the MLP; and two of attention
    assert len(halves) >= 2 * 4 + 4
    assert path.stat().st_size < 0.8 * made("onnx", "fp32")[0].stat().st_size


def test_what_openvino_computes_in_which_type(made):
    """The conversion has all its digits, and the logits; in between products are short."""
    skip_without("openvino", "int8")
    openvino = import_silent("openvino")

    def read(precision):
        nodes = openvino.Core().read_model(made("openvino", precision, "int32")[0]).get_ordered_ops()
        start = next(number for number, node in enumerate(nodes) if node.get_type_name() == "Convolution")
        return nodes, start

    def types(nodes, kind):
        return {node.get_input_element_type(0).to_string() for node in nodes if node.get_type_name() == kind}

    nodes, start = read("bf16")
    assert {"bf16"} == types(nodes, "Convolution") == types(nodes, "MVN") == types(nodes, "Softmax")
    assert types(nodes, "MatMul") == {"bf16", "f32"}  # pooling, and resizing before it
    head = [node for node in nodes[:start] if node.get_type_name() not in ("Constant", "Convert")]
    assert all(output.get_element_type().to_string() != "bf16" for node in head for output in node.outputs())
    assert {"f32"} == types(nodes, "TopK") == types(nodes, "Exp") and {"MatMul"} <= {n.get_type_name() for n in head}
    nodes, start = read("int8")
    assert {"f32"} == types(nodes, "Convolution") == types(nodes, "MVN") == types(nodes, "FakeQuantize")
    assert {"bf16"} == types(nodes, "Softmax") and {"f32"} == types(nodes, "TopK")
    quantised = [number for number, node in enumerate(nodes) if node.get_type_name() == "FakeQuantize"]
    products = Network.of(openvino.Core().read_model(made("openvino", "fp32", "int32")[0])).weighted
    assert len(quantised) >= 8 and sum(number < start - 1 for number in quantised) <= 2  # what embeds patches
    weights = sum(
        node.get_output_element_type(0).to_string() == "i8" and node.get_type_name() == "Constant" for node in nodes
    )
    assert weights == len(products) >= 4 * 2 + 1


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_nothing_is_sent_anywhere(engine, made, monkeypatch):
    skip_without(engine, "fp32")

    def connect(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    path, _ = made(engine, "fp32")
    open_runner(path).outputs(make_frame((20, 30), "uint8"))


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.pt2", "m.txt"])
def test_files_that_are_no_models(name, tmp_path):
    skip_without({"m.xml": "openvino"}.get(name, ""), "")
    (tmp_path / name).write_text("nothing of use")
    with pytest.raises(UnipError, match=name):
        open_runner(tmp_path / name)
