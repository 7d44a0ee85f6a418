"""What is evaluated: anything that gives logits for labelled frames, whatever runs it; and a model folder in torch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol, Self

from torch import Tensor

from unip.data.corruptions import CorruptFrames
from unip.data.images.config import Conversion
from unip.data.labelled.classes import Classes
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.frames import Frame, Frames, is_waiting
from unip.data.sampling.scaling import Scaling
from unip.files import sha256
from unip.runtime.device import choose_device, choose_inference_precision, precision_name
from unip.segmentation.calibration import Calibration
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation_files import EvaluationSettings
from unip.segmentation.inference import Augmentation, Inference, class_ids, decoded, describe_window
from unip.segmentation.model_folder import model_folder
from unip.segmentation.settings import Workers
from unip.segmentation.storage import load_segmenter
from unip.segmentation.strips import InStrips
from unip.segmentation.torch_strips import logits_in_strips, without_augmentation
from unip.segmentation.training_images import TrainingImages
from unip.vit.sources import WEIGHTS_NAME

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictorFacts:
    """What an evaluation has to know of a model.

    Attributes:
        name: What messages call it.
        classes: Names and colours.
        images: What the images of training were like; None: not known.
        calibration: What its confidence means; None: that was not measured.
        settings: What its scores depend on beside the images.
        scaling: How frames are resized.
        device: Where it runs.
        view: What it sees of a frame at once, such as ``whole images``.
    """

    name: str
    classes: Classes
    images: TrainingImages | None
    calibration: Calibration | None
    settings: EvaluationSettings
    scaling: Scaling
    device: str
    view: str


class Rows(NamedTuple):
    """Rows of a frame, at the size of the stored image, and what a model gives for them.

    Attributes:
        rows: Which.
        logits: float32 ``(C, n, W)``; those of a large frame hold only until the next part is taken.
        ids: Class ids, uint8 ``(n, W)``.
    """

    rows: slice
    logits: Tensor
    ids: Tensor


@dataclass(frozen=True, eq=False)
class SegmentedFrame:
    """A labelled frame that is segmented.

    Attributes:
        frame: With its mask.
        parts: What was found, from top to bottom: the frame at once; of a large one strips, which are run as they are
            taken, so that its logits are never held as a whole.
    """

    frame: Frame
    parts: Iterable[Rows]

    @classmethod
    def whole(cls, frame: Frame, logits: Tensor, ids: Tensor) -> Self:
        """Return a frame with its logits ``(C, H, W)`` and class ids ``(H, W)``."""
        return cls(frame, (Rows(slice(0, ids.shape[0]), logits, ids),))


class Predictor(Protocol):
    """A model that can be evaluated."""

    @property
    def facts(self) -> PredictorFacts:
        """What is known of it."""

    def segment(self, data: SegmentationData, corruption: CorruptFrames | None = None) -> Iterator[SegmentedFrame]:
        """Segment labelled images in their order.

        Args:
            data: Pairs with the model's classes and the conversion of its settings.
            corruption: Of the 8-bit images, at their own size.

        Yields:
            Each frame, whose parts must be taken before the next.

        Raises:
            UnipError: An image or a mask is damaged, or cannot be given to the model.
        """


def segment_labelled(
    inference: Inference,
    data: SegmentationData,
    scaling: Scaling,
    conversion: Conversion,
    *,
    workers: Workers,
    corruption: CorruptFrames | None = None,
) -> Iterator[SegmentedFrame]:
    """Run a model over labelled images: all evaluations of a model in torch are done so.

    Args:
        inference: The model, ready to run.
        data: Pairs with the model's classes.
        scaling: How frames are resized.
        conversion: How counts become 8 bits.
        workers: Processes that decode images.
        corruption: Of the 8-bit images, at their own size.

    Yields:
        Each frame in order, whose parts must be taken before the next; logits and ids are where the model is.

    Raises:
        UnipError: An image or a mask is damaged, or the device's memory is too small.
    """
    waits = InStrips(len(inference.spec.classes.names), scaling)
    frames = Frames(data, scaling, conversion, corruption=corruption, waits=waits)
    for are_large, run in groupby(decoded(frames, workers), is_waiting):
        if are_large:
            for frame in run:
                yield SegmentedFrame(frame, _strips(inference, frame, scaling))
            continue
        for group in inference.groups(run):
            for frame, logits in inference.run(group):
                if frame.problem is not None:
                    raise frame.problem
                yield SegmentedFrame.whole(frame, logits, class_ids(logits))


def _strips(inference: Inference, frame: Frame, scaling: Scaling) -> Iterator[Rows]:
    size = scaling.size(frame.image.shape[0], frame.image.shape[1])
    for rows, logits in logits_in_strips(inference, frame.image, size):
        yield Rows(rows, logits, class_ids(logits))


class SegmenterPredictor:
    """A model folder, run by torch.

    Args:
        config: The model, and how it runs.

    Raises:
        UnipError: There is no such model, it is damaged, or the device is not there.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config
        self.segmenter = load_segmenter(config.model)
        spec, folder = self.segmenter.spec, model_folder(config.model)
        self.device = choose_device(config.device)
        self.dtype = choose_inference_precision(config.precision, self.device)
        scaling = spec.scaling(config.scale, config.window)
        scaling.check(str(config.model))
        self.augmentation = Augmentation(config.augment == "flip", config.augment_scales)
        self._told = False
        view = "; ".join(filter(None, (describe_window(spec, config.window), self.augmentation.describe())))
        self.facts = PredictorFacts(
            name=str(config.model),
            classes=spec.classes,
            images=spec.images,
            calibration=Calibration.read(folder, len(spec.classes.names)),
            settings=EvaluationSettings(
                engine="torch",
                weights=sha256(folder / WEIGHTS_NAME),
                window=config.window,
                scale=scaling.scale,
                short_side=spec.short_side,
                crop=spec.crop,
                stride=spec.stride,
                conversion=spec.conversion.given(palette=config.palette, polarity=config.polarity),
                precision=precision_name(self.dtype),
                augment=config.augment,
                augment_scales=config.augment_scales,
            ),
            scaling=scaling,
            device=str(self.device),
            view=view,
        )

    def segment(self, data: SegmentationData, corruption: CorruptFrames | None = None) -> Iterator[SegmentedFrame]:
        """Segment labelled images, see :class:`Predictor`; logits and ids are where the model is."""
        facts, config = self.facts, self.config
        inference = Inference(
            self.segmenter,
            device=self.device,
            dtype=self.dtype,
            window=config.window,
            batch_size=config.batch_size,
            augmentation=self.augmentation,
        )
        for found in segment_labelled(
            inference, data, facts.scaling, facts.settings.conversion, workers=config.workers, corruption=corruption
        ):
            if is_waiting(found.frame):
                self._tell(data, found.frame)
            yield found

    def _tell(self, data: SegmentationData, frame: Frame) -> None:
        """Say once that large frames are not augmented, as predict does."""
        if self.augmentation.describe() and not self._told:
            self._told = True
            log.warning(without_augmentation(data.images[frame.index]))
