"""OpenVINO files (``.xml`` beside ``.bin``) of ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from unip.deployment.export.config import ExportPrecision
from unip.deployment.export.openvino_integers import quantise_openvino
from unip.deployment.export.openvino_types import network_in_bfloat16
from unip.deployment.export.telemetry import import_silent
from unip.errors import UnipError


def save_openvino(
    source: Path,
    path: Path,
    texts: Mapping[str, str],
    precision: ExportPrecision,
    frames: Sequence[npt.NDArray[Any]] = (),
) -> None:
    """Read an ONNX file and write it for OpenVINO.

    Args:
        source: The ONNX file, in fp32.
        path: The ``.xml`` file; the ``.bin`` file lies beside it.
        texts: What it says about itself, by keys.
        precision: ``fp32``, ``bf16`` or ``int8``.
        frames: int8: frames that ranges are measured on, as the graph takes them.
    """
    openvino = import_silent("openvino")

    model = openvino.Core().read_model(source)
    if precision == "int8":
        model = quantise_openvino(model, frames)
    elif precision == "bf16":
        network_in_bfloat16(model)
    for key, text in texts.items():
        model.set_rt_info(text, key)
    openvino.save_model(model, path, compress_to_fp16=False)


def check_bfloat16() -> None:
    """Refuse bfloat16 on a processor that has no instructions for it: OpenVINO would compute in float32 there.

    Raises:
        UnipError: It has none.
    """
    openvino = import_silent("openvino")

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnipError("this processor has no bfloat16, so the file cannot be compared here", "Export it as fp32.")
