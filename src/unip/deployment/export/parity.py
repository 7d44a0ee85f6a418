"""What a file and the model in torch give for the same frames, counted frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from unip.data.labelled.classes import IGNORE
from unip.deployment.export.metadata import ExportMetadata
from unip.segmentation.metrics import Scores, confusion, score
from unip.segmentation.reliability import ReliabilityCounter

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Parity:
    """How the masks of a file compare with those of the model in torch, on the same frames.

    Attributes:
        frames: Of how many frames.
        agreement: Share of their pixels that have the same class.
        logit_difference: The largest difference of two logits, in spreads (largest less least) of the frame's logits;
            infinite where a logit of the file is no number.
        scores: Of the file, if there are labels.
        model_scores: Of the model in torch.
        ece: Expected calibration error of the file's confidence, by the calibration that both have; None: no labels.
        model_ece: That of the model in torch.
    """

    frames: int
    agreement: float
    logit_difference: float
    scores: Scores | None = None
    model_scores: Scores | None = None
    ece: float | None = None
    model_ece: float | None = None

    @property
    def lost(self) -> float | None:
        """Points of mIoU that the file loses; None: there are no labels."""
        if self.scores is None or self.model_scores is None:
            return None
        return _or_none(100 * (self.model_scores.miou - self.scores.miou))

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        found: dict[str, object] = {
            "frames": self.frames,
            "pixel_agreement": self.agreement,
            "largest_logit_difference": self.logit_difference if math.isfinite(self.logit_difference) else None,
        }
        if self.scores is not None and self.model_scores is not None:
            found |= {
                "lost_miou": self.lost,
                "file": {**self.scores.to_dict(), "ece": self.ece},
                "model": {**self.model_scores.to_dict(), "ece": self.model_ece},
            }
        return found


class Compared(Protocol):
    """What a file or a model gives for a frame, or rows of one."""

    @property
    def ids(self) -> npt.NDArray[np.uint8]:
        """Class ids ``(n, W)``."""

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Float32 ``(C, n, W)``."""


class ParityCounter:
    """Adds up frame by frame what :class:`Parity` tells.

    Args:
        metadata: Of the file.
    """

    def __init__(self, metadata: ExportMetadata) -> None:
        self.names = metadata.classes.names
        self.frames = self.same = self.pixels = 0
        self.difference = 0.0
        self.matrices = np.zeros((2, len(self.names), len(self.names)), np.int64)
        self.sure = [ReliabilityCounter(self.names, metadata.calibration) for _ in range(2)]
        self.labelled = False
        self._begin_frame()

    def add(self, found: Compared, expected: Compared, truth: Array | None = None) -> None:
        """Compare a frame, see :meth:`add_rows`."""
        self.add_rows(found, expected, truth)
        self.end_frame()

    def _begin_frame(self) -> None:
        self._least, self._most, self._apart = math.inf, -math.inf, 0.0

    def end_frame(self) -> None:
        """Compare logits of the frame whose rows were added."""
        self.frames += 1
        difference = self._apart / max(self._most - self._least, 1e-9)
        self.difference = math.inf if math.isnan(difference) else max(self.difference, difference)
        self._begin_frame()

    def add_rows(self, found: Compared, expected: Compared, truth: Array | None = None) -> None:
        """Compare rows of a frame.

        Args:
            found: What the file gives.
            expected: What the model gives in torch.
            truth: Class ids ``(n, W)``, 255 without a label; None: there are no labels.
        """
        self.same += int((found.ids == expected.ids).sum())
        self.pixels += expected.ids.size
        self._least = min(self._least, float(expected.logits.min()))
        self._most = max(self._most, float(expected.logits.max()))
        # NaN stays
        self._apart = float(np.maximum(self._apart, np.abs(found.logits - expected.logits).max()))
        if truth is None:
            return
        self.labelled = True
        true = torch.from_numpy(truth)
        for one, matrix, counter in zip((found, expected), self.matrices, self.sure, strict=True):
            ids = torch.from_numpy(one.ids)
            matrix += confusion(ids, true, len(self.names), IGNORE).numpy()
            counter.add(torch.from_numpy(one.logits), ids, true)

    def finish(self) -> Parity:
        """Return what was counted."""
        share = self.same / self.pixels
        if not self.labelled:
            return Parity(self.frames, share, self.difference)
        mine, other = (score(matrix, self.names) for matrix in self.matrices)
        ece, model_ece = (_or_none(each.finish().ece) for each in self.sure)
        return Parity(self.frames, share, self.difference, mine, other, ece, model_ece)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
