"""How well a saved segmentation model does on labelled images, and the files that say so."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from unip.data.corruptions import CorruptFrames, parse_corruptions
from unip.data.images.config import Conversion
from unip.data.labelled.binary import refuse_doubtful
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import check_segmentation
from unip.data.labelled.matching import match_classes
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.files import read_json
from unip.log import TableMessage
from unip.paths import exists
from unip.progress import meter
from unip.runtime.signals import stoppable
from unip.runtime.workers import lost_process_told
from unip.segmentation.calibrating import PixelSample
from unip.segmentation.comparison import Comparison
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation_files import EvaluationFiles, Subject
from unip.segmentation.gallery import Pixels, WorstFrame, reduced
from unip.segmentation.held_out import Evaluated, open_evaluated
from unip.segmentation.intervals import MiouInterval
from unip.segmentation.metrics import Matrix, Scores, confusion, score
from unip.segmentation.predictor import Predictor, PredictorFacts, SegmentedFrame, SegmenterPredictor
from unip.segmentation.reliability import Reliability, ReliabilityCounter
from unip.segmentation.robustness import Robustness, read_robustness, robustness_table
from unip.segmentation.training_images import ImageWatch, TrainingImages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateResult:
    """How well a model did.

    Attributes:
        scores: On the images as they are.
        frames: The mIoU of every frame, NaN where nothing is labelled.
        out: The folder with the results.
        corrupted: Scores on corrupted images, by ``NAME:SEVERITY``.
        matrices: The confusion matrix of every frame as it is, whose sum ``scores`` come from.
        interval: How much the mIoU depends on which frames it is measured on; None: nothing is labelled.
        comparison: With another model, if one was given; all else is of the classes that both know.
        reliability: How far the confidence on the images as they are can be trusted; None: it was not measured.
    """

    scores: Scores
    frames: dict[str, float] = field(repr=False)
    out: Path
    corrupted: dict[str, Scores] = field(default_factory=dict)
    matrices: dict[str, Matrix] = field(default_factory=dict, repr=False)
    interval: MiouInterval | None = None
    comparison: Comparison | None = None
    reliability: Reliability | None = field(default=None, repr=False)


@lost_process_told("evaluating")
def score_model(config: EvaluateConfig, out: Path, opened: Evaluated, model: Predictor) -> EvaluateResult | None:
    """Do what is left of an evaluation once the paths are checked and the model is opened.

    Args:
        config: The settings.
        out: Where results go.
        opened: The pairs of ``config.data``, and what is known of them.
        model: What to evaluate.

    Raises:
        UnipError: Model and data do not fit each other, or an image is damaged.
    """
    ready = match_model(model, opened.data, config)
    corruptions = parse_corruptions(config.corruption, config.seed)
    describe(ready, config, corruptions)
    for note in opened.notes:
        log.warning(note)
    file = out / "robustness.json"
    earlier = read_json(file) if exists(file) else {}  # now, so that a broken one costs no evaluation
    if config.dry_run:
        refuse_doubtful(ready.data, list(check_segmentation(ready.data).values()))
        files = [*(["robustness.json"] if corruptions else []), "metrics.json and evaluation.html"]
        log.info(f"dry run: would write {', '.join(files)} to {out}; nothing was written")
        return None

    names = ready.data.classes.names
    sample = PixelSample(names, len(ready.data), config.seed) if config.calibrate else None
    counter = ReliabilityCounter(names, ready.facts.calibration) if sample is None else None
    scores, matrices, worst = score_frames(ready, config, look=[each for each in (sample, counter) if each])
    reliability = counter.finish() if counter else None
    if sample is not None and (measured := sample.measure(f"{config.data} ({config.split or 'no split'})")):
        reliability = measured
    interval = MiouInterval.of(matrices, opened.groups) if scores.has_foreground else None
    if interval is None:
        scores = scores.without_means()
        log.warning("note: no pixel is labelled as anything but background, so there is no mean")
    frames = {name: score(matrix, names).miou for name, matrix in matrices.items()}
    written = evaluation_files(ready, config, out, interval)
    written.write_metrics(scores, frames, reliability)
    log.info(TableMessage(scores.to_table(f"{config.split or config.data.name}: {len(ready.data)} images")))
    if interval is not None:
        log.info(f"{config.split or config.data.name}: {interval.describe(scores.miou)}")
    if reliability is not None and scores.matrix.any():
        log.info(reliability.describe())
    before = read_robustness(earlier, written.settings.to_dict(), scores)
    robustness = replace(before, wanted=corruptions or before.wanted)
    written.write_page(robustness, worst, reliability)
    if corruptions:
        score_corruptions(ready, config, written, robustness, worst, reliability)
    elif exists(file) and not before.wanted:
        log.warning(f"note: {file} stays as it is, of another model or other settings")
    log.info(f"IoU of classes in neither truth nor prediction is left out of the means. Results are in {out}")
    corrupted = {str(each): robustness.corrupted[each] for each in corruptions}
    return EvaluateResult(scores, frames, out, corrupted, matrices, interval, reliability=reliability)


def describe(ready: ModelAndData, config: EvaluateConfig, corruptions: Sequence[CorruptFrames]) -> None:
    """Say what will be done."""
    facts = ready.facts
    log.info(
        f"{len(ready.data)} images of {config.data} ({config.split or 'no split'}), {facts.scaling.describe()}, "
        f"{facts.view}, {len(facts.classes.names)} classes, {ready.where}"
    )
    log.info(f"images of more than 8 bits, if any, become grey as in training: {ready.conversion.describe()}")
    if ready.stated not in (None, ready.conversion):
        log.warning(f"note: {config.data} states another conversion, which is not used: {ready.stated.describe()}")
    if corruptions:
        log.info(f"and again for each corruption: {', '.join(map(str, corruptions))}")


def evaluation_files(
    ready: ModelAndData, config: EvaluateConfig, out: Path, interval: MiouInterval | None
) -> EvaluationFiles:
    """Return what writes the results."""
    subject = Subject(str(config.model), str(config.data), config.split, len(ready.data))
    return EvaluationFiles(out, subject, ready.facts.settings, ready.facts.classes, interval)


def score_corruptions(
    ready: ModelAndData,
    config: EvaluateConfig,
    written: EvaluationFiles,
    robustness: Robustness,
    worst: Sequence[WorstFrame],
    reliability: Reliability | None,
) -> None:
    """Score the wanted corruptions that have no scores yet; each is added to ``robustness`` and written at once."""
    written.write_robustness(robustness)
    file, wanted, missing = written.out / "robustness.json", robustness.wanted, robustness.missing
    if there := [str(each) for each in wanted if each not in missing]:
        log.info(f"{file} has {', '.join(there)} already")
    if missing:
        so_far = f"interrupted: of {len(wanted)} corruptions, those that are done are in {file}"
        try:
            with stoppable("Run the same command again to continue.", so_far):
                for each, found in _corrupted(ready, config, missing):
                    robustness.corrupted[each] = found
                    written.write_robustness(robustness)
        finally:
            written.write_page(robustness, worst, reliability)
    log.info(TableMessage(robustness_table(robustness.rows())))


def evaluate_corrupted(config: EvaluateConfig) -> Iterator[tuple[CorruptFrames, Scores]]:
    """Score corrupted images only, and write nothing: who keeps each result loses one at most when it is stopped.

    ``out``, ``worst`` and ``dry_run`` have no meaning here.

    Yields:
        Each corruption of ``config`` with its scores, which are those of :func:`.evaluate_model`.

    Raises:
        UnipError: As :func:`.evaluate_model` does.
    """
    ready = match_model(SegmenterPredictor(config), open_evaluated(config).data, config)
    with lost_process_told("evaluating"):
        yield from _corrupted(ready, config, parse_corruptions(config.corruption, config.seed))


@dataclass(frozen=True)
class ModelAndData:
    """A model, and the images that it is to be compared on.

    Attributes:
        model: The model.
        data: Pairs of its classes, read as it was trained, but for palette and polarity that are given.
        stated: How the data itself says to read it.
    """

    model: Predictor
    data: SegmentationData
    stated: Conversion | None

    @property
    def facts(self) -> PredictorFacts:
        """What is known of the model."""
        return self.model.facts

    @property
    def conversion(self) -> Conversion:
        """How images become 8 bits."""
        return self.facts.settings.conversion

    @property
    def where(self) -> str:
        """What runs it where, for messages."""
        settings = self.facts.settings
        engine = "" if settings.engine == "torch" else f"with {settings.engine} "
        return f"{engine}on {self.facts.device} in {settings.precision}"


def match_model(model: Predictor, data: SegmentationData, config: EvaluateConfig) -> ModelAndData:
    """Give the data the classes of a model.

    Raises:
        UnipError: One has classes that the other has not, or another channel would be read than in training.
    """
    matched = match_classes(
        data, model.facts.classes, remap=config.remap, model=str(config.model), source=str(config.data)
    )
    return fit_to_data(model, matched, config)


def fit_to_data(model: Predictor, data: SegmentationData, config: EvaluateConfig) -> ModelAndData:
    """Return a model with data of its classes, read as it was trained.

    Raises:
        UnipError: Another channel would be read than in training.
    """
    check_channel(model.facts.images, data, config)
    return ModelAndData(model, replace(data, conversion=model.facts.settings.conversion), data.conversion)


def _corrupted(
    ready: ModelAndData, config: EvaluateConfig, corruptions: Sequence[CorruptFrames]
) -> Iterator[tuple[CorruptFrames, Scores]]:
    plain = config.model_copy(update={"worst": 0})
    for each in corruptions:
        yield each, score_frames(ready, plain, each)[0]


class Looker(Protocol):
    """Looks at what a model found in each frame, which may come in parts."""

    def add(self, logits: Tensor, ids: Tensor, truth: Tensor, is_first: bool, /) -> None:
        """Look at logits ``(C, n, W)``, predicted and true ids ``(n, W)`` of rows, the first of a frame or not."""


def score_frames(
    ready: ModelAndData,
    config: EvaluateConfig,
    corruption: CorruptFrames | None = None,
    look: Sequence[Looker] = (),
) -> tuple[Scores, dict[str, Matrix], list[WorstFrame]]:
    """Segment all images; return the scores, each frame's confusion matrix, and the worst frames, worst first."""
    data = ready.data
    count = len(data.classes.names)
    total, ignored = np.zeros((count, count), np.int64), 0
    matrices: dict[str, Matrix] = {}
    worst: list[tuple[float, int, WorstFrame]] = []
    watch = ImageWatch(ready.facts.images, scaling=ready.facts.scaling)
    with meter(f"evaluating {corruption}" if corruption else "evaluating", len(data), "images") as progress:
        for found in ready.model.segment(data, corruption):
            frame = found.frame
            watch.look(frame, data.images[frame.index])
            assert frame.mask is not None
            matrix, ids = score_parts(found, count, look, keep=config.worst > 0)
            total += matrix
            ignored += int((frame.mask == IGNORE).sum())
            path = data.images[frame.index]
            matrices[str(path)] = matrix
            if config.worst:
                value = score(matrix, data.classes.names).miou
                room = len(worst) < config.worst
                if not np.isnan(value) and (room or (-value, -frame.index) > worst[0][:2]):
                    shown = WorstFrame(path, value, *reduced(frame.image, (frame.mask, ids), data.classes))
                    push = heapq.heappush if room else heapq.heapreplace
                    push(worst, (-value, -frame.index, shown))
            progress.advance()
    watch.finish(len(data))
    refuse_doubtful(data, [*total.sum(axis=1).tolist(), ignored])
    return (
        score(total, data.classes.names),
        matrices,
        [item[2] for item in sorted(worst, key=lambda item: (-item[0], -item[1]))],
    )


def score_parts(
    found: SegmentedFrame, classes: int, look: Sequence[Looker] = (), *, keep: bool = True
) -> tuple[Matrix, Pixels]:
    """Count the pixels of a frame, part by part.

    Args:
        found: The frame, whose parts are taken.
        classes: How many there are.
        look: What else looks at them.
        keep: Also return the ids.

    Returns:
        The confusion matrix, and class ids uint8 ``(H, W)``; without rows if they are not kept.
    """
    mask = found.frame.mask
    assert mask is not None
    matrix = np.zeros((classes, classes), np.int64)
    kept: list[Pixels] = []
    for rows, logits, ids in found.parts:
        truth = ids.new_tensor(mask[rows])
        for each in look:
            each.add(logits, ids, truth, rows.start == 0)
        matrix += confusion(ids, truth, classes, IGNORE).cpu().numpy()
        if keep:
            kept.append(ids.cpu().numpy())
    if len(kept) == 1:
        return matrix, kept[0]
    return matrix, np.concatenate(kept) if kept else np.zeros((0, mask.shape[1]), np.uint8)


def check_channel(images: TrainingImages | None, data: SegmentationData, config: EvaluateConfig) -> None:
    """Refuse data of which another channel is read than in training.

    Raises:
        UnipError: It is.
    """
    trained = None if images is None else images.channel
    if trained is not None and data.channel is not None and trained != data.channel:
        raise UnipError(
            f"{config.model} was trained on channel {trained + 1} of image files, but of {config.data} channel "
            f"{data.channel + 1} would be read",
            "Give the data in the layout of training.",
        )
