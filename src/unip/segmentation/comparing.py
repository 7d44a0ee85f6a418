"""`unip evaluate OLD NEW DATA`: two models on the same images, and the files that say which is better."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unip.data.labelled.binary import refuse_doubtful
from unip.data.labelled.classes import Classes
from unip.data.labelled.common import SharedClasses, share_classes
from unip.data.labelled.datasets import check_segmentation
from unip.errors import UnipError
from unip.log import TableMessage
from unip.outputs import write_json, write_text
from unip.progress import meter
from unip.runtime.workers import lost_process_told
from unip.segmentation.comparison import Comparison
from unip.segmentation.comparison_page import ComparedFrame, render_comparison
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation import (
    EvaluateResult,
    ModelAndData,
    describe,
    fit_to_data,
    score_frames,
    score_parts,
)
from unip.segmentation.gallery import Pixels, reduced
from unip.segmentation.held_out import Evaluated, trained_on
from unip.segmentation.intervals import MiouInterval
from unip.segmentation.metrics import Matrix, score
from unip.segmentation.predictor import Predictor

log = logging.getLogger(__name__)

OTHERS = (160, 160, 160)  # colour of classes that only one model knows
FILES = ("comparison.json", "comparison.html")


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Attributes:
        role: ``old`` or ``new``.
        config: Its evaluation.
        ready: The model with the data.
        ids: Its ids of the classes that both know.
        trained: How many of the images it was trained on; None: not known.
    """

    role: str
    config: EvaluateConfig
    ready: ModelAndData
    ids: tuple[int, ...]
    trained: int | None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.config.model)

    @property
    def others(self) -> list[int]:
        """Its ids of the classes that only it knows."""
        return [number for number in range(len(self.ready.data.classes.names)) if number not in self.ids]

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"model": self.name, **self.ready.facts.settings.to_dict(), "trained_on": self.trained}

    def as_shared(self, mask: Pixels) -> Pixels:
        """Return its class ids ``(H, W)`` as those of the shared classes; all that only it knows are one more."""
        table = np.arange(256, dtype=np.uint8)
        table[self.others] = len(self.ids)
        table[list(self.ids)] = np.arange(len(self.ids))
        shared: Pixels = table[mask]
        return shared


@lost_process_told("evaluating")
def compare(
    config: EvaluateConfig, out: Path, opened: Evaluated, open_model: Callable[[EvaluateConfig], Predictor]
) -> EvaluateResult | None:
    """Do what is left of :func:`unip.segmentation.evaluating.compare_models` once the paths are checked.

    Args:
        config: The settings, with ``against``.
        out: Where results go.
        opened: The pairs of ``config.data``, and what is known of them.
        open_model: Opens the model of such settings.
    """
    sides, shared = open_sides(config, opened, open_model)
    for side in sides:
        log.info(f"{side.role}: {side.name}")
        describe(side.ready, side.config, ())
    notes = warnings_before(sides, shared, opened)
    for note in notes:
        log.warning(f"note: {note}")
    if config.dry_run:
        for side in sides:
            refuse_doubtful(side.ready.data, list(check_segmentation(side.ready.data).values()))
        log.info(f"dry run: would write {' and '.join(FILES)} to {out}; nothing was written")
        return None

    old, new = (_matrices(side) for side in sides)
    scores = score(np.sum(list(new.values()), axis=0), shared.names)
    if not scores.has_foreground:
        raise UnipError(
            f"no pixel of {config.data} is labelled as anything but background, so there is nothing to compare on",
            "Choose other images with --split.",
        )
    found = Comparison.of(old, new, shared.names, opened.groups)
    if unseen := [name for name, count in zip(shared.names, scores.matrix.sum(1), strict=True) if not count]:
        notes.append(
            f"no pixel is labelled {' or '.join(unseen)}: a model that predicts it anywhere has IoU 0 in it, which "
            "lowers its mean"
        )
        log.warning(f"note: {notes[-1]}")
    frames = {name: score(matrix, shared.names).miou for name, matrix in new.items()}
    shown = most_different(sides, {name: score(m, shared.names).miou for name, m in old.items()}, frames, config.worst)
    _write(config, out, sides, found, notes, shown, shared)
    title = f"{config.split or config.data.name}: {len(opened.data)} images"
    log.info(TableMessage(found.to_table(title)))
    log.info(f"{sides[1].name} against {sides[0].name}: {found.sentence}")
    if found.caution:
        log.warning(f"note: {found.caution}")
    log.info(f"What another seed of the training would change is not in the interval. Results are in {out}")
    interval = MiouInterval.of(new, opened.groups)
    return EvaluateResult(scores, frames, out, matrices=new, interval=interval, comparison=found)


def open_sides(
    config: EvaluateConfig, opened: Evaluated, open_model: Callable[[EvaluateConfig], Predictor]
) -> tuple[list[Side], SharedClasses]:
    """Open both models, old and new, and see that they fit the data.

    Raises:
        UnipError: One is damaged, or models and data share too few classes.
    """
    assert config.against is not None
    models = {"old": config.against, "new": config.model}
    configs = {
        role: config.model_copy(update={"model": model, "against": None, "worst": 0}) for role, model in models.items()
    }
    predictors = {role: open_model(own) for role, own in configs.items()}
    names = {
        role: str(model) if config.against != config.model else f"{model} ({role})" for role, model in models.items()
    }
    classes = {names[role]: predictor.facts.classes for role, predictor in predictors.items()}
    shared = share_classes(opened.data, classes, remap=config.remap, source=str(config.data))
    sides = []
    for (role, own), data, ids in zip(configs.items(), shared.data, shared.ids, strict=True):
        trained = trained_on(own.model, opened.data.images, config.data)
        ready = fit_to_data(predictors[role], data, own)
        sides.append(Side(role, own, ready, ids, None if trained is None else len(trained)))
    return sides, shared


def warnings_before(sides: Sequence[Side], shared: SharedClasses, opened: Evaluated) -> list[str]:
    """Return what makes the comparison unfair or partial, as far as it is known before."""
    count = len(opened.data)
    notes = [note.removeprefix("note: ") for note in opened.notes]
    for side in sides:
        if side.trained:
            notes.append(
                f"{side.name} ({side.role}) was trained on {side.trained} of these {count} images, so it looks better "
                "than it is: compare on images that neither was trained on"
            )
        elif side.trained is None:
            notes.append(f"whether {side.name} ({side.role}) was trained on these images is not known")
    if shared.left_out:
        known = ", ".join(f"{name} (only {' and '.join(models)})" for name, models in shared.left_out.items())
        notes.append(
            f"compared over the {len(shared.names)} classes that both know: {', '.join(shared.names)}. Left out: "
            f"{known}; pixels labelled so do not count, and predicting it elsewhere is an error"
        )
    if len({side.ready.facts.settings.weights for side in sides}) == 1:
        notes.append("both models have the same weights")
    return notes


def _matrices(side: Side) -> dict[str, Matrix]:
    """Return the confusion matrix of each image: of the shared classes, and one more column if there are others."""
    log.info(f"evaluating {side.name}")
    _, matrices, _ = score_frames(side.ready, side.config)
    ids, others = list(side.ids), side.others

    def shared(matrix: Matrix) -> Matrix:
        part = matrix[np.ix_(ids, ids)]
        return np.hstack([part, matrix[np.ix_(ids, others)].sum(1, keepdims=True)]) if others else part

    return {name: shared(matrix) for name, matrix in matrices.items()}


def most_different(
    sides: Sequence[Side], old: Mapping[str, float], new: Mapping[str, float], count: int
) -> list[ComparedFrame]:
    """Segment again the images whose mIoU differs most, and return them for the page, the largest difference first.

    Args:
        sides: Both models.
        old: The mIoU of each image, NaN where nothing is labelled.
        new: That of the other model.
        count: How many at most; images without a difference are left out.
    """
    changes = np.nan_to_num([new[name] - old[name] for name in old])
    chosen = [int(i) for i in np.argsort(-np.abs(changes), kind="stable")[:count] if changes[i]]
    if not chosen:
        return []
    images, truths, masks = {}, {}, {}
    with meter("drawing where they differ most", 2 * len(chosen), "images") as progress:
        for side in sides:
            data = side.ready.data.take(chosen)
            for found in side.ready.model.segment(data):
                frame = found.frame
                assert frame.mask is not None
                place, (_, ids) = chosen[frame.index], score_parts(found, len(data.classes.names))
                images[place], truth, mask = reduced(frame.image, (frame.mask, ids), data.classes)
                truths[place], masks[place, side.role] = side.as_shared(truth), side.as_shared(mask)
                progress.advance()
    names = list(old)
    return [
        ComparedFrame(
            Path(names[i]), old[names[i]], new[names[i]], images[i], truths[i], masks[i, "old"], masks[i, "new"]
        )
        for i in chosen
    ]


def _write(
    config: EvaluateConfig,
    out: Path,
    sides: Sequence[Side],
    found: Comparison,
    notes: Sequence[str],
    shown: Sequence[ComparedFrame],
    shared: SharedClasses,
) -> None:
    """Write ``comparison.json`` and ``comparison.html``."""
    old, new = sides
    images = len(new.ready.data)
    record = {"old": old.to_dict(), "new": new.to_dict(), "data": str(config.data), "split": config.split}
    left_out = {name: list(models) for name, models in shared.left_out.items()}
    said = {"images": images, "notes": list(notes), "classes_left_out": left_out, **found.to_dict()}
    write_json(out / "comparison.json", record | said)
    about = {"old": old.name, "new": new.name, "data": str(config.data), "split": config.split, "images": images}
    palette = [new.ready.data.classes.palette[number] for number in new.ids]
    others = any(side.others for side in sides)
    classes = Classes((*shared.names, *(["a class of one model"] * others)), palette=(*palette, *([OTHERS] * others)))
    write_text(out / "comparison.html", render_comparison(found, classes, about, notes, shown))
