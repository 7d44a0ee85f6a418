"""The light evaluation of a model in training: mIoU alone, by the same inference as `unip evaluate`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.pairs import SegmentationData
from unip.errors import UnipError
from unip.segmentation.inference import Inference, OutOfMemory
from unip.segmentation.metrics import confusion, score
from unip.segmentation.model import Segmenter
from unip.segmentation.predictor import segment_labelled
from unip.segmentation.settings import Workers


def quick_miou(
    segmenter: Segmenter,
    data: SegmentationData,
    stopped: Callable[[], bool] = lambda: False,
    *,
    device: torch.device,
    dtype: torch.dtype,
    workers: Workers,
) -> float | None:
    """Return the mIoU of a model in training on labelled images, what ``unip evaluate`` would say, without its reports.

    Args:
        segmenter: In evaluation mode.
        data: Pairs with the model's classes, some pixel of which is labelled.
        stopped: Asked after every image, and every strip of a large one; if it says so, there is no result.
        device: Where to run.
        dtype: What to compute in.
        workers: Processes that decode images.

    Raises:
        UnipError: A pair is damaged, or the device's memory is too small.
    """
    names = segmenter.spec.classes.names
    total = torch.zeros(len(names), len(names), dtype=torch.int64, device=device)
    spec, inference = segmenter.spec, Inference(segmenter, device=device, dtype=dtype, window="auto")
    try:
        for found in segment_labelled(inference, data, spec.scaling(), spec.conversion, workers=workers):
            mask = found.frame.mask
            assert mask is not None
            for rows, _, ids in found.parts:
                if stopped():
                    return None
                total += confusion(ids, ids.new_tensor(mask[rows]), len(names), IGNORE)
    except OutOfMemory as error:
        raise UnipError(
            f"in an evaluation during training, {error.what}",
            "Add --checkpoint-activations and run the same command again. Or start over with a smaller --crop, or "
            "without --eval-every, and score the model with unip evaluate --batch-size 1.",
        ) from error
    return score(total.cpu().numpy(), names).miou
