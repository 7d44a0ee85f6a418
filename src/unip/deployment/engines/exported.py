"""Opening an exported file where it is to run; torch is imported only for torch's own archives."""

from __future__ import annotations

from typing import Any

from unip.deployment.config import LoadConfig
from unip.deployment.engines.graph_engine import GraphEngine
from unip.deployment.export.runners import open_runner
from unip.errors import UnipError
from unip.paths import expand


def open_exported(name: str, config: LoadConfig) -> GraphEngine:
    """Return the engine for an exported file.

    Raises:
        UnipError: The file is damaged, its engine is not installed, or the device or another setting is not its.
    """
    runner = open_runner(expand(name))
    return GraphEngine(runner, config, name, _place(runner, config.device, name))


def _place(runner: Any, device: str, name: str) -> str:
    """Let ONNX Runtime run on a GPU if it can and may, and return where a file runs."""
    if runner.metadata.engine == "onnx" and device in ("auto", "cuda"):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            # TF32 has 10 bits: other masks than the fp32 that the file says
            runner.session.set_providers([("CUDAExecutionProvider", {"use_tf32": 0}), "CPUExecutionProvider"])
            if "CUDAExecutionProvider" in runner.session.get_providers():
                return "cuda"
    if device in ("auto", "cpu"):
        return "cpu"
    raise UnipError(
        f"device {device} was requested, and what runs {name} offers none here",
        "Use device auto or cpu; for NVIDIA GPUs, ONNX Runtime needs the package onnxruntime-gpu.",
    )
