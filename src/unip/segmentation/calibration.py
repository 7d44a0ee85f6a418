"""What a model's confidence means: a temperature, and from which confidence on a class is right often enough.

A network is usually too sure of itself. One number, the temperature T, by which logits are divided before the softmax,
corrects that without changing which class is the largest (Guo et al., "On calibration of modern neural networks",
ICML 2017). How often pixels of a confidence were wrong on frames that were not trained on then tells from which
confidence on a class can be used at a wanted risk (selective classification: Geifman and El-Yaniv, NeurIPS 2017).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from unip.config import Config, describe_validation
from unip.errors import UnipError
from unip.files import read_json
from unip.paths import is_file

FILE = "calibration.json"  # beside the weights of a model
LOWEST, STEP, BINS = -6.0, 0.1, 240  # of log(p / (1 - p)), the log-odds of a confidence p: 0.2 % to 1 - 2e-8
NEVER = 2.0  # a threshold that no confidence reaches

Confidence = npt.NDArray[np.float32]


def bin_of(confidence: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
    """Return the bin of each confidence, ``BINS`` equal ones of its log-odds; the outer ones hold all beyond."""
    p = confidence.astype(np.float64)
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    return np.clip(np.floor((odds - LOWEST) / STEP), 0, BINS - 1).astype(np.int64)


def lowest_of(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the lowest confidence of each bin."""
    return np.where(bins == 0, 0.0, 1 / (1 + np.exp(-(LOWEST + STEP * bins))))


class Calibration(Config):
    """How confident and how right a model was on frames that it was not trained on.

    Counts are of pixels by predicted class and by the bin of their confidence, see :func:`bin_of`; where pixels were
    sampled, each counts for as many as it stands for.
    """

    temperature: float = Field(gt=0, description="What logits are divided by before the softmax.")
    data: str = Field(description="What it was measured on.")
    images: int = Field(ge=1, description="How many images those were.")
    right: tuple[tuple[int, ...], ...] = Field(description="Pixels that were right: a row for each predicted class.")
    wrong: tuple[tuple[int, ...], ...] = Field(description="Pixels that were wrong.")
    shown: tuple[int, ...] = Field(description="In how many images each class was predicted.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        rows = (*self.right, *self.wrong)
        if len(self.right) != len(self.shown) or len(self.wrong) != len(self.shown):
            raise ValueError("right, wrong and shown must have a row for each class")
        if any(len(row) != BINS or min(row) < 0 for row in rows):
            raise ValueError(f"right and wrong must hold {BINS} counts for each class")
        return self

    @classmethod
    def read(cls, folder: Path, classes: int) -> Self | None:
        """Read what a model folder holds; None if it holds none.

        Args:
            folder: Of the model.
            classes: How many it has.

        Raises:
            UnipError: It is damaged, or of another model.
        """
        file = folder / FILE
        if not is_file(file):
            return None
        fix = "Copy the whole model folder again; without this file, confidence is not calibrated."
        try:
            found = cls.model_validate(read_json(file))
        except ValidationError as error:
            raise UnipError(f"{file}: {describe_validation(error)}", fix) from None
        except UnipError as error:
            raise UnipError(f"{file}: {error.what}", error.fix or fix) from None
        if len(found.shown) != classes:
            raise UnipError(f"{file} is of {len(found.shown)} classes, and the model has {classes}", fix)
        return found

    def thresholds(self, risk: float) -> Confidence:
        """Return from which confidence on pixels of each class are wrong in at most a share ``risk``.

        For a class that was predicted in F images, it is the least t with ``(F R(t) + 1) / (F + 1) <= risk``, where
        R(t) is the share of its pixels of a confidence of at least t that were wrong. Pixels of one image are alike, so
        images are what was seen; the added 1 is the correction for few of them of conformal risk control
        (Angelopoulos et al., 2022; its guarantee is of other risks, not of this one): 9 images cannot show 5 %.

        Args:
            risk: Wanted share of wrong pixels, between 0 and 1.

        Returns:
            float32 ``(C,)``; :data:`NEVER` for a class that no threshold makes as reliable.

        Raises:
            UnipError: The risk is no share.
        """
        if not 0 < risk < 1:
            raise UnipError(f"risk {risk:g} is no share of pixels", "Give a number between 0 and 1, such as 0.05.")
        right, wrong = np.asarray(self.right, np.float64), np.asarray(self.wrong, np.float64)
        count, errors = _from_above(right + wrong), _from_above(wrong)
        share = np.divide(errors, count, out=np.ones_like(count), where=count > 0)
        shown = np.asarray(self.shown, np.float64)[:, None]
        good = (count > 0) & ((shown * share + 1) / (shown + 1) <= risk)
        least = np.where(good.any(1), lowest_of(good.argmax(1)), NEVER)
        return least.astype(np.float32)


def _from_above(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum counts ``(C, bins)`` from each bin on to the last."""
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]


def unsure(
    ids: npt.NDArray[np.uint8], confidence: Confidence, thresholds: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.bool_]:
    """Return which pixels are less sure than the threshold of their class.

    Args:
        ids: Class ids ``(H, W)``.
        confidence: Of each pixel, ``(H, W)``.
        thresholds: Of each class, ``(C,)``.
    """
    return np.asarray(confidence < thresholds.astype(np.float32)[ids])
