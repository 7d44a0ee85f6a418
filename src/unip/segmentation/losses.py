"""What segmentation minimises, from logits and masks: cross-entropy, its weights, hard pixels, dice.

All of it is float32 with shapes that do not depend on the masks and never waits for the device, so that it may be
compiled and captured; and all of it is 0, not NaN, where no pixel is labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unip.data.labelled.classes import IGNORE
from unip.segmentation.settings import Weighting

MAX_WEIGHT = 20.0  # of a class: a few mislabelled pixels of the rarest one must not decide a step
CONFIDENT = 0.7  # a pixel whose class has a lower probability counts as hard, however many such there are


def class_weights(pixels: Sequence[int], weighting: Weighting) -> tuple[float, ...] | None:
    """Return the weight of each class's pixels in the cross-entropy, None for equal ones.

    ``balanced`` is 1 / share of pixels (each class has the same total weight), ``root`` its square root. Both are
    scaled so that a labelled pixel weighs 1 on average, then cut at :data:`MAX_WEIGHT`.

    Args:
        pixels: Training pixels of each class.
        weighting: Which.
    """
    if weighting == "none":
        return None
    power = 1.0 if weighting == "balanced" else 0.5
    # a class that never occurs gets the largest weight, for nothing
    raw = [max(count, 1) ** -power for count in pixels]
    mean = sum(count * weight for count, weight in zip(pixels, raw, strict=True)) / max(1, sum(pixels))
    return tuple(min(weight / mean, MAX_WEIGHT) if mean else 1.0 for weight in raw)


class PixelLoss(nn.Module):
    """Cross-entropy over labelled pixels, the paper's loss, and what may be done to it.

    Args:
        weights: Weight of each class's pixels in the cross-entropy; None: all 1.
        hard_pixels: Share of the labelled pixels to take the cross-entropy of, see :func:`keep_hard`; None: all.
        dice: Add :func:`dice_loss`, with the same weight as the cross-entropy (as nnU-Net does); it sees all pixels,
            and each class the same whatever ``weights`` says.
    """

    weights: Tensor | None

    def __init__(
        self, *, weights: Sequence[float] | None = None, hard_pixels: float | None = None, dice: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer(
            "weights", None if weights is None else torch.tensor(weights, dtype=torch.float32), persistent=False
        )
        self.hard_pixels, self.dice = hard_pixels, dice

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a float32 scalar: the :func:`total` of :meth:`parts`."""
        return total(self.parts(logits, target))

    def parts(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return what is added up, float32 scalars: ``ce`` and, with dice, ``dice``.

        Args:
            logits: ``(B, C, H, W)``, any floating type.
            target: int64 class ids ``(B, H, W)``; 255 counts for nothing.
        """
        logits = logits.float()
        counted = target if self.hard_pixels is None else keep_hard(logits, target, self.hard_pixels)
        ce = cross_entropy(logits, counted, self.weights)
        return {"ce": ce, "dice": dice_loss(logits, target)} if self.dice else {"ce": ce}


def total(parts: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the parts of a loss."""
    first, *others = parts.values()
    return sum(others, start=first)


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over labelled pixels, 0 when there are none, computed in float32.

    With weights it is the sum of the weighted ones over the number of pixels, not over their weights: so a pixel counts
    the same whatever else its batch shows.

    Args:
        logits: ``(B, C, H, W)``.
        target: int64 class ids ``(B, H, W)``; 255 counts for nothing.
        weights: float32 ``(C,)``.
    """
    total = F.cross_entropy(logits.float(), target, weights, ignore_index=IGNORE, reduction="sum")
    return total / (target != IGNORE).sum().clamp(min=1)


@torch.no_grad()
def keep_hard(logits: Tensor, target: Tensor, share: float) -> Tensor:
    """Return ``target`` with 255 for easy pixels: online hard pixel mining.

    What stays are the ``share`` of the labelled pixels whose own class has the lowest probability, and all others of
    less than :data:`CONFIDENT` (Wu et al., "High-performance semantic segmentation using very deep fully convolutional
    networks", 2016, arXiv 1604.04339, section 3.3; with a share in place of their number of pixels).

    Args:
        logits: float32 ``(B, C, H, W)``.
        target: int64 class ids ``(B, H, W)``; 255 has no label.
        share: Of the labelled pixels, in (0, 1].
    """
    sure = (-F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")).exp()
    labelled = target != IGNORE
    rising = torch.where(labelled, sure, 2.0).flatten().sort().values  # those without a label last
    last = (labelled.sum() * share).ceil().long().clamp(min=1) - 1
    limit = rising.gather(0, last.view(1)).clamp(min=CONFIDENT)
    return torch.where(sure <= limit, target, IGNORE)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft dice, averaged over the classes that the batch's labels show; 0 when there are none.

    The dice of a class is ``2 sum(p y) / (sum(p) + sum(y))`` over the labelled pixels of the whole batch, p its
    probability and y whether a pixel is of it (Milletari et al., "V-Net", 2016, arXiv 1606.04797, with plain sums below
    and taken over the batch as in nnU-Net, Isensee et al., Nature Methods 18, 2021).

    Args:
        logits: float32 ``(B, C, H, W)``.
        target: int64 class ids ``(B, H, W)``; 255 counts for nothing.
    """
    probabilities = torch.where((target != IGNORE)[:, None], logits.softmax(1), 0.0)
    ids = torch.arange(logits.shape[1], device=target.device).view(1, -1, 1, 1)
    truth = target[:, None] == ids
    over = (0, 2, 3)
    both = torch.where(truth, probabilities, 0.0).sum(over)
    pixels = truth.sum(over)
    dice = 2 * both / (probabilities.sum(over) + pixels).clamp(min=1)
    shown = pixels > 0
    return torch.where(shown, 1 - dice, 0.0).sum() / shown.sum().clamp(min=1)
