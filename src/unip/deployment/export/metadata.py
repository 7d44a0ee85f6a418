"""What an exported file says about itself, and the frames with which it can be checked; needs no torch.

The file holds two texts of JSON: ``unip``, an :class:`ExportMetadata`, and ``unip_golden``, the golden frames; and
``unip_limits``, for which sizes it is right, see :meth:`ExportMetadata.limits_text`. ONNX
keeps them in its ``metadata_props``, OpenVINO in the ``rt_info`` of the model, a torch archive among its extra files.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unip.config import Config
from unip.data.images.config import Conversion
from unip.data.labelled.classes import Classes
from unip.data.sampling.scaling import FAR
from unip.deployment.export.config import Engine, ExportPrecision, InputType
from unip.documents import parse_json
from unip.errors import UnipError
from unip.segmentation.calibration import Calibration
from unip.segmentation.training_images import TrainingImages
from unip.zoo.lineage import Lineage

KEY = "unip"
GOLDEN_KEY = "unip_golden"
LIMITS_KEY = "unip_limits"  # for programs that parse no JSON
AGAIN = "Export the model again."
MAX_GOLDEN_BYTES = 2**28  # of one array

INPUT_NAME = "frame"
OUTPUT_NAMES = ("ids", "confidence", "logits")

#: The least share of pixels that must have the same class as with torch, by precision.
AGREEMENT: dict[ExportPrecision, float] = {"fp32": 0.999, "fp16": 0.99, "bf16": 0.99, "int8": 0.95}


class ExportMetadata(Config):
    """All that is needed to use an exported file.

    Its graph takes one frame, ``frame``: ``(H, W)``, or ``(H, W, 3)`` with three channels, of the type ``input``. It
    gives ``ids`` uint8 ``(H, W)``, ``confidence`` float32 ``(H, W)``, the softmax probability of that class by the
    temperature of :attr:`calibration`, and ``logits`` float32 ``(C, H, W)``. What :attr:`conversion` says of palettes
    and of files is left to the caller; all else is done in the graph.
    """

    format: Literal["unip-export-1"] = "unip-export-1"
    engine: Engine
    precision: ExportPrecision
    input: InputType = Field(description="8-bit grey or colour, counts of more bits, or temperatures in Kelvin.")
    channels: Literal[1, 3] = Field(description="Grey (H, W), or colour (H, W, 3).")
    classes: Classes
    conversion: Conversion = Field(description="How counts or temperatures become 8-bit grey; done in the graph.")
    images: TrainingImages | None = Field(None, description="What the images of training were like, if it is known.")
    short_side: int = Field(ge=1, description="To which frames are resized in the graph, in pixels.")
    crop: int = Field(ge=1, description="Side of the crops of training, in pixels at that scale.")
    patch: int = Field(ge=1, description="Side of a patch, in pixels.")
    largest: tuple[int, int] | None = Field(
        None, description="Short and long side of the largest frame that the graph is right for, in pixels."
    )
    longest: int = Field(ge=1, description="The longest side, after resizing, that the graph is right for, in pixels.")
    calibration: Calibration | None = Field(None, description="What confidence means; None: that was not measured.")
    model: str = Field(description="What the model was called.")
    sha256: str | None = Field(None, description="Of the weights that were exported.")
    spec_sha256: str | None = Field(
        None, description="Of what the model's config.json said: classes, conversion, sizes."
    )
    licence: str | None = Field(None, description="Of the model, as its source states it.")
    lineage: Lineage | None = Field(None, description="What the model was made from.")
    versions: dict[str, str] = Field({}, description="Of the programs that made the file.")

    def check_pictures(self) -> None:
        """Refuse to corrupt the frames of a graph that takes others than 8-bit ones.

        Raises:
            UnipError: It takes counts or temperatures.
        """
        if self.input != "uint8":
            raise UnipError(
                f"corruptions are of 8-bit frames, but this file takes {self.input}",
                "Evaluate the model folder with --corruption, or a file exported with --input uint8.",
            )

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax that gives the confidence."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def limits_text(self) -> str:
        """Return short side, longest side, and largest short and long side (0: not known) as text, in pixels."""
        return " ".join(map(str, (self.short_side, self.longest, *(self.largest or (0, 0)))))

    def as_json(self) -> str:
        """Return it as the text under :data:`KEY`."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | None, place: str) -> Self:
        """Read what :meth:`as_json` wrote.

        Args:
            text: None or empty: the file has none.
            place: The file, for messages.

        Raises:
            UnipError: It was not written by unip, or is damaged.
        """
        if not text:
            raise UnipError(f"{place} was not exported by unip: it says nothing of classes", AGAIN)
        return parse_json(text, f"{place}: what it says about itself", cls, fix=AGAIN)


def size_limits(short_side: int, crop: int, images: TrainingImages | None) -> tuple[tuple[int, int] | None, int]:
    """Return :attr:`ExportMetadata.largest` and :attr:`ExportMetadata.longest` of a model.

    Frames may be up to :data:`.FAR` times as large as the median frame of training, from where objects hardly look like
    those that were learnt, and, once resized, as long as twice the crop or the frames of training, if they are longer.
    """
    longest = 2 * max(crop, short_side)
    if images is None:
        return None, longest
    short, long = sorted(images.size)
    return (int(FAR * short), int(FAR * long)), max(longest, round(2 * long * short_side / short))


@dataclass(frozen=True)
class Packed:
    """An array as JSON: its bytes, compressed, in base64."""

    dtype: str
    shape: list[int]
    zlib: str


@dataclass(frozen=True)
class GoldenFrame:
    """A frame and what the model gave for it in torch.

    Attributes:
        frame: ``(H, W)`` or ``(H, W, 3)``, of the type that the graph takes.
        ids: Class ids, uint8 ``(H, W)``.
        confidence: Softmax probability of that class in 255ths, uint8 ``(H, W)``.
    """

    frame: npt.NDArray[Any]
    ids: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8]

    def agreement(self, ids: npt.NDArray[Any]) -> float:
        """Return the share of pixels that have the same class in other ids ``(H, W)``."""
        return float((self.ids == ids).mean())


def pack_golden(frames: Sequence[GoldenFrame]) -> str:
    """Return golden frames as the text under :data:`GOLDEN_KEY`."""
    return json.dumps([{name: vars(_pack(array)) for name, array in vars(each).items()} for each in frames])


def unpack_golden(text: str | None) -> list[GoldenFrame]:
    """Read what :func:`pack_golden` wrote; None or an empty text: there are none.

    Raises:
        UnipError: They are damaged.
    """
    held = parse_json(text, "the golden frames", list[dict[str, Packed]], fix=AGAIN) if text else []
    try:
        return [GoldenFrame(**{name: _unpack(value) for name, value in each.items()}) for each in held]
    except (ValueError, TypeError, zlib.error) as error:
        raise UnipError(f"the golden frames cannot be read: {error}", AGAIN) from error


def _pack(array: npt.NDArray[Any]) -> Packed:
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    return Packed(str(array.dtype), list(array.shape), data)


def _unpack(held: Packed) -> npt.NDArray[Any]:
    dtype, shape = np.dtype(held.dtype), held.shape
    if dtype.kind not in "uif" or any(side < 0 for side in shape):
        raise ValueError(f"an array of type {dtype} and shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    data = zlib.decompressobj().decompress(base64.b64decode(held.zlib, validate=True), size + 1)
    if size > MAX_GOLDEN_BYTES or len(data) != size:
        raise ValueError(f"an array of {size} bytes has others")
    return np.frombuffer(data, dtype).reshape(shape).copy()
