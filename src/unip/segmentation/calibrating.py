"""Measuring what a model's confidence means, on frames that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, log

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.labelled.classes import IGNORE
from unip.segmentation.calibration import Calibration
from unip.segmentation.reliability import WHOLE, FramePart, Reliability, weighted_counts, weighted_error

BUDGET = 400_000  # pixels that are kept of all frames together, about
MIN_PIXELS = 8  # of each predicted class of a frame
TEMPERATURES = (0.2, 20.0)  # within which it is searched: frames without an error would ask for 0
HALVINGS = 40  # of that range: far below what matters

Floats = npt.NDArray[np.float64]


def fit_temperature(logits: Floats, truth: npt.NDArray[np.int64], weights: Floats) -> float:
    """Return the temperature T with the least negative log-likelihood of ``softmax(z / T)``.

    In b = 1 / T it is convex, and its derivative is the mean of ``sum_c p_c z_c - z_truth`` (Guo et al., 2017): its
    zero is found by halving.

    Args:
        logits: ``(N, C)``.
        truth: Class ids ``(N,)``.
        weights: Of each pixel, ``(N,)``.
    """
    logits = logits - logits.max(1, keepdims=True)
    true = (weights * np.take_along_axis(logits, truth[:, None], 1)[:, 0]).sum()

    def slope(b: float) -> float:
        shares = np.exp(b * logits)
        expected = (shares * logits).sum(1) / shares.sum(1)
        return float((weights * expected).sum() - true)

    low, high = log(1 / TEMPERATURES[1]), log(1 / TEMPERATURES[0])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(exp(middle)) < 0 else (low, middle)
    return 1 / exp((low + high) / 2)


class PixelSample:
    """Logits of labelled pixels of frames: some of each predicted class in each frame, with what they stand for.

    Rare classes are kept whole, so that their thresholds are known as well as those of large ones.

    Args:
        names: Of the classes.
        images: How many frames will come.
        seed: Which pixels are taken.
    """

    def __init__(self, names: Sequence[str], images: int, seed: int = 0) -> None:
        self.names = tuple(names)
        self.per_class = max(MIN_PIXELS, BUDGET // (max(1, images) * len(names)))
        self.random = np.random.default_rng(seed)
        self.images = 0
        self.shown = np.zeros(len(names), np.int64)
        self._seen: set[int] = set()  # classes that the frame shows, as far as it came
        self.kept: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]] = []

    def add(self, logits: Tensor, ids: Tensor, truth: Tensor, part: FramePart = WHOLE) -> None:
        """Take pixels of a frame, or of rows of one: of its parts together about as many as of the whole.

        Args:
            logits: float32 ``(C, H, W)``.
            ids: Predicted class ids ``(H, W)``.
            truth: Class ids ``(H, W)``, 255 without a label.
            part: Which part of the frame it is.
        """
        if part.is_first:
            self.images += 1
            self._seen = set()
        most = max(1, ceil(self.per_class * part.share))
        ids, truth, flat = ids.flatten().long(), truth.flatten().long(), logits.flatten(1)
        predicted = torch.where(truth == IGNORE, len(self.names), ids)
        for class_id in range(len(self.names)):
            places = (predicted == class_id).nonzero()[:, 0]
            count = len(places)
            if not count:
                continue
            self.shown[class_id] += class_id not in self._seen
            self._seen.add(class_id)
            if count > most:
                chosen = self.random.choice(count, most, replace=False)
                places = places[torch.from_numpy(chosen).to(places.device)]
            self.kept.append(
                (
                    flat[:, places].T.float().cpu().numpy(),
                    ids[places].cpu().numpy(),
                    truth[places].cpu().numpy(),
                    np.full(len(places), count / len(places)),
                )
            )

    def measure(self, data: str) -> Reliability | None:
        """Return how far confidence can be trusted on these pixels with the calibration that fits them.

        Args:
            data: What they are of, for messages.

        Returns:
            None if no pixel was labelled.
        """
        if not self.kept:
            return None
        logits, ids, truth, weights = (np.concatenate(each) for each in zip(*self.kept, strict=True))
        logits = logits.astype(np.float64)
        temperature = round(fit_temperature(logits, truth, weights), 4)
        right = ids == truth
        fitted, plain = (_confidence(logits, each) for each in (temperature, 1.0))
        classes = len(self.names)
        good, bad = (weighted_counts(fitted[of], ids[of], weights[of], classes) for of in (right, ~right))
        calibration = Calibration(
            temperature=temperature,
            data=data,
            images=self.images,
            right=tuple(map(tuple, good.tolist())),
            wrong=tuple(map(tuple, bad.tolist())),
            shown=tuple(self.shown.tolist()),
        )
        ece, uncalibrated = (weighted_error(each, right, weights) for each in (fitted, plain))
        return Reliability(self.names, ece, uncalibrated, good, bad, calibration)


def _confidence(logits: Floats, temperature: float) -> Floats:
    shifted = (logits - logits.max(1, keepdims=True)) / temperature
    return np.asarray(1 / np.exp(shifted).sum(1))
