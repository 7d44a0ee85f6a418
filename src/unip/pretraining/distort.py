"""What cameras do to a scene: the student sees it distorted, the teachers as it is.

The corruptions of an evaluation are in ``data/corruptions``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unip.pretraining.sample_noise import seeded_noise

GAMMA = 0.5  # largest natural logarithm of the exponent
CONTRAST = (0.4, 1.6)  # factors about the image's mean
BRIGHTNESS = 0.2  # added or taken away, of a range of 1
NOISE = 0.06  # largest standard deviation, of a range of 1
BLURRED_SHARE = 0.3  # share of the distorted images that are also seen at half the resolution
_CHOICES = 6  # random numbers that say how an image is distorted


def distorted(grey: torch.Tensor, positions: torch.Tensor, *, seed: int, probability: float) -> torch.Tensor:
    """Change gamma, contrast and brightness of some images, add noise, and take detail from a few.

    Which are changed and how depends on the seed and on the samples' positions alone.

    Args:
        grey: (B, 1, S, S), values 0..1.
        positions: (B,) int64, of the samples in training.
        seed: Of the run.
        probability: Share of the images that are changed.

    Returns:
        (B, 1, S, S), values 0..1.
    """
    count = grey[0].numel()
    noise = seeded_noise(seed, positions, _CHOICES + count).to(torch.float32) / 2**32
    chosen, gamma, contrast, brightness, level, blur = noise[:, :_CHOICES, None, None, None].unbind(1)
    changed = grey.clamp(0, 1) ** torch.exp(GAMMA * (2 * gamma - 1))
    mean = changed.mean((2, 3), keepdim=True)
    low, high = CONTRAST
    changed = mean + (changed - mean) * (low + (high - low) * contrast) + BRIGHTNESS * (2 * brightness - 1)
    halved = F.interpolate(F.avg_pool2d(changed, 2), grey.shape[-2:], mode="bilinear", align_corners=False)
    changed = torch.where(blur < BLURRED_SHARE, halved, changed)
    spread = 12**0.5 * (noise[:, _CHOICES:].view_as(grey) - 0.5)  # uniform, of variance 1
    changed = (changed + NOISE * level * spread).clamp(0, 1)
    return torch.where(chosen < probability, changed, grey)
