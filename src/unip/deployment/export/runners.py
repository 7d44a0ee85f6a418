"""Running exported files on the processor; needs no torch for engines other than torch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import local
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
from unip.deployment.export.telemetry import import_silent
from unip.errors import UnipError
from unip.runtime.workers import usable_cores

Array = npt.NDArray[Any]
LARGEST_COUNT = 2**24  # up to which float32, in which graphs compute, holds every whole number


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
    runners: dict[str, Callable[[Path], Runner]] = {
        ".onnx": OnnxRunner,
        ".xml": OpenVinoRunner,
        ".pt2": ArchiveRunner,
    }
    if path.suffix not in runners:
        raise UnipError(f"{path} is no exported model by its name", f"Give a file {', '.join(runners)}.")
    return runners[path.suffix](path)


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
        UnipError: The samples are of another kind, or too large, or in colour and the graph takes grey.
    """
    kind = "float32" if frame.dtype.kind == "f" else "uint8" if frame.dtype == np.uint8 else "int32"
    if kind != metadata.input or frame.dtype.kind not in "uif":
        raise UnipError(
            f"the frame has samples of type {frame.dtype}, but the graph takes {metadata.input}",
            f"Give such frames, or export the model with --input {kind}.",
        )
    wide = kind == "int32" and frame.dtype.itemsize > 2 and frame.size > 0
    if wide and max(-int(frame.min()), int(frame.max())) > LARGEST_COUNT:
        raise UnipError(f"the frame has counts beyond {LARGEST_COUNT:,}", "Scale them to fewer bits, as in training.")
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
        options = onnxruntime.SessionOptions()
        if usable_cores() < (os.cpu_count() or 1):  # else it starts a thread for each core of the machine
            options.intra_op_num_threads = usable_cores()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of its own many types
            raise UnipError(f"ONNX Runtime cannot open {path}: {error}", "Export the model again.") from error
        self.metadata, self.golden = texts_of(path, self.session.get_modelmeta().custom_metadata_map)

    def outputs(self, frame: Array) -> Outputs:
        """Run the graph on a frame, see :func:`as_input`."""
        return Outputs(*self.session.run(OUTPUT_NAMES, {INPUT_NAME: as_input(frame, self.metadata)}))


class OpenVinoRunner:
    """An OpenVINO file on the processor, in the types of its graph.

    OpenVINO chooses bfloat16 for all of a graph by itself where the processor has it, unless float32 is asked for.

    Args:
        path: The ``.xml`` file.

    Raises:
        UnipError: It cannot be opened, or OpenVINO is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            openvino = import_silent("openvino")
        except ImportError:
            raise UnipError("running OpenVINO files needs openvino", "pip install 'unip[openvino]'") from None
        try:
            core = openvino.Core()
            model = core.read_model(path)
            held = {key: str(model.get_rt_info(key).value) for key in (KEY, GOLDEN_KEY) if model.has_rt_info(key)}
            self.metadata, self.golden = texts_of(path, held)
            self.compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise UnipError(f"OpenVINO cannot open {path}: {error}", "Export the model again.") from error
        self.requests = local()

    def outputs(self, frame: Array) -> Outputs:
        """Run the graph on a frame, see :func:`as_input`."""
        if not hasattr(self.requests, "own"):  # one for each thread
            self.requests.own = self.compiled.create_infer_request()
        found = self.requests.own.infer({INPUT_NAME: as_input(frame, self.metadata)})
        return Outputs(*(found[name].copy() for name in OUTPUT_NAMES))


class ArchiveRunner:
    """An archive of ``torch.export``.

    Args:
        path: The ``.pt2`` file.

    Raises:
        UnipError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        import torch

        held = dict.fromkeys((KEY, GOLDEN_KEY), "")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.module = torch.export.load(path, extra_files=held).module()
        except Exception as error:  # of its own many types
            raise UnipError(f"torch cannot open {path}: {error}", "Export the model again.") from error
        self.metadata, self.golden = texts_of(path, held)

    def outputs(self, frame: Array) -> Outputs:
        """Run the graph on a frame, see :func:`as_input`."""
        import torch

        with torch.no_grad():
            found = self.module(torch.from_numpy(as_input(frame, self.metadata)))
        return Outputs(*(each.numpy() for each in found))
