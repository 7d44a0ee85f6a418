"""8-bit ONNX files: linear layers and convolutions in integers, with ranges measured on the user's frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy.typing as npt

from unip.deployment.export.metadata import INPUT_NAME
from unip.log import others_quiet


def quantise(source: Path, path: Path, nodes: Sequence[str], frames: Sequence[npt.NDArray[Any]]) -> None:
    """Write an 8-bit version of an ONNX file (static quantisation by ONNX Runtime).

    Weights are symmetric with a scale for each output channel; activations have the range that they take on the frames.

    Args:
        source: The fp32 file.
        path: Where to.
        nodes: The names of the nodes that compute in integers.
        frames: Frames as the graph takes them.
    """
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

    class Frames(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[npt.NDArray[Any]] = iter(frames)

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            frame = next(self.left, None)
            return None if frame is None else {INPUT_NAME: frame}

    with others_quiet(), _ranges_measured_at_once():
        quantize_static(
            source,
            path,
            Frames(),
            nodes_to_quantize=list(nodes),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def _ranges_measured_at_once() -> AbstractContextManager[object]:
    """Let ONNX Runtime measure a result's range as soon as it is computed, and free it.

    By itself it measures all ranges last, and keeps every result until then: 9.6 GB for a frame of 640x512 that is
    resized to 1280x1024, instead of 1.0 GB (ViT-Tiny). There is no setting for it.
    """
    import onnxruntime
    from onnxruntime.quantization.calibrate import CalibraterBase

    def open_session(self: Any) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        options.enable_cpu_mem_arena = False
        self.infer_session = onnxruntime.InferenceSession(
            self.augmented_model_path, options, providers=self.execution_providers
        )

    return mock.patch.object(CalibraterBase, "create_inference_session", open_session)
