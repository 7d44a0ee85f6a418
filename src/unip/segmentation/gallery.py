"""The evaluation as one self-contained HTML page: scores, confusion matrix, worst frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import to_rgb8
from unip.data.labelled.classes import IGNORE, Classes, has_background
from unip.data.labelled.overlay import OVERLAY_PIXELS, draw_overlay, reduce_mask, reduce_picture, reduction
from unip.data.labelled.shares import percent_of_pixels
from unip.pages import data_uri, page_template
from unip.segmentation.intervals import MiouInterval
from unip.segmentation.metrics import Scores, percent
from unip.segmentation.reliability import Reliability

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class WorstFrame:
    """A frame to show: its file, its mIoU, the image ``(H, W)`` or RGB ``(H, W, 3)``, and both masks ``(H, W)``."""

    path: Path
    miou: float
    image: Pixels
    truth: Pixels
    prediction: Pixels


def reduced(image: Pixels, masks: Sequence[Pixels], classes: Classes) -> tuple[Pixels, ...]:
    """Return an image and masks of it, at most :data:`OVERLAY_PIXELS` large: a page holds several."""
    by = reduction((image.shape[0], image.shape[1]), OVERLAY_PIXELS)
    return reduce_picture(image, by), *(reduce_mask(mask, classes, by) for mask in masks)


def render_evaluation(
    scores: Scores,
    classes: Classes,
    about: Mapping[str, object],
    worst: Sequence[WorstFrame],
    *,
    robustness: Sequence[tuple[str, ...]] = (),
    interval: MiouInterval | None = None,
    reliability: Reliability | None = None,
) -> str:
    """Return the page.

    Args:
        scores: Of the whole data set.
        classes: Names and colours.
        about: What was evaluated on what, shown on top.
        worst: Frames to show, worst first; a dozen takes about a megabyte.
        robustness: Rows of a table of scores on corrupted images, the first its heading.
        interval: Of the mIoU.
        reliability: How far confidence can be trusted.
    """
    template = page_template("unip.segmentation", "evaluation.html.j2")
    truth = scores.matrix.sum(1)
    pixels = max(1, int(truth.sum()))
    rows = [
        {
            "name": name,
            "colour": hex_colour(classes.palette[index]),
            "iou": percent(scores.iou[index]),
            "bar": 0.0 if np.isnan(scores.iou[index]) else 100 * float(scores.iou[index]),
            "accuracy": percent(scores.accuracy[index]),
            "share": percent_of_pixels(truth[index] / pixels),
            "confusion": [
                {"text": percent(part), "shade": 0.0 if np.isnan(part) else float(part)}
                for part in (scores.matrix[index] / truth[index] if truth[index] else np.full(len(truth), np.nan))
            ],
        }
        for index, name in enumerate(scores.names)
    ]
    summary = {
        "mIoU": percent(scores.miou),
        **({f"95 % interval over {interval.over}": interval.limits} if interval else {}),
        **({"mIoU without background": percent(scores.foreground_miou)} if has_background(scores.names) else {}),
        "mean accuracy": percent(scores.mean_accuracy),
        "pixel accuracy": percent(scores.pixel_accuracy),
    }
    frames = [_shown(frame, classes) for frame in worst]
    sure = _confidence(reliability) if reliability is not None and pixels > 1 else None
    return template.render(
        about=dict(about), summary=summary, rows=rows, frames=frames, robustness=robustness, confidence=sure
    )


def _confidence(reliability: Reliability) -> dict[str, object]:
    """Return a sentence on the confidence, the corners of the risk-coverage curve, and the table of wanted risks."""
    _, coverage, risk = reliability.curve()
    highest = max(float(risk.max(initial=0.0)), 1e-9)
    corners = [f"{40 + 360 * x:.1f},{160 - 140 * y / highest:.1f}" for x, y in zip(coverage, risk, strict=True)]
    return {
        "text": reliability.describe(),
        "corners": " ".join(corners),
        "highest": percent(highest),
        "rows": reliability.rows(),
    }


def _shown(frame: WorstFrame, classes: Classes) -> dict[str, str]:
    return {
        "name": frame.path.name,
        "miou": percent(frame.miou),
        "image": picture(frame.image),
        "truth": truth_picture(frame.image, frame.truth, classes),
        "prediction": picture(frame.image, frame.prediction, classes),
    }


def picture(image: Pixels, mask: Pixels | None = None, classes: Classes | None = None) -> str:
    """Return an image ``(H, W)`` or RGB ``(H, W, 3)``, with the classes of a mask ``(H, W)`` if given, for a page."""
    rgb = to_rgb8(image)
    return data_uri(rgb if mask is None or classes is None else draw_overlay(rgb, mask, classes))


def truth_picture(image: Pixels, truth: Pixels, classes: Classes) -> str:
    """Return the same with the true mask; what has no label is dark."""
    rgb = to_rgb8(image)
    return picture(np.where((truth == IGNORE)[..., None], rgb // 3, rgb), truth, classes)


def hex_colour(colour: tuple[int, int, int]) -> str:
    """Return a colour as pages write it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
