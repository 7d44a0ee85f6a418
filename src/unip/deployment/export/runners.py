"""Running exported files on the processor; needs no torch for engines other than torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from unip.data.images.conversion import grey8
from unip.data.images.decoding import is_grey
from unip.deployment.export.metadata import (
    GOLDEN_KEY,
    INPUT_NAME,
    KEY,
    OUTPUT_NAMES,
    ExportMetadata,
    GoldenFrame,
    unpack_golden,
)
from unip.errors import UnipError

Array = npt.NDArray[Any]


class Outputs(NamedTuple):
    """What a graph gives for a frame.

    Attributes:
        ids: Class ids, uint8 ``(H, W)``.
        confidence: Softmax probability of that class, float32 ``(H, W)``.
        logits: float32 ``(C, H, W)``.
    """

    ids: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]


class Runner(Protocol):
    """An exported file, ready to run; several threads may use it."""

    metadata: ExportMetadata
    golden: list[GoldenFrame]

    def outputs(self, frame: Array) -> Outputs:
        """Run the graph on a frame, see :func:`as_input`."""


def open_runner(path: Path) -> Runner:
    """Open an exported file by its suffix.

    Raises:
        UnipError: It is no such file, is damaged, or its engine is not installed.
    """
    return {".onnx": OnnxRunner}[path.suffix](path)


def texts_of(path: Path, texts: Mapping[str, str]) -> tuple[ExportMetadata, list[GoldenFrame]]:
    """Read what a file says about itself.

    Raises:
        UnipError: It was not written by unip, or is damaged.
    """
    return ExportMetadata.from_json(texts.get(KEY), str(path)), unpack_golden(texts.get(GOLDEN_KEY))


def as_input(frame: Array, metadata: ExportMetadata) -> Array:
    """Give a frame the type and shape that a graph takes.

    Args:
        frame: ``(H, W)`` or ``(H, W, 3)``, uint8, uint16, int32 or a float.
        metadata: Of the file.

    Returns:
        The same samples; of three equal channels one, where the graph takes one, and the other way round.

    Raises:
        UnipError: The samples are of another kind, or in colour and the graph takes grey.
    """
    kind = "float32" if frame.dtype.kind == "f" else "uint8" if frame.dtype == np.uint8 else "int32"
    if kind != metadata.input or frame.dtype.kind not in "uif":
        raise UnipError(
            f"the frame has samples of type {frame.dtype}, but the graph takes {metadata.input}",
            f"Give such frames, or export the model with --input {kind}.",
        )
    if metadata.channels == 1 and frame.ndim == 3:
        if not is_grey(frame):
            raise UnipError("the frame is in colour, but the graph takes grey", "Export it with --colours colour.")
        frame = grey8(frame) if kind == "uint8" else frame[..., 0]
    elif metadata.channels == 3 and frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=2)
    return np.ascontiguousarray(frame, dtype=metadata.input)


class OnnxRunner:
    """An ONNX file on ONNX Runtime.

    Args:
        path: The file.

    Raises:
        UnipError: It cannot be opened, or ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UnipError("running ONNX files needs onnxruntime", "pip install 'unip[onnx]'") from None
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(3)  # errors
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # of its own many types
            raise UnipError(f"ONNX Runtime cannot open {path}: {error}", "Export the model again.") from error
        self.metadata, self.golden = texts_of(path, self.session.get_modelmeta().custom_metadata_map)

    def outputs(self, frame: Array) -> Outputs:
        """Run the graph on a frame, see :func:`as_input`."""
        return Outputs(*self.session.run(OUTPUT_NAMES, {INPUT_NAME: as_input(frame, self.metadata)}))
