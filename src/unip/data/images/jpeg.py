"""JPEG straight to grey, and smaller where that loses nothing: most of what a training loader's time goes to."""

from __future__ import annotations

import numpy as np

from unip.data.images.decoding import Pixels8
from unip.data.images.formats import open_image


def jpeg_grey8(data: bytes, reduce: int = 1) -> Pixels8 | None:
    """Decode only the luma of a JPEG, at a fraction of its size (libjpeg scales within the inverse DCT).

    Luma is ITU-R BT.601 as everywhere, rounded once less than by way of RGB: levels differ by a few at most.

    Args:
        data: An image file.
        reduce: 1, 2, 4 or 8: the sides are divided by it and rounded up.

    Returns:
        ``(H, W)`` uint8; None for what is no plain JPEG or damaged, which the general reader then takes or refuses.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        with open_image(data) as image:
            if image.mode not in ("L", "RGB"):
                return None
            image.draft("L", (image.width // reduce, image.height // reduce))
            image.load()
            return np.array(image) if image.mode == "L" else None
    except Exception:  # on broken bytes the decoder raises nearly anything
        return None


def reduction(height: int, width: int, side: float) -> int:
    """Return the largest of 1, 2, 4, 8 by which an image can be reduced so that its short side keeps ``side`` pixels.

    Args:
        height: Of the image, pixels.
        width: Of the image, pixels.
        side: Pixels.
    """
    return next((factor for factor in (8, 4, 2) if min(height, width) >= factor * side), 1)
