"""Frames that an exported graph is not right for as a whole: they are cut into windows, without torch.

A graph resizes what it is given to the short side of training. A window of that short side keeps its scale, so the
frame is resized first and cut into such windows. Counts and temperatures (graphs of int32 and float32) are not resized
here: their windows are cut from the frame, as large as the graph has to shrink or enlarge them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.sampling.scaling import Scaling
from unip.deployment.engine import Wanted
from unip.deployment.export.metadata import ExportMetadata
from unip.deployment.export.runners import Runner
from unip.errors import UnipError
from unip.segmentation.strips import Grid, Image8, is_large

Floats = npt.NDArray[np.float32]
OVERLAP = 3  # windows share a third of their length with the next one, as those of model folders do


class GraphStrips:
    """A :class:`unip.deployment.strips.Finisher` on an exported graph.

    Args:
        runner: Runs the graph.
        prepare: Turns a window into what the graph takes.
        least: Short side of what the graph is given, in pixels; smaller windows are padded, as it would enlarge them.
    """

    def __init__(self, runner: Runner, prepare: Callable[[Image8], npt.NDArray[Any]], least: int) -> None:
        self.runner, self.prepare, self.least = runner, prepare, least

    def zeros(self, shape: tuple[int, ...]) -> Floats:
        """Return float32 zeros."""
        return np.zeros(shape, np.float32)

    def put(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array."""
        return values

    def run(self, windows: Sequence[Image8]) -> Iterator[Floats]:
        """Yield the logits ``(C, h, w)`` of windows."""
        for window in windows:
            height, width = window.shape[:2]
            beyond = [(0, max(0, self.least - side)) for side in (height, width)]
            padded = np.pad(window, [*beyond, *[(0, 0)] * (window.ndim - 2)], mode="edge")
            yield self.runner.outputs(self.prepare(padded))[2][:, :height, :width]

    def finish(self, logits: Floats, wanted: Wanted) -> tuple[Any, Any, Any]:
        """Return ids, confidence and probabilities."""
        temperature = self.runner.metadata.temperature
        confidence = confidence_of(logits, temperature) if wanted.confidence else None
        probabilities = softmax(logits, temperature) if wanted.probabilities else None
        return logits.argmax(0).astype(np.uint8), confidence, probabilities


def graph_grid(metadata: ExportMetadata, scaling: Scaling, height: int, width: int) -> Grid | None:
    """Return where windows lie in a frame that the graph is not to run as a whole; None: it is.

    Args:
        metadata: Of the graph.
        scaling: How frames are resized.
        height: Of the frame, in pixels.
        width: The same.

    Raises:
        UnipError: It has to be cut, and the graph's conversion looks at whole frames.
    """
    factor, short = scaling.factor(height, width), metadata.short_side
    long = max(height, width) * short / min(height, width)
    is_whole = factor is None and long <= metadata.longest
    classes = len(metadata.classes.names)
    takes_pictures = metadata.input == "uint8"
    if is_whole and not (takes_pictures and is_large(classes, (height, width))):
        return None
    if not takes_pictures:
        if metadata.conversion.method != "window":
            raise UnipError(
                f"{width}x{height} pixels are too {'long' if factor is None else 'many'} for the graph at once, and "
                f"each window would get a contrast of its own: the file converts {metadata.input} frames by itself, "
                f"{metadata.conversion.describe()}",
                "Export the model with --input uint8, load the model folder, or give smaller frames"
                + ("." if factor is None else "; scale fit shrinks this one."),
            )
        side = min(height, width) if factor is None else max(1, round(short / factor))
        lengths = _lengths((height, width), side, int(metadata.longest * side / short) if factor is None else side)
        return _grid((height, width), (height, width), lengths, classes)
    size = scaling.size(height, width)
    lengths = _lengths(size, short, metadata.longest if factor is None else short)
    return _grid((height, width), size, lengths, classes)


def _lengths(size: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """Return height and width of windows: long ones lie along the longer side."""
    return (short, long) if size[1] >= size[0] else (long, short)


def _grid(frame: tuple[int, int], size: tuple[int, int], window: tuple[int, int], classes: int) -> Grid:
    tall, wide = (max(1, side - side // OVERLAP) for side in window)
    return Grid(frame, size, window, (tall, wide), classes)


def confidence_of(logits: Floats, temperature: float) -> Floats:
    """Return the probability of the largest class ``(H, W)``, as torch does for model folders."""
    shifted = (logits - logits.max(0)) / np.float32(temperature)
    return np.asarray(1 / np.exp(shifted).sum(0), np.float32)


def softmax(logits: Floats, temperature: float) -> Floats:
    """Return the probability of every class ``(C, H, W)``."""
    shares = np.exp((logits - logits.max(0)) / np.float32(temperature))
    return np.asarray(shares / shares.sum(0), np.float32)
