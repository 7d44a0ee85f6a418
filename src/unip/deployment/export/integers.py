"""8-bit ONNX files: linear layers and convolutions in integers, with ranges measured on the user's frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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

    with others_quiet():
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
