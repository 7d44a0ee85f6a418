"""Judging the weights while they are trained: the best are the result, and training ends when none better come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Evaluation:
    """How a program judges its weights.

    Attributes:
        score: Called on the first rank only, with the trained module in evaluation mode and, where there are averaged
            weights, with these; returns a finite number, higher is better. It is given a function that says whether
            someone asked to stop, and returns None if it therefore did.
        name: What the log calls that number.
        every: Steps from one evaluation to the next; the last step has one too.
        patience: Training ends after this many evaluations in a row that found nothing better; None: it does not.
    """

    score: Callable[[Callable[[], bool]], float | None]
    name: str
    every: int
    patience: int | None = None


class BestWeights:
    """The best weights of a run so far, in main memory; checkpoints hold them too.

    A checkpoint has the best of all evaluations up to its step, so a run that goes on from any of them judges as it did
    the first time.

    Attributes:
        score: Of the best weights; None before the first evaluation.
        step: After which they were taken.
        waited: Evaluations since then.
        judged: Step of the last evaluation.
        tensors: The weights by name.
    """

    def __init__(self) -> None:
        self.score: float | None = None
        self.step = 0
        self.waited = 0
        self.judged = 0
        self.tensors: dict[str, torch.Tensor] = {}

    def offer(self, score: float, step: int, module: nn.Module) -> None:
        """Take a module's weights if they are better than all before; of equal ones the earlier stay."""
        self.judged = step
        if self.score is not None and score <= self.score:
            self.waited += 1
            return
        self.score, self.step, self.waited = score, step, 0
        self.tensors = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}

    def record(self) -> dict[str, float | None]:
        """Return what is not tensors, as JSON values."""
        return {"score": self.score, "step": self.step, "waited": self.waited, "judged": self.judged}

    def load(self, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what a checkpoint holds."""
        self.score, self.step, self.waited = record["score"], int(record["step"]), int(record["waited"])
        self.judged = int(record["judged"])
        self.tensors = dict(tensors)
