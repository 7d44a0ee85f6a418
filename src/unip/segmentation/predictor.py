"""What is evaluated: anything that gives logits for labelled frames, whatever runs it; and a model folder in torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from unip.data.corruptions import CorruptFrames
from unip.data.labelled.classes import Classes
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.frames import Frame, Frames
from unip.data.sampling.scaling import Scaling
from unip.files import sha256
from unip.runtime.device import choose_device, choose_inference_precision, precision_name
from unip.segmentation.calibration import Calibration
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation_files import EvaluationSettings
from unip.segmentation.inference import Augmentation, class_ids, describe_window, segment_frames
from unip.segmentation.model_folder import model_folder
from unip.segmentation.storage import load_segmenter
from unip.segmentation.training_images import TrainingImages
from unip.vit.sources import WEIGHTS_NAME


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


class Predictor(Protocol):
    """A model that can be evaluated."""

    @property
    def facts(self) -> PredictorFacts:
        """What is known of it."""

    def segment(
        self, data: SegmentationData, corruption: CorruptFrames | None = None
    ) -> Iterator[tuple[Frame, Tensor, Tensor]]:
        """Segment labelled images in their order.

        Args:
            data: Pairs with the model's classes and the conversion of its settings.
            corruption: Of the 8-bit images, at their own size.

        Yields:
            Each frame with its mask; its logits, float32 ``(C, H, W)``; and its class ids, uint8 ``(H, W)``. Sizes
            are those of the stored image.

        Raises:
            UnipError: An image or a mask is damaged, or cannot be given to the model.
        """


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

    def segment(
        self, data: SegmentationData, corruption: CorruptFrames | None = None
    ) -> Iterator[tuple[Frame, Tensor, Tensor]]:
        """Segment labelled images, see :class:`Predictor`; logits and ids are where the model is."""
        facts = self.facts
        results = segment_frames(
            self.segmenter,
            Frames(data, facts.scaling, facts.settings.conversion, corruption=corruption),
            device=self.device,
            dtype=self.dtype,
            window=self.config.window,
            batch_size=self.config.batch_size,
            workers=self.config.workers,
            augmentation=self.augmentation,
        )
        for frame, logits in results:
            if frame.problem is not None:
                raise frame.problem
            yield frame, logits, class_ids(logits)
