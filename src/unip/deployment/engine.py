"""What every engine offers, whatever runs the model: torch, ONNX Runtime, OpenVINO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unip.data.images.config import Conversion
from unip.data.labelled.classes import Classes
from unip.data.sampling.scaling import Scaling
from unip.deployment.inputs import Given, Reader
from unip.runtime.shared import Arena
from unip.segmentation.calibration import Calibration
from unip.segmentation.settings import Workers
from unip.segmentation.training_images import TrainingImages


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model, whatever runs it.

    Attributes:
        name: What it was loaded by.
        engine: What runs it, such as ``torch``.
        device: Where.
        precision: What it computes in.
        classes: Names and colours.
        conversion: How counts or temperatures become 8 bits.
        images: What the images of training were like, if it is known.
        short_side: To which frames of training were resized, in pixels.
        scaling: How frames are resized.
        calibration: What its confidence means; None: that was not measured.
        folder: Its model folder; None: it is a file.
        view: In which parts frames are segmented, and how often, for messages.
    """

    name: str
    engine: str
    device: str
    precision: str
    classes: Classes
    conversion: Conversion
    images: TrainingImages | None
    short_side: int
    scaling: Scaling
    calibration: Calibration | None
    folder: Path | None = None
    view: str = "whole images"


@dataclass(frozen=True)
class Wanted:
    """What is computed beside the class of each pixel.

    Attributes:
        confidence: The probability of that class.
        probabilities: Those of all classes.
        of_large: Whether those of all classes are also wanted of frames that are run in strips.
    """

    confidence: bool = True
    probabilities: bool = False
    of_large: bool = True


@dataclass(frozen=True, eq=False)
class Segmented:
    """What an engine gives for a frame.

    Attributes:
        given: The frame.
        ids: Class ids, uint8 ``(H, W)``; empty where the frame could not be read.
        confidence: Probability of that class, float32 ``(H, W)``, if it was wanted.
        probabilities: Of every class, float32 ``(C, H, W)``, if they were wanted.
        seconds: How long the model took for it, its share of the batch.
        scale: By what it was resized.
        windows: How many windows it was segmented in; 1: as a whole.
        engine: What ran it in place of the model's engine; empty: that did.
    """

    given: Given
    ids: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32] | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    seconds: float = 0.0
    scale: float = 1.0
    windows: int = 1
    engine: str = ""

    @classmethod
    def unreadable(cls, given: Given) -> Segmented:
        """Return the result of a frame that could not be read."""
        return cls(given, np.zeros((0, 0), np.uint8))


class Engine(Protocol):
    """Runs a model; several threads may use it at once."""

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""

    def segment(
        self,
        items: Iterable[object],
        reader: Reader,
        wanted: Wanted,
        workers: Workers,
        arena: Arena | None = None,
    ) -> Iterator[Segmented]:
        """Segment frames; the results come in their order.

        Args:
            items: Frames as they were given; a sequence of paths may be decoded ahead.
            reader: Reads them.
            wanted: What to compute.
            workers: Processes that decode files, if the engine uses any.
            arena: Memory shared with processes that were or will be forked: frames and their ids may lie there.

        Raises:
            UnipError: The device's memory is too small.
        """
