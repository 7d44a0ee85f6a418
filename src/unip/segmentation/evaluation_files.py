"""What an evaluation writes: metrics.json, evaluation.html and robustness.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from unip.data.images.config import Conversion
from unip.data.labelled.classes import Classes
from unip.outputs import write_json, write_text
from unip.segmentation.gallery import WorstFrame, render_evaluation
from unip.segmentation.intervals import MiouInterval
from unip.segmentation.metrics import Scores
from unip.segmentation.reliability import Reliability
from unip.segmentation.robustness import Robustness
from unip.segmentation.settings import AugmentName, Scale, WindowName


@dataclass(frozen=True)
class Subject:
    """What was evaluated on what."""

    model: str
    data: str
    split: str | None
    images: int


@dataclass(frozen=True)
class EvaluationSettings:
    """What scores depend on beside the images: what runs the model, the SHA-256 of the weights, and how they were run.

    Attributes:
        stride: Pixels from one window to the next; None: there are no windows.
    """

    engine: str
    weights: str
    window: WindowName
    scale: Scale
    short_side: int
    crop: int
    stride: int | None
    conversion: Conversion
    precision: str
    augment: AugmentName = "none"
    augment_scales: tuple[float, ...] = (1.0,)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        scales, conversion = list(self.augment_scales), self.conversion.model_dump(mode="json")
        return {**vars(self), "augment_scales": scales, "conversion": conversion}


@dataclass(frozen=True)
class EvaluationFiles:
    """The files of an evaluation.

    Attributes:
        out: Their folder.
        subject: What was evaluated.
        settings: And how.
        classes: Names and colours.
        interval: Of the mIoU; None: there is no mIoU.
    """

    out: Path
    subject: Subject
    settings: EvaluationSettings
    classes: Classes
    interval: MiouInterval | None

    def write_metrics(self, scores: Scores, frames: Mapping[str, float], reliability: Reliability | None) -> None:
        """Write all scores, the interval of the mIoU, the confidence and the mIoU of each frame to ``metrics.json``."""
        listed = [{"image": name, "miou": None if np.isnan(value) else value} for name, value in frames.items()]
        limits = None if self.interval is None else self.interval.to_dict()
        sure = None if reliability is None else reliability.to_dict()
        found = {**scores.to_dict(), "miou_interval": limits, "confidence": sure, "frames": listed}
        write_json(self.out / "metrics.json", {**asdict(self.subject), **self.settings.to_dict(), **found})

    def write_page(self, robustness: Robustness, worst: Sequence[WorstFrame], reliability: Reliability | None) -> None:
        """Write ``evaluation.html``."""
        page = render_evaluation(
            robustness.clean,
            self.classes,
            asdict(self.subject),
            worst,
            robustness=robustness.rows(),
            interval=self.interval,
            reliability=reliability,
        )
        write_text(self.out / "evaluation.html", page)

    def write_robustness(self, robustness: Robustness) -> None:
        """Write ``robustness.json``."""
        record = {**asdict(self.subject), **self.settings.to_dict(), **robustness.to_dict()}
        write_json(self.out / "robustness.json", record)
