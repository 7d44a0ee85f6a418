"""Measuring what a model's confidence means, on frames that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unip.data.labelled.classes import IGNORE
from unip.segmentation.calibration import Calibration
from unip.segmentation.reliability import Reliability, weighted_counts, weighted_error

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


class _ClassPixels:
    """Pixels of one predicted class of a frame: of those that came so far, some that are chosen by lot.

    Each pixel draws a number, and those with the lowest are kept: so it does not matter in which parts they come.

    Args:
        most: How many are kept.
        random: Where numbers are drawn, of this class alone.
    """

    def __init__(self, most: int, random: np.random.Generator) -> None:
        self.most, self.random, self.count = most, random, 0
        self.numbers = np.zeros(0)
        self.logits: npt.NDArray[np.float32] | None = None
        self.truth = np.zeros(0, np.int64)

    def add(self, logits: Tensor, truth: Tensor, places: Tensor) -> None:
        """Take part of them.

        Args:
            logits: float32 ``(C, N)``.
            truth: Class ids ``(N,)``.
            places: Which of the N are predicted as the class.
        """
        self.count += len(places)
        drawn = self.random.random(len(places))
        chosen = np.arange(len(drawn))
        if len(self.numbers) == self.most:
            chosen = np.flatnonzero(drawn < self.numbers.max())
        if len(chosen) > self.most:
            chosen = chosen[_lowest(drawn[chosen], self.most)]
        if not len(chosen):
            return
        places = places[torch.from_numpy(chosen).to(places.device)]
        found = logits[:, places].T.float().cpu().numpy()
        self.logits = found if self.logits is None else np.concatenate([self.logits, found])
        self.truth = np.concatenate([self.truth, truth[places].cpu().numpy()])
        self.numbers = np.concatenate([self.numbers, drawn[chosen]])
        if len(self.numbers) > self.most:
            best = _lowest(self.numbers, self.most)
            self.logits, self.truth, self.numbers = self.logits[best], self.truth[best], self.numbers[best]


def _lowest(numbers: Floats, count: int) -> npt.NDArray[np.intp]:
    return np.argpartition(numbers, count - 1)[:count]


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
        self.random = np.random.default_rng(seed).spawn(len(names))
        self.images = 0
        self.shown = np.zeros(len(names), np.int64)
        self.frame: dict[int, _ClassPixels] = {}  # of the last frame, as far as it came
        self.kept: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]] = []

    def add(self, logits: Tensor, ids: Tensor, truth: Tensor, is_first: bool = True) -> None:
        """Take pixels of a frame, or of rows of one: of its parts together those that would be taken of the whole.

        Args:
            logits: float32 ``(C, H, W)``.
            ids: Predicted class ids ``(H, W)``.
            truth: Class ids ``(H, W)``, 255 without a label.
            is_first: Whether the frame begins with them.
        """
        if is_first:
            self._end_frame()
            self.images += 1
        ids, truth, flat = ids.flatten().long(), truth.flatten().long(), logits.flatten(1)
        predicted = torch.where(truth == IGNORE, len(self.names), ids)
        for class_id, random in enumerate(self.random):
            places = (predicted == class_id).nonzero()[:, 0]
            if len(places):
                pixels = self.frame.setdefault(class_id, _ClassPixels(self.per_class, random))
                pixels.add(flat, truth, places)

    def _end_frame(self) -> None:
        """Keep what was taken of the last frame: only now it is known how many pixels each stands for."""
        for class_id, pixels in self.frame.items():
            assert pixels.logits is not None
            kept = len(pixels.truth)
            ids, weights = np.full(kept, class_id, np.int64), np.full(kept, pixels.count / kept)
            self.kept.append((pixels.logits, ids, pixels.truth, weights))
            self.shown[class_id] += 1
        self.frame = {}

    def measure(self, data: str) -> Reliability | None:
        """Return how far confidence can be trusted on these pixels with the calibration that fits them.

        Args:
            data: What they are of, for messages.

        Returns:
            None if no pixel was labelled.
        """
        self._end_frame()
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
