"""`unip evaluate`: how well a segmentation model does on labelled images."""

from __future__ import annotations

from unip.config import verb
from unip.segmentation.evaluation import EvaluateConfig as EvaluateConfig
from unip.segmentation.evaluation import EvaluateResult as EvaluateResult
from unip.segmentation.evaluation import evaluate_model


@verb(EvaluateConfig)
def evaluate(config: EvaluateConfig) -> EvaluateResult | None:
    """Segment labelled images and compare.

    Images are resized to the model's short side with their ratio kept and segmented in overlapping windows whose
    logits are averaged; the logits are resized to the stored size and compared with the mask there. One confusion
    matrix over all images gives every score. Results: ``metrics.json`` and ``evaluation.html`` with the worst frames.
    The same is done for each corruption, whose images are spoilt as soon as they are 8-bit, at their own size. These
    scores go to ``robustness.json`` one after the other, and those that are there already are not computed again.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Model or data are missing, damaged, or have other classes than each other.
        Interrupted: Stopped by Ctrl-C or SIGTERM among corruptions; the same call goes on with the next one.
    """
    return evaluate_model(config)
