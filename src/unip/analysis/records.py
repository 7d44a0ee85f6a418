"""What an analysis says: the content of ``analysis.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unip.analysis.groups import Group
from unip.analysis.samples import UnreadableImage
from unip.attention.patterns import LayerChoice, Pattern
from unip.segmentation.probing import LayerProbes


@dataclass(frozen=True)
class Summary:
    """A measure of a layer.

    Attributes:
        mean: Over images and heads; None where no image has a value.
        std: Standard deviation over images, of the means over heads.
        per_head: Mean over images of each head; empty for a measure of features.
    """

    mean: float | None
    std: float | None
    per_head: list[float | None]


@dataclass(frozen=True)
class LayerRecord:
    """A layer of a model; ``layer`` counts from 1."""

    layer: int
    heads: int
    pattern: Pattern
    measures: dict[str, Summary]


@dataclass(frozen=True)
class LayerDifference:
    """How the measures of a layer differ between the images of pairs."""

    layer: int
    heads: int
    measures: dict[str, Summary]


@dataclass(frozen=True)
class NoLayer:
    """No layer to distil: that a model stays local is a finding, not a failure."""

    layer: None
    reason: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class AnalysedModel:
    """A model, and how it was shown images.

    Attributes:
        model: Its source.
        name: Short, for people; no other of the analysis has it.
        group: How it was pre-trained.
        sha256: Of its file.
        input_size: Side of the images, in pixels.
        grid: Patch rows and columns.
        class_token: Whether it has one.
        registers: How many register tokens it has.
    """

    model: str
    name: str
    group: Group
    sha256: str | None
    input_size: int
    grid: tuple[int, int]
    class_token: bool
    registers: int


@dataclass(frozen=True)
class ModelRecord(AnalysedModel):
    """What was measured of a model on one set of images.

    Attributes:
        images: The set: ``images``, or ``infrared`` or ``visible`` of pairs.
        layers: One for each layer, in order.
        cka: Mean over images, (depth, depth).
        cka_std: Standard deviation over images, (depth, depth).
        choice: The layer to distil.
        probe: How well the layers segment, where that was asked for.
    """

    images: str
    layers: list[LayerRecord]
    cka: list[list[float | None]]
    cka_std: list[list[float | None]]
    choice: LayerChoice | NoLayer
    probe: LayerProbes | None = None


@dataclass(frozen=True)
class DifferenceRecord:
    """Visible minus infrared image of each pair, in one model."""

    model: str
    name: str
    group: Group
    layers: list[LayerDifference]


@dataclass(frozen=True)
class ImagesRecord:
    """Which images were looked at: ``count`` of ``of``, drawn with the seed."""

    sources: list[str]
    count: int
    of: int
    seed: int
    skipped: list[UnreadableImage]


@dataclass(frozen=True)
class PairRecord:
    """Where the visible images are from, and how many images have none."""

    sources: list[str]
    unpaired: int


@dataclass(frozen=True)
class Preprocessing:
    """How images were shown to the models."""

    resize: str
    grey: bool
    normalization: str


@dataclass(frozen=True)
class Thresholds:
    """The NMI above which layers are local, below which they are global, and that of the layer to distil."""

    local_above: float
    global_below: float
    target_nmi: float


@dataclass(frozen=True)
class Analysis:
    """Everything that ``analysis.json`` holds."""

    versions: dict[str, str]
    images: ImagesRecord
    pair: PairRecord | None
    preprocessing: Preprocessing
    thresholds: Thresholds
    models: list[ModelRecord]
    differences: list[DifferenceRecord]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        models = [{**asdict(m), "choice": as_json(m.choice)} for m in self.models]
        return {**asdict(self), "models": models}


def as_json(choice: LayerChoice | NoLayer) -> dict[str, Any]:
    """Return a choice as JSON values."""
    return asdict(choice) if isinstance(choice, NoLayer) else choice.as_json()
