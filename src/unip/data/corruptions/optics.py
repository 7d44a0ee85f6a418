"""What happens to the image before it is sampled, and by sampling: defocus, motion, large pixels."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from unip.data.corruptions.corruption import Grey8, Image32, clip_to_uint8

TAIL_TIME_CONSTANTS = 4.0  # time constants after which a pixel has forgotten all but 2 %
NEGLIGIBLE = 0.02  # weight in a kernel beside its largest


def defocus(image: Grey8, radius: float, rng: np.random.Generator) -> Grey8:
    """The disc into which a lens out of focus spreads each point.

    Source: the geometrical limit of H. H. Hopkins, "The frequency response of a defocused optical system", Proceedings
    of the Royal Society A 231, 1955. Diffraction is left out: its disc is about one pixel wide.

    Args:
        image: ``(H, W)``.
        radius: Of the disc, pixels.
        rng: Not used.
    """
    height, width = image.shape
    reach = int(radius)
    wide = np.pad(image, ((reach, reach), (reach + 1, reach)), mode="edge")
    sums = np.cumsum(wide, axis=1, dtype=np.int32)  # a row of the disc is then one difference, whatever its length
    total = np.zeros((height, width), np.int32)
    area = 0
    for row in range(-reach, reach + 1):
        half = int(math.sqrt(radius * radius - row * row))
        part = sums[reach + row : reach + row + height]
        right, left = reach + 1 + half, reach - half
        total += part[:, right : right + width] - part[:, left : left + width]
        area += 2 * half + 1
    return clip_to_uint8(total.astype(np.float32) / np.float32(area))


def motion(image: Grey8, pixels: float, rng: np.random.Generator) -> Grey8:
    """Movement across the frame seen by bolometers: an exponential tail rather than the even smear of a shutter.

    A bolometer follows what it sees with a thermal time constant of about 10 ms (K. Lee, Y. Ban and C. Kim, "Motion
    blur kernel rendering using an inertial sensor: interpreting the mechanism of a thermal detector", Sensors 22(5),
    1893, 2022). The direction is drawn. The tail's centre of mass is moved back to the object, which stays
    where its label is.

    Args:
        image: ``(H, W)``.
        pixels: By which the image moves in one time constant.
        rng: Of the frame.
    """
    kernel, reach = motion_kernel(pixels, rng.uniform(0.0, 2.0 * math.pi))
    height, width = image.shape
    wide = np.pad(image, reach, mode="edge").astype(np.float32)
    total = np.zeros((height, width), np.float32)
    for row, column in np.argwhere(kernel).tolist():
        total += kernel[row, column] * wide[row : row + height, column : column + width]
    return clip_to_uint8(total)


def motion_kernel(pixels: float, angle: float) -> tuple[Image32, int]:
    """Return the exponential tail of :func:`motion`, ``(2 reach + 1, 2 reach + 1)`` with the sum 1, and ``reach``.

    Args:
        pixels: Moved in one time constant.
        angle: Direction, radians.
    """
    steps = np.arange(math.ceil(TAIL_TIME_CONSTANTS * pixels) + 1)
    weights = np.exp(-steps / pixels)
    along = steps - (weights * steps).sum() / weights.sum()
    reach = math.ceil(np.abs(along).max()) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    rows, columns = reach + along * math.sin(angle), reach + along * math.cos(angle)
    for down in (0, 1):  # a point between pixels is shared by the four around it
        for right in (0, 1):
            row, column = np.floor(rows).astype(int) + down, np.floor(columns).astype(int) + right
            share = (1.0 - np.abs(rows - row)) * (1.0 - np.abs(columns - column))
            np.add.at(kernel, (row, column), weights * share)
    kernel[kernel < NEGLIGIBLE * kernel.max()] = 0.0  # half of the work for a hundredth of the light
    return np.asarray(kernel / kernel.sum(), dtype=np.float32), reach


def resolution(image: Grey8, factor: float, rng: np.random.Generator) -> Grey8:
    """A detector with fewer and larger pixels, its frame enlarged bilinearly to the old size.

    Source: each pixel averages over its area before sampling (S. K. Park, R. Schowengerdt and M.-A. Kaczynski,
    "Modulation-transfer-function analysis for sampled image systems", Applied Optics 23(15), 1984).

    Args:
        image: ``(H, W)``.
        factor: Side of the new pixels in old ones.
        rng: Not used.
    """
    height, width = image.shape
    few = max(1, round(width / factor)), max(1, round(height / factor))
    small = Image.fromarray(image).resize(few, Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))
