"""Pseudo-labels: masks that `unip predict` made of frames without labels, to train on beside labelled ones."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from unip.data.images.config import Conversion
from unip.data.images.conversion import DEFAULT
from unip.data.labelled.masks import MaskFile
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.turning import turn_masks
from unip.errors import UnipError
from unip.files import read_json, sha256
from unip.paths import is_file, status
from unip.vit.sources import WEIGHTS_NAME
from unip.zoo.catalogue import find_model_folder
from unip.zoo.lineage import Ancestor, data_ancestor, read_lineage

FILE = "predictions.json"


@dataclass(frozen=True)
class PredictedImage:
    """An image, and its mask below the folder."""

    image: str
    mask: str


@dataclass(frozen=True)
class PredictedClasses:
    """What the ids of the masks mean."""

    names: list[str]


@dataclass(frozen=True)
class Predictions:
    """What is read of a predictions.json."""

    model: str
    classes: PredictedClasses
    images: list[PredictedImage] = field(default_factory=list)
    risk: float | None = None
    conversion: Conversion | None = None


@dataclass(frozen=True)
class PseudoLabels:
    """Frames with the masks of a model.

    Attributes:
        data: The pairs.
        model: Which made the masks, as it was given then.
        risk: Wanted share of wrong pixels, at most; None: unsure pixels have a class, too.
        left_out: Frames that are labelled or evaluated on, and so are not among them.
        stored_otherwise: Whether they have another polarity, palette or value of missing samples than labelled ones.
    """

    data: SegmentationData
    model: str
    risk: float | None
    left_out: int
    stored_otherwise: bool = False

    def describe(self, share: float) -> list[str]:
        """Say what is trained on."""
        lines = [
            f"{len(self.data)} frames with pseudo-labels of {self.model}: {100 * share:g} % of the crops, with other "
            "brightness and contrast, some of them corrupted"
        ]
        if self.left_out:
            lines.append(f"{self.left_out} more are labelled or evaluated on, and their pseudo-labels are not used")
        if self.stored_otherwise and self.data.conversion is not None:
            how = self.data.conversion.describe()
            lines.append(
                f"they are stored in another way than labelled ones, and read as unip predict read them: {how}"
            )
        if self.risk is None:
            lines.append("note: unsure pixels count like sure ones: unip predict --risk 0.05 leaves them out")
        return lines

    def ancestors(self) -> list[Ancestor]:
        """Return what the pseudo-labels are made from: the frames, the model, and what that is made from.

        Raises:
            UnipError: A description cannot be read.
        """
        listed = [(image.name, status(image).st_size) for image in self.data.images]
        frames = data_ancestor("frames with pseudo-labels", self.data.images[0].parent, listed)
        folder = find_model_folder(Path(self.model))
        name = Path(self.model).parent.name if Path(self.model).name == "model" else Path(self.model).name
        if folder is None:
            note = "made the pseudo-labels; what it was made from is not known here"
            return [frames, Ancestor(role="teacher", name=name, note=note)]
        weights, config = folder / WEIGHTS_NAME, folder / "config.json"
        digest = sha256(weights) if is_file(weights) else None
        inherited = read_lineage(read_json(config), str(config))
        teacher = Ancestor(role="teacher", name=name, sha256=digest, note="made the pseudo-labels")
        return [frames, teacher, *(inherited.inherited(name) if inherited else [])]


def check_pseudo(folder: Path) -> None:
    """Refuse a folder that `unip predict` did not write.

    Raises:
        UnipError: It has no predictions.json.
    """
    if not is_file(folder / FILE):
        raise UnipError(
            f"pseudo: {folder} has no {FILE}",
            "Give the output folder of `unip predict MODEL FRAMES --risk 0.05 --out FOLDER`.",
        )


def _check_listed(images: Iterable[PredictedImage], folder: Path) -> None:
    """Refuse a list that `unip predict` does not write: an image twice, or a mask of another folder.

    Raises:
        UnipError: It names the image.
    """
    seen = set[str]()
    for each in images:
        wrong = "twice" if each.image in seen else ""
        if not Path(os.path.normpath(folder / each.mask)).is_relative_to(os.path.normpath(folder)):
            wrong = f"with a mask outside of the folder, {each.mask}"
        if wrong:
            raise UnipError(f"pseudo: {folder / FILE} lists {each.image} {wrong}", "Run unip predict again.")
        seen.add(each.image)


def open_pseudo(folder: Path, labelled: SegmentationData, others: Iterable[Path]) -> PseudoLabels:
    """Open what `unip predict` wrote, for the classes and the conversion of labelled frames.

    Polarity, palette and the value of missing samples are those that predict read the frames with.

    Args:
        folder: Its output folder.
        labelled: The frames to train on.
        others: Images that are evaluated on: they must not be trained on in this way either.

    Raises:
        UnipError: The classes are others, a file is gone, listed twice or elsewhere, or no frame is left.
    """
    check_pseudo(folder)
    found = read_json(folder / FILE, Predictions, file_names=True, fix="Run unip predict again.")
    _check_listed(found.images, folder)
    if tuple(found.classes.names) != labelled.classes.names:
        raise UnipError(
            f"pseudo: the classes of {folder} are {', '.join(found.classes.names)}, and those of the labelled frames "
            f"are {', '.join(labelled.classes.names)}",
            "Use pseudo-labels of a model that was fine-tuned on these classes, in this order.",
        )
    known = {os.path.realpath(image) for image in (*labelled.images, *others)}
    kept = [each for each in found.images if os.path.realpath(each.image) not in known]
    if not kept:
        raise UnipError(
            f"pseudo: none of the {len(found.images)} frames of {folder} is without labels",
            "Segment frames that are neither trained nor evaluated on.",
        )
    files = [(Path(each.image), folder / each.mask) for each in kept]
    if gone := [file for pair in files for file in pair if not is_file(file)]:
        raise UnipError(f"pseudo: {gone[0]} is gone", f"Put it back, or run unip predict again into {folder}.")
    images, masks = zip(*files, strict=True)
    own = labelled.conversion or DEFAULT
    conversion = own
    if found.conversion is not None:  # that of the frames may have been given to predict
        stored = found.conversion
        conversion = own.given(palette=stored.palette, polarity=stored.polarity, nodata=stored.nodata)
    data = replace(
        labelled,
        images=images,
        masks=tuple(map(MaskFile, masks)),
        ids=(),
        assumed_ignore=None,
        conversion=conversion,
    )
    turned = turn_masks(data, "stored", str(folder))
    return PseudoLabels(turned, found.model, found.risk, len(found.images) - len(kept), conversion != own)
