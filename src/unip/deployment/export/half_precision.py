"""ONNX graphs in which only the large products are float16: strongly typed, by casts that are part of the file.

Engines that choose types by themselves have turned masks into one class: norms overflow, softmax and sums lose digits.
Here convolutions, linear layers and the products of attention take float16, and everything else is float32.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from unip.errors import UnipError

LARGEST = float(np.finfo(np.float16).max)


def network_products(graph: Any) -> list[Any]:
    """Return the nodes of an ``onnx_ir`` graph that multiply features: convolutions, linear layers, attention.

    They follow the first convolution, which embeds patches. Products before it resize the frame and positions; products
    of computed matrices of two dimensions pool, which is a reduction.
    """
    start = next((node for node in graph if node.op_type == "Conv"), None)
    if start is None:
        return []
    followers, found = {start}, [start]
    for node in graph:  # in order of computation
        if node is start or not any(value is not None and value.producer() in followers for value in node.inputs):
            continue
        if node.op_type != "Shape":  # sizes are not features
            followers.add(node)
        constant = any(value is not None and value.is_initializer() for value in node.inputs)
        ranks = [len(value.shape) for value in node.inputs if value is not None and value.shape is not None]
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") or (
            node.op_type == "MatMul" and (constant or max(ranks, default=0) > 3)
        ):
            found.append(node)
    return found


def weighted_products(graph: Any) -> list[str]:
    """Return the names of the products with weights: those of :func:`network_products` but for attention's own."""
    return [
        node.name
        for node in network_products(graph)
        if any(value is not None and value.is_initializer() for value in node.inputs)
    ]


def to_half(model: Any) -> Any:
    """Let the large products of an ``onnx_ir`` model take and give float16, in place.

    Args:
        model: From :func:`unip.deployment.export.onnx_file.to_onnx`.

    Raises:
        UnipError: A weight is beyond what float16 holds.
    """
    import onnx_ir as ir

    graph = model.graph
    halves: dict[Any, Any] = {}

    def half(value: Any, node: Any) -> Any:
        if value not in halves:
            if value.is_initializer():
                array = value.const_value.numpy()
                if np.abs(array).max(initial=0) > LARGEST:
                    raise UnipError(f"weights of {value.name} are beyond what float16 holds", "Export it as fp32.")
                made = ir.Value(name=f"{value.name}_fp16", const_value=ir.tensor(array.astype(np.float16)))
                made.shape, made.type = value.shape, ir.TensorType(ir.DataType.FLOAT16)
                graph.register_initializer(made)
                halves[value] = made
            else:
                halves[value] = _cast(ir, graph, value, node, ir.DataType.FLOAT16, f"{value.name}_fp16")
        return halves[value]

    for node in network_products(graph):
        for index, value in enumerate(node.inputs):
            if value is not None:
                node.replace_input_with(index, half(value, node))
        (output,) = node.outputs
        users = list(output.uses())
        output.type = ir.TensorType(ir.DataType.FLOAT16)
        cast = ir.Node("", "Cast", [output], [ir.AttrInt64("to", ir.DataType.FLOAT)], name=f"{node.name}_to_fp32")
        cast.outputs[0].name = f"{output.name}_fp32"
        cast.outputs[0].shape, cast.outputs[0].type = output.shape, ir.TensorType(ir.DataType.FLOAT)
        graph.insert_after(node, cast)
        for user, index in users:
            user.replace_input_with(index, cast.outputs[0])
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    return model


def types_by_operation(path: Any) -> dict[str, set[str]]:
    """Return the float types that each kind of operation computes in, by walking a file's graph.

    Args:
        path: An ONNX file.

    Returns:
        For each kind of operation the types of its float inputs, such as ``{"Softmax": {"FLOAT"}}``; casts left out.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    kinds = {each.name: each.data_type for each in graph.initializer}
    kinds |= {each.name: each.type.tensor_type.elem_type for each in (*graph.value_info, *graph.input, *graph.output)}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    found: dict[str, set[str]] = defaultdict(set)
    for node in graph.node:
        types = {kinds[name] for name in node.input if kinds.get(name) in floats}
        if node.op_type != "Cast" and types:
            found[node.op_type] |= {onnx.TensorProto.DataType.Name(kind) for kind in types}
    return dict(found)


def _cast(ir: Any, graph: Any, value: Any, before: Any, kind: Any, name: str) -> Any:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", kind)], name=f"cast_{name}")
    node.outputs[0].name = name
    node.outputs[0].shape, node.outputs[0].type = value.shape, ir.TensorType(kind)
    graph.insert_before(before, node)
    return node.outputs[0]
