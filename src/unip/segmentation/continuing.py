"""Fine-tuning that goes on from a segmentation model: decoder, classes and size of frames stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from unip.data.images.conversion import DEFAULT
from unip.data.labelled.classes import Classes
from unip.data.labelled.matching import class_key, names_by_key
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.segmentation.model_folder import is_model
from unip.segmentation.storage import load_segmenter
from unip.vit.sources import find_source


@dataclass(frozen=True)
class Continued:
    """The segmentation model that a fine-tuning goes on from.

    Attributes:
        source: As in the settings.
        segmenter: With its weights.
        rows: For each class of the data, its id in the model; None: the class is new.
        new: Names of the new classes.
        dropped: Names of the model's classes that are given up.
    """

    source: str
    segmenter: Segmenter
    rows: tuple[int | None, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def spec(self) -> SegmenterSpec:
        """What the model is."""
        return self.segmenter.spec

    def adopt(self, given: FinetuneConfig, data: SegmentationData) -> tuple[FinetuneConfig, SegmentationData]:
        """Fill what is left open with what the model has: decoder, short side, crop, conversion.

        Raises:
            UnipError: Another decoder was given.
        """
        spec = self.spec
        kept: dict[str, Any] = {name: getattr(spec, name) for name in KEPT}
        for name, value in kept.items():
            wanted = getattr(given, name)
            left = given.is_open(name) or wanted == type(given).model_fields[name].default
            if not left and wanted != value:
                raise UnipError(
                    f"{name} is {_shown(wanted)}, and the decoder of {self.source} has {_shown(value)}",
                    f"Leave {name} out to go on with that decoder; --from-backbone makes a new one on its backbone.",
                )
        if given.crop == "auto":
            kept["crop"] = spec.crop
        if given.base is None:
            kept["base"] = (4 * spec.short_side, spec.short_side)
        return given.model_copy(update=kept), replace(data, conversion=data.conversion or spec.conversion)

    def fill(self, segmenter: Segmenter) -> None:
        """Put the weights of pyramid and heads into a new model; the rows of new classes stay random.

        Args:
            segmenter: Of the same decoder; its backbone has its weights already.
        """
        there = segmenter.state_dict()  # shares its memory with the weights
        for name, tensor in self.segmenter.state_dict().items():
            if name.startswith("backbone."):
                continue
            if ".classifier." not in f".{name}":
                there[name].copy_(tensor)
                continue
            for row, before in enumerate(self.rows):
                if before is not None:
                    there[name][row].copy_(tensor[before])

    def describe(self, segmenter: Segmenter) -> list[str]:
        """Say what is kept, a line each."""
        spec, before = segmenter.spec, self.spec
        kept = len(self.rows) - len(self.new)
        parts = [f"decoder and {kept} class{'es' * (kept != 1)} kept", f"{len(self.new)} new"]
        parts[-1] += f": {', '.join(self.new)}" if self.new else ""
        if self.dropped:
            parts.append(f"{len(self.dropped)} given up: {', '.join(self.dropped)}")
        sizes = {"short side": (spec.short_side, before.short_side), "crop": (spec.crop, before.crop)}
        parts += [f"{name} {now}" + f" (it had {then})" * (now != then) for name, (now, then) in sizes.items()]
        lines = [f"continues {self.source}: {', '.join(parts)}"]
        if spec.conversion != (before.conversion or DEFAULT):
            lines.append(
                f"note: counts become grey by {spec.conversion.describe()}; when {self.source} was trained, by "
                f"{before.conversion.describe()}"
            )
        return lines


#: What belongs to a decoder's weights.
KEPT = ("decoder", "pyramid", "layers", "channels", "auxiliary_weight", "probe_norm")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if _number(value) else str(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_segmenter(source: str) -> bool:
    """Say whether a source is the folder of a segmentation model, or the name of one that ships."""
    found = find_source(source)
    return found.kind == "path" and found.file is not None and is_model(found.file)


def find_continued(given: FinetuneConfig, classes: Classes) -> Continued | None:
    """Return the segmentation model that a fine-tuning goes on from; None: only a backbone is taken.

    Args:
        given: The settings.
        classes: Of the data, after the changes of labels.

    Raises:
        UnipError: The data lacks a class of the model that is not given up, or ``drop_classes`` has a wrong name.
    """
    if given.from_backbone or given.mode == "linear" or not is_segmenter(given.model):
        if given.drop_classes:
            what = "drop_classes gives up classes of a segmentation model, and none is continued"
            raise UnipError(what, "Leave it out, or give the folder of a fine-tuning as --model.")
        return None
    segmenter = load_segmenter(given.model)
    known, there = names_by_key(segmenter.spec.classes.names, given.model), names_by_key(classes.names, str(given.data))
    dropped = {class_key(name): name for name in given.drop_classes}
    if wrong := [name for key, name in dropped.items() if key not in known or key in there]:
        why = "the data has it" if class_key(wrong[0]) in there else f"{given.model} has: {', '.join(known.values())}"
        raise UnipError(f"drop_classes: {wrong[0]!r} is no class to give up: {why}", "Correct it, or leave it out.")
    if lost := [name for key, name in known.items() if key not in there and key not in dropped]:
        raise _lacking(given, lost, classes)
    ids = {class_key(name): i for i, name in enumerate(segmenter.spec.classes.names)}
    return Continued(
        given.model,
        segmenter,
        tuple(ids.get(class_key(name)) for name in classes.names),
        tuple(name for key, name in there.items() if key not in known),
        tuple(known[key] for key in dropped),
    )


def _lacking(given: FinetuneConfig, lost: list[str], classes: Classes) -> UnipError:
    names = " ".join(lost)
    return UnipError(
        f"{given.model} segments {', '.join(lost)}, and {given.data} has no such class "
        f"(it has: {', '.join(classes.names)})",
        f"If the data calls it something else: --remap NAME={lost[0]}. To keep it without new examples: add its name "
        f"to the data's classes, and --empty-classes {names}. To give it up: --drop-classes {names}. To take only "
        "the backbone: --from-backbone.",
    )


def left_out(given: FinetuneConfig) -> list[str]:
    """Say that only the backbone of a segmentation model is taken, where that is so; else nothing."""
    if not is_segmenter(given.model):
        return []
    why = "mode linear" if given.mode == "linear" else "from_backbone"
    return [f"only the backbone of {given.model} is taken ({why}): decoder and classes are new"]
