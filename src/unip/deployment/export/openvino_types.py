"""OpenVINO graphs in which the network is bfloat16: strongly typed, by conversions that are part of the file.

OpenVINO's own switch (the hint ``bf16``) takes a whole graph: counts lose the digits that percentiles need, and the
indices of histograms become others. So the types are in the file here, and every file is run with the hint ``f32``,
which leaves typed operations alone. A processor without bfloat16 computes them in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from unip.deployment.export.telemetry import import_silent

CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution")
CARRIERS = (
    "Reshape",
    "Transpose",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "Softmax",
    "Multiply",
)  # around attention's products


@dataclass(frozen=True)
class Network:
    """The part of a graph that computes features: from the convolution that embeds patches to the logits.

    Attributes:
        nodes: All its nodes, in order of computation.
        weighted: Of these, the convolutions and the products with weights.
        attention: Of these, the products of attention.
    """

    nodes: list[Any]
    weighted: list[Any]
    attention: list[Any]

    @classmethod
    def of(cls, model: Any) -> Network:
        """Find it in an OpenVINO model; products of computed matrices of two dimensions pool, which is a reduction."""
        ordered = model.get_ordered_ops()
        constant = _constants(ordered)
        below = _below_first_convolution(ordered)
        weighted, attention = [], []
        for node in (each for each in ordered if each.get_friendly_name() in below):
            product = node.get_type_name() == "MatMul"
            if node.get_type_name() in CONVOLUTIONS or (product and not constant.isdisjoint(names(sources(node)))):
                weighted.append(node)
            elif product and max(len(each.get_partial_shape()) for each in node.inputs()) > 3:
                attention.append(node)
        found = names([*weighted, *attention])
        for node in reversed(ordered):  # what leads to a product
            if node.get_friendly_name() in below and not found.isdisjoint(names(users(node))):
                found.add(node.get_friendly_name())
        return cls([node for node in ordered if node.get_friendly_name() in found], weighted, attention)


def network_in_bfloat16(model: Any) -> None:
    """Let the network compute in bfloat16, in place; the conversion, resizing, pooling and the logits stay float32."""
    network = Network.of(model)
    products = names([*network.weighted, *network.attention])
    pooling = {
        node.get_friendly_name()
        for node in network.nodes
        if node.get_type_name() == "MatMul" and node.get_friendly_name() not in products
    }
    _in_bfloat16(model, network.nodes, names(network.nodes) - pooling)


def attention_in_bfloat16(model: Any) -> None:
    """Let the products of attention compute in bfloat16, in place, with what lies only between them."""
    network = Network.of(model)
    chosen = names(network.attention)
    for node in reversed(network.nodes):
        following = names(users(node))
        if node.get_type_name() in CARRIERS and following and chosen.issuperset(following):
            chosen.add(node.get_friendly_name())
    _in_bfloat16(model, network.nodes, chosen)


def names(nodes: Iterable[Any]) -> set[str]:
    """Return the names of nodes."""
    return {node.get_friendly_name() for node in nodes}


def sources(node: Any) -> list[Any]:
    """Return the nodes that a node takes its inputs from."""
    return [each.get_source_output().get_node() for each in node.inputs()]


def users(node: Any) -> list[Any]:
    """Return the nodes that take what a node gives, but for those that only ask for its size."""
    return [each.get_node() for each in _taken(node)]


def _constants(ordered: Iterable[Any]) -> set[str]:
    """Return the names of constants and of what is computed from them alone: weights, also those of 8 bits."""
    found: set[str] = set()
    for node in ordered:
        parents = names(sources(node))
        if node.get_type_name() == "Constant" or (parents and found.issuperset(parents)):
            found.add(node.get_friendly_name())
    return found


def _below_first_convolution(ordered: Iterable[Any]) -> set[str]:
    """Return the names of the convolution that embeds patches and of all that is computed from it, but for sizes."""
    found: set[str] = set()
    for node in ordered:
        if node.get_type_name() == "ShapeOf":
            continue
        if not found.isdisjoint(names(sources(node))) or (not found and node.get_type_name() == "Convolution"):
            found.add(node.get_friendly_name())
    return found


def _taken(node: Any) -> Iterator[Any]:
    for output in node.outputs():
        yield from (each for each in output.get_target_inputs() if each.get_node().get_type_name() != "ShapeOf")


def _in_bfloat16(model: Any, nodes: list[Any], chosen: set[str]) -> None:
    """Convert what enters the chosen nodes to bfloat16, and what leaves them back to float32."""
    openvino = import_silent("openvino")
    operations, float32, bfloat16 = openvino.opset13, openvino.Type.f32, openvino.Type.bf16
    inside = [node for node in nodes if node.get_friendly_name() in chosen]
    entering: dict[tuple[str, int], Any] = {}
    for node in inside:
        for each in node.inputs():
            given = each.get_source_output()
            parent = given.get_node()
            place = parent.get_friendly_name(), given.get_index()
            if given.get_element_type() == float32 and place[0] not in chosen:
                if place not in entering:
                    weights = parent.get_type_name() == "Constant"  # the file holds them as bfloat16
                    entering[place] = (
                        operations.constant(parent.data, dtype=bfloat16)
                        if weights
                        else operations.convert(given, bfloat16)
                    )
                each.replace_source_output(entering[place].output(0))
    leaving: dict[tuple[str, int], Any] = {}
    for node in inside:
        for each in _taken(node):
            given = each.get_source_output()
            place = node.get_friendly_name(), given.get_index()
            if given.get_element_type() == float32 and each.get_node().get_friendly_name() not in chosen:
                if place not in leaving:
                    leaving[place] = operations.convert(given, float32)
                each.replace_source_output(leaving[place].output(0))
    model.validate_nodes_and_infer_types()
