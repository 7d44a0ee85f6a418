"""ONNX files of graphs: opset 20, with what the file says about itself and nothing about the machine that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from unip.deployment.export.metadata import INPUT_NAME, OUTPUT_NAMES
from unip.log import others_quiet

OPSET = 20  # LayerNormalization and Gelu are single operations; TensorRT 10 and OpenVINO 2024 read it


def to_onnx(program: ExportedProgram) -> Any:
    """Return the ``onnx_ir`` model of a graph.

    Args:
        program: From :func:`unip.deployment.export.graph.trace`.
    """
    import onnx_ir.passes.common as passes

    with others_quiet("torch.onnx", "onnxscript", "onnx_ir"):
        made = torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME], output_names=list(OUTPUT_NAMES),
            verbose=False,
        )  # fmt: skip
    assert made is not None
    model: Any = made.model
    passes.ClearMetadataAndDocStringPass()(model)  # paths of this machine
    for axis, name in enumerate(("height", "width")):
        for value in (*model.graph.inputs, *model.graph.outputs):
            shape = value.shape
            shape[axis + (value.name == "logits")] = name
    return model


def save_onnx(model: Any, path: Path, texts: Mapping[str, str]) -> None:
    """Write a model with texts in its metadata.

    Args:
        model: An ``onnx_ir`` model.
        path: The file.
        texts: By their keys.
    """
    import onnx_ir

    model.producer_name = "unip"
    model.metadata_props.clear()
    model.metadata_props.update(texts)
    onnx_ir.save(model, path)
