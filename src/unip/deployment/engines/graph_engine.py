"""An exported file: its graph maps a frame to its mask, and needs no torch. Large frames are cut into windows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unip.data.images.blocks import is_large_file
from unip.data.images.conversion import Values
from unip.data.images.decoding import to_rgb8
from unip.data.sampling.scaling import Scaling
from unip.deployment.config import LoadConfig
from unip.deployment.engine import ModelFacts, Segmented, Wanted
from unip.deployment.engines.graph_strips import OVERLAP, GraphStrips, graph_grid, softmax
from unip.deployment.export.metadata import AGREEMENT, ExportMetadata
from unip.deployment.export.runners import Runner
from unip.deployment.inputs import Given, Reader
from unip.deployment.strips import segment_in_strips
from unip.deployment.warn import warn
from unip.errors import UnipError
from unip.runtime.queues import map_ahead
from unip.runtime.shared import Arena
from unip.segmentation.settings import Workers, meant_scale
from unip.segmentation.strips import Grid, Image8

NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch.export"}


class StandIn(Protocol):
    """Segments frames that a file does not take."""

    def refuses(self, given: Given) -> str:
        """Say why a frame is not for the file; empty if it is."""

    def segment_instead(self, item: object, given: Given, why: str, reader: Reader, wanted: Wanted) -> Segmented:
        """Segment a frame, given as it is and read."""


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
            scaling=_scaling(metadata, config, name),
            calibration=metadata.calibration,
        )
        self.stand_in: StandIn | None = None
        if config.check != "none":
            check_golden(runner, name, every=config.check == "all")

    def segment(
        self,
        items: Iterable[object],
        reader: Reader,
        wanted: Wanted,
        workers: Workers,
        arena: Arena | None = None,
    ) -> Iterator[Segmented]:
        """Segment frames one by one, see :class:`unip.deployment.engine.Engine`."""
        own = replace(reader, needs_samples=self.runner.metadata.input != "uint8")
        for item, given, samples in _read_ahead(items, own):
            why = self.stand_in.refuses(given) if self.stand_in and given.problem is None else ""
            found = UnipError(why) if why else self._run(given, samples, wanted)
            if isinstance(found, Segmented):
                yield found
            elif self.stand_in is not None:
                yield self.stand_in.segment_instead(item, given, found.what, reader, wanted)
            else:
                problem = UnipError(f"{given.name}: {found.what}", found.fix)
                yield Segmented.unreadable(Given(given.index, given.name, given.path, problem=problem))

    def _run(self, given: Given, samples: Values, wanted: Wanted) -> Segmented | UnipError:
        """Return the result of a frame, or why the graph does not take it."""
        if given.problem is not None:
            return Segmented.unreadable(given)
        start = time.perf_counter()
        height, width = given.image.shape[:2]
        try:
            grid = graph_grid(self.runner.metadata, self.facts.scaling, height, width)
            if grid is not None:
                ids, confidence, probabilities = segment_windows(self.runner, given.image, samples, grid, wanted)
            else:
                ids, confidence, logits = self.runner.outputs(graph_input(given.image, samples, self.runner.metadata))
                probabilities = softmax(logits, self.runner.metadata.temperature) if wanted.probabilities else None
        except UnipError as error:
            return error
        seconds, scale = time.perf_counter() - start, self.facts.scaling.by(height, width)
        windows = 1 if grid is None else grid.windows
        return Segmented(given, ids, confidence, probabilities, seconds, scale, windows)


def segment_windows(
    runner: Runner, image: npt.NDArray[Any], samples: Values, grid: Grid, wanted: Wanted
) -> tuple[Any, Any, Any]:
    """Run a graph on the windows of a frame.

    Args:
        runner: Runs it.
        image: The frame's 8-bit image.
        samples: Its samples, of which windows are cut if the graph takes no pictures.
        grid: Where the windows lie.
        wanted: What to compute.

    Returns:
        What :func:`.segment_in_strips` does.

    Raises:
        UnipError: The graph would take some windows for grey ones, and invert them.
    """
    pixels, backend = windowed(runner, image, samples, grid)
    return segment_in_strips(pixels, grid, backend, wanted)


def windowed(runner: Runner, image: npt.NDArray[Any], samples: Values, grid: Grid) -> tuple[Image8, GraphStrips]:
    """Return what windows of a frame are cut from, and what runs them; see :func:`segment_windows`."""
    metadata = runner.metadata
    if image.ndim == 3 and metadata.conversion.polarity == "black-hot":
        raise UnipError(
            f"{image.shape[1]}x{image.shape[0]} pixels in colour have to be cut into windows, and the graph inverts "
            "those that are grey",
            "Load the model folder, or give the grey frame.",
        )
    pixels = image if metadata.input == "uint8" else samples
    return pixels, GraphStrips(runner, lambda window: graph_input(window, window, metadata), min(grid.window))


def _scaling(metadata: ExportMetadata, config: LoadConfig, name: str) -> Scaling:
    """Return how frames are resized.

    Raises:
        UnipError: The scale of training is asked for, and the file does not know it.
    """
    short = metadata.short_side
    trained = None if metadata.images is None else min(metadata.images.size)
    scale = meant_scale(config.scale, config.window)
    scaling = Scaling(short, trained, scale, short, max(1, short - short // OVERLAP))
    scaling.check(name)
    return scaling


def _read_ahead(items: Iterable[object], reader: Reader) -> Iterator[tuple[object, Given, Values]]:
    """Read frames; files ahead of who takes them, others, which may come from a camera, one by one."""
    if not isinstance(items, Sequence) or not all(isinstance(item, Path) for item in items):
        for index, item in enumerate(items):
            yield item, *reader.read(index, item)
        return

    def read(index: int) -> tuple[Given, Values] | None:
        item = items[index]
        # a large one is read when it is its turn: many would fill the memory
        return None if isinstance(item, Path) and is_large_file(item) else reader.read(index, item)

    for index, found in enumerate(map_ahead(read, range(len(items)), weight=_weight)):
        yield items[index], *(found or reader.read(index, items[index]))


def _weight(found: tuple[Given, Values] | None) -> int:
    return 0 if found is None else found[0].image.nbytes + found[1].nbytes


def check_settings(metadata: ExportMetadata, config: LoadConfig, name: str) -> None:
    """Refuse what was decided when the file was exported.

    Raises:
        UnipError: A setting asks for something else.
    """
    fixed = metadata.conversion
    if config.augment != "none" or config.augment_scales != (1.0,):
        raise UnipError(
            f"{name} is an exported file, and test-time augmentation is for model folders",
            "Leave augment and augment_scales out, or load the model folder.",
        )
    check_engine(metadata, config, name)
    if config.precision not in ("auto", metadata.precision):
        raise UnipError(
            f"{name} computes in {metadata.precision}, and precision {config.precision} was requested",
            f"Export the model with --precision {config.precision}.",
        )
    if config.compile or config.batch_size not in ("auto", 1) or config.window == "slide":
        raise UnipError(
            f"{name} is an exported graph of one whole frame: compile, batch_size and window are of model folders",
            "Leave them out, or load the model folder.",
        )
    if metadata.input != "uint8" and config.convert(fixed) != fixed:
        raise UnipError(
            f"{name} converts frames itself: {fixed.describe()}",
            "Leave palette, polarity and nodata out, load the model folder, or export it with --input uint8.",
        )


def check_engine(metadata: ExportMetadata, config: LoadConfig, name: str) -> None:
    """Refuse another engine than the file is for.

    Raises:
        UnipError: Another one is asked for.
    """
    if config.engine not in ("auto", metadata.engine):
        raise UnipError(
            f"{name} is run by {NAMES[metadata.engine]}, and engine {config.engine} was requested",
            "Leave engine out, or load the model folder."
            if config.engine == "torch"
            else f"Leave engine out, or export the model with --to {config.engine}.",
        )


def check_golden(runner: Runner, name: str, *, every: bool) -> None:
    """Run frames that the file carries, and warn if this device gives them other masks than torch did.

    Args:
        runner: The file.
        name: What it was loaded by.
        every: All of its frames; else the one that takes least time: all get the same short side, so the squarest.
    """
    needed = AGREEMENT[runner.metadata.precision]
    if bad := differing_golden(runner, every=every):
        warn(
            f"{name} gives other masks on this device than where it was exported: of {len(bad)} of "
            f"{len(runner.golden) if every else 1} golden frames, as few as {100 * min(bad):.2f} % of the pixels have "
            f"the same class, and {100 * needed:g} % should. Compare it with the model folder before you use it."
        )


def differing_golden(runner: Runner, *, every: bool) -> list[float]:
    """Return the shares of pixels of the same class, of those golden frames where they are fewer than they must be.

    Args:
        runner: The file.
        every: See :func:`check_golden`.
    """
    frames = sorted(runner.golden, key=lambda golden: max(golden.ids.shape) / min(golden.ids.shape))
    found = [each.agreement(runner.outputs(each.frame)[0]) for each in (frames if every else frames[:1])]
    return [share for share in found if share < AGREEMENT[runner.metadata.precision]]


def graph_input(image: npt.NDArray[Any], samples: Values, metadata: ExportMetadata) -> npt.NDArray[Any]:
    """Return a frame or a window of it as a graph takes it.

    A graph of 8-bit frames gets every frame as its 8-bit image, which is made here as it is for training; others get
    the samples, which they convert themselves.

    Args:
        image: Its 8-bit image.
        samples: Its samples.
        metadata: Of the graph.

    Raises:
        UnipError: It takes others.
    """
    if metadata.input != "uint8":
        return _samples(samples, metadata)
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
