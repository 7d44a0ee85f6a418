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
#: Of the distorted images, where the camera is distorted too; strengths as severities 1 to 3 of ``data/corruptions``.
STRIPED_SHARE = 0.5
STRIPES = 0.016  # largest standard deviation of column offsets, of a range of 1: 0.16 K of 10 K
ROW_SHARE = 1 / 3  # of the column offsets' deviation, for rows
SPOILT_SHARE = 0.5  # share of images with dead pixels
DEAD = 0.005  # largest share of dead pixels, half of them black and half white
INVERTED_SHARE = 0.25  # share of images in the other polarity: black-hot instead of white-hot
_CHOICES = 6  # random numbers that say how an image is distorted
_CAMERA_CHOICES = 5  # random numbers that say what the camera does


def distorted(
    grey: torch.Tensor, positions: torch.Tensor, *, seed: int, probability: float, camera: bool = False
) -> torch.Tensor:
    """Change gamma, contrast and brightness of some images, add noise, and take detail from a few.

    Which are changed and how depends on the seed and on the samples' positions alone.

    Args:
        grey: (B, 1, S, S), values 0..1.
        positions: (B,) int64, of the samples in training.
        seed: Of the run.
        probability: Share of the images that are changed.
        camera: Also give some of those stripes, dead pixels and the other polarity, see :func:`infrared_defects`.

    Returns:
        (B, 1, S, S), values 0..1.
    """
    count = grey[0].numel()
    further = _CAMERA_CHOICES + sum(grey.shape[2:]) if camera else 0  # behind the others, which stay what they were
    noise = seeded_noise(seed, positions, _CHOICES + count + further).to(torch.float32) / 2**32
    chosen, gamma, contrast, brightness, level, blur = noise[:, :_CHOICES, None, None, None].unbind(1)
    changed = grey.clamp(0, 1) ** torch.exp(GAMMA * (2 * gamma - 1))
    mean = changed.mean((2, 3), keepdim=True)
    low, high = CONTRAST
    changed = mean + (changed - mean) * (low + (high - low) * contrast) + BRIGHTNESS * (2 * brightness - 1)
    halved = F.interpolate(F.avg_pool2d(changed, 2), grey.shape[-2:], mode="bilinear", align_corners=False)
    changed = torch.where(blur < BLURRED_SHARE, halved, changed)
    pixels = noise[:, _CHOICES : _CHOICES + count].view_as(grey)
    spread = 12**0.5 * (pixels - 0.5)  # uniform, of variance 1
    changed = (changed + NOISE * level * spread).clamp(0, 1)
    if camera:
        changed = infrared_defects(changed, pixels, noise[:, _CHOICES + count :])
    return torch.where(chosen < probability, changed, grey)


def infrared_defects(grey: torch.Tensor, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Give images what microbolometers do: stripes, then dead pixels, and to some the other polarity.

    The models are those of the corruptions ``stripes``, ``dead_pixels`` and ``polarity``, with uniform offsets and
    without dead rows, so that all images of a batch are changed at once.

    Args:
        grey: (B, 1, H, W), values 0..1.
        pixels: (B, 1, H, W), uniform in 0..1: the lowest and the highest are dead.
        noise: (B, 5 + H + W), uniform in 0..1.

    Returns:
        (B, 1, H, W), values 0..1.
    """
    striped, strength, spoilt, share, inverted = noise[:, :_CAMERA_CHOICES, None, None, None].unbind(1)
    height, width = grey.shape[2:]
    offsets = 12**0.5 * (noise[:, _CAMERA_CHOICES:] - 0.5)  # uniform, of variance 1
    rows, columns = offsets[:, :height, None].unsqueeze(1), offsets[:, None, None, height : height + width]
    stripes = STRIPES * strength * (columns + ROW_SHARE * rows)
    changed = torch.where(striped < STRIPED_SHARE, (grey + stripes).clamp(0, 1), grey)
    half = torch.where(spoilt < SPOILT_SHARE, DEAD * share / 2, torch.zeros_like(share))
    changed = torch.where(pixels < half, torch.zeros_like(grey), changed)
    changed = torch.where(pixels > 1 - half, torch.ones_like(grey), changed)
    return torch.where(inverted < INVERTED_SHARE, 1 - changed, changed)
