"""What to do next: the conversion to 8 bit, and the commands to type."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unip.data.examination.likeness import ALIKE
from unip.data.examination.records import ConversionAdvice, FrameMeasures, Likeness, Numbers, Step, Symptom
from unip.data.images.config import Conversion
from unip.data.images.files import MASK_FOLDERS
from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.errors import UnipError
from unip.paths import is_dir

SAME_PLACE = 0.1  # of a frame's span, within which the medians of all frames must lie for a window to be worth a look
HOT_TAIL = 2.0  # (99.9 percentile - median) over (99.5 percentile - median), above which hot objects stand far out
MODEL = "unip-ir-tiny"  # ships with the package
SEEN_FROM_ABOVE = "unip-aerial-tiny"  # ships too, and was trained on the data of this name:
ITS_DATA = "HIT-UAV (train)"
SPLITS = {"train", "training", "val", "validation", "test"}
LABELLED = "LABELLED"  # a placeholder in commands


def advise_conversion(frames: Sequence[FrameMeasures], numbers: Numbers) -> ConversionAdvice:
    """Choose the conversion to 8 bit for frames, with the reason."""
    if numbers.kind == "preview" and numbers.stored_bits == 8:
        return _for_pictures(frames)
    spans = np.array([one.high - one.low for one in frames])
    medians = np.array([one.median for one in frames])
    radiometric = any(one.maker for one in frames)
    more = ("--radiometric",) if radiometric else ()
    squeezed = np.median([_upper(one) for one in frames]) > HOT_TAIL
    if squeezed:
        conversion = Conversion(method="plateau", radiometric=radiometric)
        why = "A few hot pixels lie far above the rest of the scene: plateau equalisation keeps contrast in both."
        return ConversionAdvice(conversion, why, ("--conversion", "plateau", *more))
    why = "Percentiles of each frame follow the drift of the counts, and a few dead pixels do no harm."
    if numbers.kind == "temperatures":
        low, high = window_of(frames)
        why += f" If temperature itself separates your classes, compare with --window {low:.5g} {high:.5g}."
    elif float(np.ptp(medians)) < SAME_PLACE * float(np.median(spans)):
        why += " The counts hardly drift between these frames, so a window would work too."
    return ConversionAdvice(Conversion(radiometric=radiometric), why, more)


def _upper(one: FrameMeasures) -> float:
    return (one.hot - one.median) / max(one.high - one.median, 1e-6)


def _for_pictures(frames: Sequence[FrameMeasures]) -> ConversionAdvice:
    coloured = sum(bool(one.palette) for one in frames)
    if any(one.maker for one in frames):
        why = (
            "These are radiometric files: with --radiometric the measurements are used instead of the picture, and "
            "`unip doctor --radiometric` examines them."
        )
        return ConversionAdvice(Conversion(radiometric=True), why, ("--radiometric",))
    if coloured:
        why = "The frames are in the colours of a palette: models see grey levels if it is inverted."
        return ConversionAdvice(Conversion(palette="invert"), why, ("--palette", "invert"))
    return ConversionAdvice(Conversion(), "8-bit frames keep their values, whatever the conversion.", ())


def window_of(frames: Sequence[FrameMeasures]) -> tuple[float, float]:
    """Return the window that holds the percentiles of nearly all frames."""
    low, high = np.percentile([one.low for one in frames], 5), np.percentile([one.high for one in frames], 95)
    return float(low), float(max(high, low + 1e-3))


def find_labels(folder: Path) -> tuple[str, tuple[str, ...]] | None:
    """Look for masks where a plain folder of labelled data has them: in the folders that hold this one, or here.

    Returns:
        The value of ``--data`` and the names of its splits, or None.
    """
    absolute = Path(os.path.abspath(folder))
    if not is_dir(folder):
        return None
    for place in (absolute.parent.parent, absolute.parent, absolute):  # the widest one has the splits
        if place != absolute and not _may_hold_labels(place, absolute):
            continue
        try:
            splits = tuple(list_splits(place))
            open_segmentation(place, splits[0] if splits else None)
        except UnipError:
            continue
        if place == absolute.parent.parent and not set(splits) & SPLITS:
            continue  # any folder of labelled folders looks like one with splits
        return str(place if folder.is_absolute() else Path(os.path.relpath(place))), splits
    return None


def _may_hold_labels(place: Path, folder: Path) -> bool:
    """Say whether masks lie beside the folder or one of its parents below ``place``."""
    between = [folder, *folder.parents][: len(folder.parts) - len(place.parts)]
    return any(is_dir(one.parent / name) for one in between for name in MASK_FOLDERS)


def next_steps(
    folder: Path,
    labels: tuple[str, tuple[str, ...]] | None,
    conversion: ConversionAdvice,
    symptoms: Sequence[Symptom],
    nearest: Likeness,
) -> tuple[Step, ...]:
    """Return the commands to type next, in their order."""
    source = ("--sources", f"infrared={folder}")
    steps = [_step("Find files that are damaged or unlike the rest.", "data", "check", *source, "--out", "checked")]
    if any(one.kind in ("near-duplicates", "frozen") for one in symptoms):
        steps.append(_step("Mark frames that show the same.", "data", "dedup", *source, "--out", "unique"))
    if nearest.data == ITS_DATA and nearest.distance < ALIKE:
        palette = conversion.options if "--palette" in conversion.options else ()  # predict takes no other of them
        why = "If they are seen from a drone: a first look with the model that ships for people and vehicles."
        steps.append(_step(why, "predict", SEEN_FROM_ABOVE, str(folder), *palette, "--out", "first-look"))
    data, splits = labels or (LABELLED, ())
    later = labels is None
    train = next((name for name in ("train", "training") if name in splits), "")
    if not train:
        why = "Split labelled frames, keeping videos together."
        if labels is None:
            why = f"Label some frames first ({LABELLED}: images/, masks/, classes.json), then split them."
        steps.append(_step(why, "data", "split", "--data", data, "--out", "split", later=later))
        data, splits, train, later = "split", ("train", "val", "test"), "train", True
    parts = () if train == "train" else ("--split", train)
    validation = next((("--val", name) for name in ("val", "validation") if name in splits), ())
    words = ("--data", data, *parts, *validation, *conversion.options, "--out", "runs/ft")
    steps.append(_step("Fine-tune a model on them.", "finetune", "--model", MODEL, *words, later=later))
    if "test" in splits:
        steps.append(_step("Measure it.", "evaluate", "runs/ft", data, "--split", "test", later=True))
    steps.append(_step("Segment frames.", "predict", "runs/ft", str(folder), "--out", "predictions", later=True))
    return tuple(steps)


def _step(why: str, *words: str, later: bool = False) -> Step:
    return Step(shlex.join(("unip", *words)), why, later)
