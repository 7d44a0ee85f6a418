"""Segmentation scores, all from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table
from torch import Tensor

from unip.data.labelled.classes import foreground_ids, has_background
from unip.data.labelled.shares import percent_of_pixels

Matrix = npt.NDArray[np.int64]


def confusion(prediction: Tensor, truth: Tensor, classes: int, ignore_index: int = 255) -> Tensor:
    """Count pixels by true class (row) and predicted class (column).

    Args:
        prediction: Class ids ``(H, W)``, integer.
        truth: Class ids ``(H, W)``, integer; pixels of ``ignore_index`` are left out.
        classes: Number of classes C.
        ignore_index: Label of pixels that count for nothing.

    Returns:
        int64 ``(C, C)``, on the same device.

    Raises:
        ValueError: A pixel that counts has an id of no class.
    """
    # 0: left out; the others in the order of the matrix. No pixels are picked, for which a GPU would be waited
    pairs = truth.long() * classes + prediction + 1
    pairs = torch.where(prediction < classes, pairs, classes**2 + 1)  # another true class would be counted
    pairs = torch.where(truth == ignore_index, 0, pairs)
    counts = torch.bincount(pairs.flatten(), minlength=classes**2 + 1)
    if len(counts) > classes**2 + 1:
        raise ValueError(f"a pixel has an id of none of the {classes} classes")
    return counts[1:].view(classes, classes)


def class_iou(matrix: Matrix) -> npt.NDArray[np.float64]:
    """Return intersection over union of each class, NaN for a class in neither truth nor prediction."""
    hits = np.diag(matrix)
    return _ratio(hits, matrix.sum(0)[: len(matrix)] + matrix.sum(1) - hits)


def class_accuracy(matrix: Matrix) -> npt.NDArray[np.float64]:
    """Return the share of each true class's pixels that were found (recall), NaN for a class not in the truth."""
    return _ratio(np.diag(matrix), matrix.sum(1))


@dataclass(frozen=True)
class Scores:
    """Scores of a model on a data set, shares between 0 and 1.

    Means leave out the classes that have no value (NaN): for IoU those in neither truth nor prediction, for accuracy
    those not in the truth.

    Attributes:
        names: Class names.
        matrix: int64 ``(C, C)`` pixels by true class (row) and predicted class (column).
        iou: Intersection over union of each class.
        accuracy: Recall of each class.
        miou: Mean of ``iou``.
        foreground_miou: The same without the class called background; equal to ``miou`` if there is none.
        mean_accuracy: Mean of ``accuracy``.
        pixel_accuracy: Share of all counted pixels that are right.
    """

    names: tuple[str, ...]
    matrix: Matrix = field(repr=False)
    iou: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    miou: float
    foreground_miou: float
    mean_accuracy: float
    pixel_accuracy: float

    @property
    def has_foreground(self) -> bool:
        """Whether any pixel is labelled as another class than the background, if there is one."""
        return bool(self.matrix[foreground_ids(self.names)].any())

    def without_means(self) -> Scores:
        """Return the same without means over classes: the background alone says nothing about a model."""
        nan = float("nan")
        return replace(self, miou=nan, foreground_miou=nan, mean_accuracy=nan)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values; what has no value is None."""
        return {
            "miou": _value(self.miou),
            "foreground_miou": _value(self.foreground_miou),
            "mean_accuracy": _value(self.mean_accuracy),
            "pixel_accuracy": _value(self.pixel_accuracy),
            "pixels": int(self.matrix.sum()),
            "classes": [
                {"name": name, "iou": _value(iou), "accuracy": _value(accuracy), "pixels": int(pixels)}
                for name, iou, accuracy, pixels in zip(
                    self.names, self.iou, self.accuracy, self.matrix.sum(1), strict=True
                )
            ],
            "confusion_matrix": self.matrix.tolist(),
        }

    def to_table(self, title: str = "") -> Table:
        """Return the scores in percent as a table for the terminal."""
        table = Table("class", title=title)
        for heading in ("IoU", "accuracy", "share of pixels"):
            table.add_column(heading, justify="right")
        truth = self.matrix.sum(1)
        for name, iou, accuracy, pixels in zip(self.names, self.iou, self.accuracy, truth, strict=True):
            table.add_row(name, percent(iou), percent(accuracy), percent_of_pixels(pixels / max(1, self.matrix.sum())))
        table.add_section()
        table.add_row("mean", percent(self.miou), percent(self.mean_accuracy), "")
        if has_background(self.names):
            table.add_row("mean without background", percent(self.foreground_miou), "", "")
        table.add_row("all pixels", "", percent(self.pixel_accuracy), "")
        return table


def score(matrix: Matrix, names: Sequence[str]) -> Scores:
    """Compute :class:`Scores` from a ``(C, C)`` confusion matrix (rows true, columns predicted).

    Further columns, ``(C, C + N)``, count pixels that were predicted as classes without a row: they are errors.
    """
    iou, accuracy = class_iou(matrix), class_accuracy(matrix)
    pixels = int(matrix.sum())
    return Scores(
        names=tuple(names),
        matrix=matrix,
        iou=iou,
        accuracy=accuracy,
        miou=_mean(iou),
        foreground_miou=_mean(iou[foreground_ids(names)]),
        mean_accuracy=_mean(accuracy),
        pixel_accuracy=float(np.diag(matrix).sum()) / pixels if pixels else float("nan"),
    )


def percent(value: float) -> str:
    """Return a share as percent with one decimal, a dash for NaN."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _mean(values: npt.NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def _value(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
