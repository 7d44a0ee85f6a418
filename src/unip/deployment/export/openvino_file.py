"""OpenVINO files (``.xml`` beside ``.bin``) of ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unip.errors import UnipError


def save_openvino(source: Path, path: Path, texts: Mapping[str, str]) -> None:
    """Read an ONNX file and write it for OpenVINO, with weights as they are.

    Args:
        source: The ONNX file.
        path: The ``.xml`` file; the ``.bin`` file lies beside it.
        texts: What it says about itself, by keys.
    """
    import openvino

    model = openvino.Core().read_model(source)
    for key, text in texts.items():
        model.set_rt_info(text, key)
    openvino.save_model(model, path, compress_to_fp16=False)


def check_bfloat16() -> None:
    """Refuse bfloat16 on a processor that has no instructions for it: OpenVINO would compute in float32 there.

    Raises:
        UnipError: It has none.
    """
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnipError("this processor has no bfloat16, so the file cannot be compared here", "Export it as fp32.")
