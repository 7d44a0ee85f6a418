"""What cells write: scores, and all that tables are made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unip.config import Config
from unip.documents import fit
from unip.files import read_json
from unip.outputs import write_json
from unip.paths import exists
from unip.suites.suite import Axes, ProtocolKind

if TYPE_CHECKING:
    from unip.segmentation.metrics import Scores

RECORD, CORRUPTED, FRAMES = "cell.json", "corrupted.json", "frames.npz"


class ClassRecord(Config):
    """Scores of a class; what has no value is None."""

    name: str
    iou: float | None
    accuracy: float | None
    pixels: int


class ScoresRecord(Config):
    """Scores on a split, as :class:`unip.segmentation.metrics.Scores` has them; what has no value is None."""

    miou: float | None
    foreground_miou: float | None
    mean_accuracy: float | None
    pixel_accuracy: float | None
    pixels: int
    classes: list[ClassRecord]
    confusion_matrix: list[list[int]]

    @classmethod
    def of(cls, scores: Scores) -> ScoresRecord:
        """Return scores as a record."""
        return cls(**scores.to_dict())


class CellPlace(Config):
    """Which cell it is: hash of all that its result depends on, place in the grid, protocol, test split."""

    key: str
    axes: Axes
    kind: ProtocolKind
    split: str


class CellRecord(ScoresRecord, CellPlace):
    """The content of ``cell.json``; it is written last, and its presence means done.

    Attributes:
        images: How many were tested on.
        seconds: All in all.
        train_seconds: Of training, or of the fit on frozen features and its test.
        device: Name of what it ran on.
        versions: Of Python and packages.
        labelled_images: How many were trained on.
        spec: What to build to measure the model's cost.
        backbone_only: Whether only the backbone of that costs anything.
        chosen: Settings that were chosen on val, or the layer.
        run: Folder of the chosen run; of trained cells.
        choice_val_miou: mIoU on val of each choice; of trained cells.
        layers_miou: mIoU of each layer's probe; of layer-wise probes.
    """

    images: int
    seconds: float
    device: str
    versions: dict[str, str]
    labelled_images: int
    train_seconds: float
    spec: dict[str, Any]  # as JSON, of which the key of the cost is made
    backbone_only: bool
    chosen: dict[str, Any]
    run: str | None = None
    choice_val_miou: list[float] | None = None
    layers_miou: list[float] | None = None

    @classmethod
    def read(cls, folder: Path) -> CellRecord | None:
        """Return the record of a cell's folder, None if the cell is not done."""
        file = folder / RECORD
        return read_json(file, cls) if exists(file) else None

    def write(self, folder: Path) -> None:
        """Write it into the cell's folder, without what its kind does not have."""
        absent = {name for name in ("run", "choice_val_miou", "layers_miou") if getattr(self, name) is None}
        write_json(folder / RECORD, self.model_dump(mode="json", exclude=absent))


def read_corrupted(folder: Path) -> dict[str, ScoresRecord]:
    """Return a cell's scores on corrupted images by ``NAME:SEVERITY``, as far as they are there."""
    file = folder / CORRUPTED
    found = read_json(file, dict[str, dict[str, Any]]) if exists(file) else {}
    groups = [{name: scores} if "miou" in scores else scores for name, scores in found.items()]  # before: as asked for
    flat = {name: scores for group in groups for name, scores in group.items()}
    return fit(flat, dict[str, ScoresRecord], str(file))


def write_corrupted(folder: Path, found: dict[str, ScoresRecord]) -> None:
    """Write a cell's scores on corrupted images."""
    write_json(folder / CORRUPTED, {name: scores.model_dump(mode="json") for name, scores in found.items()})
