"""An exported file: its graph maps a frame to its mask, and needs no torch. Long frames are cut into tiles here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.images.conversion import Values
from unip.data.images.decoding import to_rgb8
from unip.deployment.config import LoadConfig
from unip.deployment.engine import ModelFacts, Segmented, Wanted
from unip.deployment.export.metadata import AGREEMENT, ExportMetadata
from unip.deployment.export.runners import Runner
from unip.deployment.inputs import Given, Reader
from unip.deployment.warn import warn
from unip.errors import UnipError
from unip.segmentation.settings import Workers

Floats = npt.NDArray[np.float32]
OVERLAP = 3  # tiles share a third of their length with the next one, as sliding windows do
NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch.export"}


class GraphEngine:
    """An exported file, ready to run.

    Args:
        runner: Runs its graph.
        config: What can be said of how it runs.
        name: What it was loaded by.
        device: Where it runs.

    Raises:
        UnipError: The settings are not those of the file.
    """

    def __init__(self, runner: Runner, config: LoadConfig, name: str, device: str = "cpu") -> None:
        metadata = runner.metadata
        check_settings(metadata, config, name)
        self.runner = runner
        self.facts = ModelFacts(
            name=name,
            engine=NAMES[metadata.engine],
            device=device,
            precision=metadata.precision,
            classes=metadata.classes,
            conversion=config.convert(metadata.conversion),
            images=metadata.images,
            short_side=metadata.short_side,
            calibration=metadata.calibration,
        )
        if config.check:
            check_golden(runner, name)

    def segment(self, items: Iterable[object], reader: Reader, wanted: Wanted, workers: Workers) -> Iterator[Segmented]:
        """Segment frames one by one, see :class:`unip.deployment.engine.Engine`."""
        for index, item in enumerate(items):
            given, samples = reader.read(index, item)
            yield self._run(given, samples, wanted)

    def _run(self, given: Given, samples: Values, wanted: Wanted) -> Segmented:
        if given.problem is not None:
            return Segmented.unreadable(given)
        start = time.perf_counter()
        try:
            frame = graph_input(given, samples, self.runner.metadata)
            ids, confidence, logits = run_tiled(self.runner, frame)
        except UnipError as error:
            problem = UnipError(f"{given.name}: {error.what}", error.fix)
            return Segmented.unreadable(Given(given.index, given.name, given.path, problem=problem))
        probabilities = softmax(logits, self.runner.metadata.temperature) if wanted.probabilities else None
        return Segmented(given, ids, confidence, probabilities, seconds=time.perf_counter() - start)


def check_settings(metadata: ExportMetadata, config: LoadConfig, name: str) -> None:
    """Refuse what was decided when the file was exported.

    Raises:
        UnipError: A setting asks for something else.
    """
    fixed = metadata.conversion
    if config.precision not in ("auto", metadata.precision):
        raise UnipError(
            f"{name} computes in {metadata.precision}, and precision {config.precision} was requested",
            f"Export the model with --precision {config.precision}.",
        )
    if config.compile or config.batch_size not in ("auto", 1) or config.window != "slide":
        raise UnipError(
            f"{name} is an exported graph of one whole frame: compile, batch_size and window are of model folders",
            "Leave them out, or load the model folder.",
        )
    if metadata.input != "uint8" and config.convert(fixed) != fixed:
        raise UnipError(
            f"{name} converts frames itself: {fixed.describe()}",
            "Leave palette, polarity and nodata out, load the model folder, or export it with --input uint8.",
        )


def check_golden(runner: Runner, name: str) -> None:
    """Run the frames that the file carries, and warn if this device gives them other masks than torch did."""
    needed = AGREEMENT[runner.metadata.precision]
    found = [frame.agreement(runner.outputs(frame.frame)[0]) for frame in runner.golden]
    bad = [share for share in found if share < needed]
    if bad:
        warn(
            f"{name} gives other masks on this device than where it was exported: of {len(bad)} of {len(found)} golden "
            f"frames, as few as {100 * min(bad):.2f} % of the pixels have the same class, and {100 * needed:g} % "
            "should. Compare it with the model folder before you use it."
        )


def graph_input(given: Given, samples: Values, metadata: ExportMetadata) -> npt.NDArray[Any]:
    """Return a frame as a graph takes it.

    A graph of 8-bit frames gets every frame as its 8-bit image, which is made here as it is for training; others get
    the samples, which they convert themselves.

    Args:
        given: The frame.
        samples: Its samples.
        metadata: Of the graph.

    Raises:
        UnipError: It takes others.
    """
    if metadata.input != "uint8":
        return _samples(samples, metadata)
    image = given.image
    if image.ndim == 3:
        if metadata.channels == 1:
            raise UnipError(
                "the frame is in colour, but this file was exported for grey", "Export it with --colours colour."
            )
        return image
    if metadata.conversion.polarity == "black-hot":
        image = np.uint8(255) - image  # the graph inverts it again
    return image if metadata.channels == 1 else to_rgb8(image)


def _samples(samples: Values, metadata: ExportMetadata) -> npt.NDArray[Any]:
    nodata = metadata.conversion.nodata
    if metadata.input == "int32" and samples.dtype.kind == "f" and nodata is not None:
        counts = np.where(np.isfinite(samples), samples, np.float32(nodata))
        if np.array_equal(counts, np.rint(counts)):
            return counts.astype(np.int32)  # the graph leaves them out itself
    if samples.dtype == np.uint8 or (samples.dtype.kind == "f") != (metadata.input == "float32"):
        raise UnipError(
            f"the samples are {samples.dtype}, but this file was exported for {metadata.input}",
            "Export the model for such frames with --input, or load the model folder.",
        )
    return samples


def run_tiled(runner: Runner, frame: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], Floats, Floats]:
    """Run a graph on a frame; one that is too long for it is cut along its long side, and logits are averaged.

    Raises:
        UnipError: It is too long, and its conversion looks at whole frames.
    """
    metadata, (height, width) = runner.metadata, frame.shape[:2]
    length = int(metadata.longest * min(height, width) / metadata.short_side)
    if max(height, width) <= length:
        return runner.outputs(frame)
    if metadata.input != "uint8" and metadata.conversion.method != "window":
        raise UnipError(
            f"{width}x{height} pixels are too long for the graph, and each tile would get a contrast of its own",
            "Export the model with --input uint8, or load the model folder.",
        )
    total: Floats | None = None
    covered = np.zeros(max(height, width))
    along = 1 if width >= height else 0
    for start in starts(max(height, width), length):
        place = (slice(None),) * along + (slice(start, start + length),)
        found = runner.outputs(np.ascontiguousarray(frame[place]))[2]
        if total is None:
            total = np.zeros((len(found), height, width), np.float32)
        total[(slice(None), *place)] += found
        covered[start : start + length] += 1
    assert total is not None
    logits = total / (covered if along else covered[:, None]).astype(np.float32)
    return logits.argmax(0).astype(np.uint8), confidence_of(logits, metadata.temperature), logits


def starts(side: int, length: int) -> list[int]:
    """Return where tiles of a length begin along a longer side; the last ends with it."""
    step = max(1, length - length // OVERLAP)
    count = -(-(side - length) // step) + 1
    return [min(index * step, side - length) for index in range(count)]


def confidence_of(logits: Floats, temperature: float) -> Floats:
    """Return the probability of the largest class ``(H, W)``, as torch does for model folders."""
    shifted = (logits - logits.max(0)) / np.float32(temperature)
    return np.asarray(1 / np.exp(shifted).sum(0), np.float32)


def softmax(logits: Floats, temperature: float) -> Floats:
    """Return the probability of every class ``(C, H, W)``."""
    shares = np.exp((logits - logits.max(0)) / np.float32(temperature))
    return np.asarray(shares / shares.sum(0), np.float32)
