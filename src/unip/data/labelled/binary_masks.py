"""Binary masks: those saved as JPEG, and one file for each class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unip.data.images.decoding import Pixels8
from unip.data.labelled.masks import MaskFile, decode_mask, read_mask_bytes
from unip.errors import UnipError

JPEG_ENDINGS = (".jpg", ".jpeg")
THRESHOLD = 128
NOISE = 32  # levels that JPEG adds far from an edge, at most
EDGE_PIXELS = 4  # so far from an edge JPEG and soft edges leave any level; half a block
STRAY_SHARE = 0.02  # of the object's pixels that may lie between the levels elsewhere

FEW_PATCHES = 12  # even patches of another level that may be chance
MIDDLE_SHARE = 0.003  # of the pixels of all edges: as many even patches may lie on blurred lines and tips


class Patch(NamedTuple):
    """A kind of even patch of another level: its side in pixels, the spread of its levels, and their distance."""

    size: int
    spread: int
    far: int
    edge_share: float


Binary = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class JpegMask:
    """A binary mask that was saved as JPEG: black and white, and noise around the edges."""

    path: Path

    def read(self) -> Pixels8:
        """Return 255 where the file has 128 or more, else 0, ``(H, W)`` uint8: what the mask was before JPEG.

        Raises:
            UnipError: The values are not those of two levels, as where ids were saved as JPEG.
        """
        levels = decode_mask(read_mask_bytes(self.path), self.path, mode="L").pixels
        white = levels >= THRESHOLD
        stray = (levels > NOISE) & (levels < 255 - NOISE) & ~_near_edges(white)
        few = STRAY_SHARE * min(white.sum(), (~white).sum())
        others = _other_levels(levels, white)
        if others.size or stray.sum() > few or (not white.any() and levels.any()):  # pure black stays so; ids do not
            values = np.sort(others) if others.size else np.unique(levels[stray] if stray.any() else levels)
            shown = int(values[len(values) // 2])
            raise UnipError(
                f"mask {self.path} is JPEG and not black and white: it holds values such as {shown}",
                "JPEG changes ids. Only binary masks (0 and 255) can be read from it: write it again as PNG.",
            )
        return np.where(white, np.uint8(255), np.uint8(0))


@dataclass(frozen=True)
class ClassFiles:
    """The binary masks of one image, a file for each class.

    Attributes:
        files: Files with the id of their class; classes without a file are not in the image.
        background: The id of what no mask covers.
    """

    files: tuple[tuple[Path, int], ...]
    background: int = 0

    @property
    def path(self) -> Path:
        """The first file."""
        return self.files[0][0]

    def read(self) -> Pixels8:
        """Return the ids, ``(H, W)`` uint8; smaller objects lie on top of larger ones.

        Raises:
            UnipError: A file is not binary, or two have different sizes.
        """
        planes = [(read_binary(path), path, class_id) for path, class_id in self.files]
        mask: Pixels8 = np.full(planes[0][0].shape, self.background, np.uint8)
        for plane, path, class_id in sorted(planes, key=lambda item: -int(item[0].sum())):
            if plane.shape != mask.shape:
                raise UnipError(
                    f"mask {path} is {_shown(plane)} but that of another class, {self.path}, is {_shown(mask)}",
                    "Save the masks of all classes at the size of their image.",
                )
            mask[plane] = class_id
        return mask


def mask_of_ids(path: Path) -> MaskFile | JpegMask:
    """Return the source of a mask file: ids as they are stored, or a binary JPEG."""
    return JpegMask(path) if path.suffix.lower() in JPEG_ENDINGS else MaskFile(path)


def read_binary(path: Path) -> Binary:
    """Read the mask of one class, ``(H, W)`` bool.

    Raises:
        UnipError: It cannot be read, or holds more than 0 and one other value.
    """
    raw = mask_of_ids(path).read()
    values = np.unique(raw)
    if (values > 0).sum() > 1:
        shown = ", ".join(str(value) for value in values[:4])
        raise UnipError(
            f"mask {path} is not binary: it holds {shown}{', ...' if len(values) > 4 else ''}",
            "In a folder for each class, a mask holds 0 and one other value. If these are ids of classes, keep one "
            "mask for each image.",
        )
    return np.asarray(raw > 0)


def _shown(pixels: npt.NDArray[Any]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _other_levels(levels: Pixels8, white: Binary) -> Pixels8:
    """Return the levels of even patches that are neither black nor white, ``(N,)``; none if they are few.

    What JPEG and soft edges leave between black and white is never even: it rises, falls or rings. So even patches of
    another level are a third class, however small a part of the mask it is, or a line so thin that it is lost. Black
    and white are 0 and 255, and the most frequent level within :data:`NOISE` of each, as video has them.
    """
    counts = np.bincount(levels.ravel(), minlength=256)
    usual = (0, 255, int(counts[: NOISE + 1].argmax()), 255 - NOISE + int(counts[255 - NOISE :].argmax()))
    edges = np.count_nonzero(white[1:] != white[:-1]) + np.count_nonzero(white[:, 1:] != white[:, :-1])
    for patch in (Patch(3, 24, NOISE, MIDDLE_SHARE), Patch(5, 4, 6, 0.0)):
        if min(levels.shape) < patch.size:
            continue
        low, high = _extremes(levels, patch.size)
        other = high - low <= patch.spread
        for level in usual:
            other &= (low > level + patch.far) | (high < level - patch.far)
        if other.sum() > max(FEW_PATCHES, patch.edge_share * edges):
            found: Pixels8 = low[other].astype(np.uint8)
            return found
    return np.zeros(0, np.uint8)


def _extremes(levels: Pixels8, size: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Return the least and the largest level of each square patch of ``size`` pixels."""
    low = high = levels.astype(np.int16)
    for _ in range(size - 1):
        low, high = np.minimum(low[1:], low[:-1]), np.maximum(high[1:], high[:-1])
        low, high = np.minimum(low[:, 1:], low[:, :-1]), np.maximum(high[:, 1:], high[:, :-1])
    return low, high


def _near_edges(white: Binary) -> Binary:
    """Say which pixels have both black and white within :data:`EDGE_PIXELS`, along rows and columns."""
    return _widened(white) & _widened(~white)


def _widened(found: Binary) -> Binary:
    for axis in (0, 1):
        width = [(EDGE_PIXELS, EDGE_PIXELS) if i == axis else (0, 0) for i in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(found, width), 2 * EDGE_PIXELS + 1, axis=axis)
        found = np.asarray(windows.any(axis=-1))
    return found
