"""The frames that a file carries to be checked with, and what the model gives for them in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import read_samples
from unip.data.labelled.pairs import read_channel
from unip.data.synthetic.generator import generate_scene
from unip.deployment.export.metadata import ExportMetadata, GoldenFrame
from unip.deployment.export.reference import reference_logits
from unip.deployment.export.runners import as_input
from unip.errors import UnipError
from unip.segmentation.model import Segmenter

SIZES = ((96, 128), (120, 120), (128, 97))  # height and width in pixels of the frames that are made


def golden_frames(segmenter: Segmenter, metadata: ExportMetadata, files: Sequence[Path]) -> list[GoldenFrame]:
    """Segment frames in torch.

    Args:
        segmenter: On the CPU.
        metadata: Of the file that will carry them.
        files: Image files; none: synthetic scenes are made.

    Raises:
        UnipError: A file cannot be read, or its samples are not what the graph takes.
    """
    frames = [read_frame(path, metadata) for path in files] if files else made_frames(metadata)
    golden = []
    for frame in frames:
        probabilities = (reference_logits(segmenter, frame) / metadata.temperature).softmax(0)
        confidence = (probabilities.amax(0) * 255).round().byte().numpy()
        golden.append(GoldenFrame(frame, probabilities.argmax(0).byte().numpy(), confidence))
    return golden


def read_frame(path: Path, metadata: ExportMetadata) -> npt.NDArray[Any]:
    """Read the samples of a file as the graph takes them.

    Raises:
        UnipError: It cannot be read, or they are others.
    """
    channel = None if metadata.images is None else metadata.images.channel
    conversion = metadata.conversion
    samples = read_samples(path, conversion) if channel is None else read_channel(path, channel, conversion)
    try:
        return as_input(samples, metadata)
    except UnipError as error:
        raise UnipError(f"{path}: {error.what}", error.fix) from None


def made_frames(metadata: ExportMetadata) -> list[npt.NDArray[Any]]:
    """Return frames of synthetic scenes, of the type that the graph takes."""
    scenes = [generate_scene(seed, size) for seed, size in enumerate(SIZES)]
    if metadata.channels == 3:
        return [scene.visible for scene in scenes]
    if metadata.input == "uint8":
        return [scene.thermal8 for scene in scenes]
    if metadata.input == "int32":
        return [scene.thermal16.astype(np.int32) for scene in scenes]
    return [scene.temperature for scene in scenes]
