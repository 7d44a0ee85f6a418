"""The light evaluation of a model in training: mIoU alone, by the same inference as `unip evaluate`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from unip.data.labelled.classes import IGNORE
from unip.data.labelled.pairs import SegmentationData
from unip.data.sampling.frames import Frames
from unip.errors import UnipError
from unip.segmentation.inference import OutOfMemory, class_ids, segment_frames
from unip.segmentation.metrics import confusion, score
from unip.segmentation.model import Segmenter
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
        stopped: Asked after every image; if it says so, there is no result.
        device: Where to run.
        dtype: What to compute in.
        workers: Processes that decode images.

    Raises:
        UnipError: A pair is damaged, or the device's memory is too small.
    """
    names = segmenter.spec.classes.names
    total = torch.zeros(len(names), len(names), dtype=torch.int64, device=device)
    frames = Frames(data, segmenter.spec.scaling(), segmenter.spec.conversion)
    try:
        for frame, logits in segment_frames(
            segmenter, frames, device=device, dtype=dtype, window="auto", workers=workers
        ):
            if frame.problem is not None:
                raise frame.problem
            prediction = class_ids(logits)
            if stopped():
                return None
            total += confusion(prediction, prediction.new_tensor(frame.mask), len(names), IGNORE)
    except OutOfMemory as error:
        raise UnipError(
            f"in an evaluation during training, {error.what}",
            "Add --checkpoint-activations and run the same command again. Or start over with a smaller --crop, or "
            "without --eval-every, and score the model with unip evaluate --batch-size 1.",
        ) from error
    return score(total.cpu().numpy(), names).miou
