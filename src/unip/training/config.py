"""Settings that both training programs share."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from unip.config import Config, Setting
from unip.limits import MAX_BATCH, MAX_COUNT, MAX_PIXELS
from unip.runtime.settings import MaxPixels

DEFAULT_STEPS = 1000

MACHINE = Setting(machine=True, resume="always")


class TrainingConfig(Config):
    """How long, where and how to train; each program adds what it trains.

    Attributes:
        bfloat16_on_processors: Whether precision ``auto`` may be bf16 on the CPU, where that is faster.
    """

    bfloat16_on_processors: ClassVar[bool] = False

    out: Annotated[Path, replace(MACHINE, decided_by="bench")] = Field(
        description="Run folder; the same command run again continues an interrupted run."
    )
    steps: Annotated[int, Setting(empty_is_auto=True)] = Field(
        0, ge=0, le=MAX_COUNT, description="Optimiser steps; 0: as many as epochs make, or 1000 without epochs."
    )
    epochs: float | None = Field(None, gt=0, description="Passes over the data, where steps are not given.")
    batch_size: int = Field(64, ge=1, le=MAX_BATCH, description="Samples per step, over all devices together.")
    accumulate: int = Field(
        1, ge=1, le=MAX_BATCH, description="Split each device's share of a batch into this many passes."
    )
    seed: Annotated[int, Setting(decided_by="grid")] = Field(
        0, ge=0, description="Seed of weights, sample order and augmentation."
    )
    clip: float | None = Field(None, gt=0, description="Largest gradient norm; none: no limit.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of a moving average of the weights, which then is the result; none: off."
    )
    checkpoint_activations: Annotated[bool, MACHINE] = Field(
        False, description="Compute activations again in the backward pass: less memory, slower."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Setting(machine=True)] = Field(
        "auto", description="Where to run."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic; auto: bf16 where the GPU, or in fine-tuning the CPU, computes in it; on older GPUs "
        "fp16; else fp32.",
    )
    compile: bool | Literal["auto", "graphs", "compiled-graphs"] = Field(
        "auto",
        description="torch.compile the step; auto: on GPUs only; graphs: a CUDA graph, ready at once; compiled-graphs: "
        "both.",
    )
    workers: Annotated[Annotated[int, Field(ge=0)] | Literal["auto"], MACHINE] = Field(
        "auto", description="Loader processes; auto: one a core, up to 16, or 4 where the GPU cuts crops."
    )
    log_every: Annotated[int, MACHINE] = Field(10, ge=1, description="Steps between lines of log.jsonl.")
    checkpoint_every: Annotated[int, MACHINE] = Field(500, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: Annotated[int, MACHINE] = Field(
        2, ge=1, description="How many of the newest checkpoints stay on disk."
    )
    tensorboard: Annotated[bool, MACHINE] = Field(True, description="Also log to TensorBoard where it is installed.")
    max_pixels: MaxPixels = MAX_PIXELS
    overwrite: Annotated[bool, MACHINE] = Field(False, description="Start over in a folder that holds another run.")
    dry_run: Annotated[bool, replace(MACHINE, decided_by="bench")] = Field(
        False, description="Check data and shapes, print what would happen, write nothing."
    )

    def may_change(self, name: str, *, finished: bool = False) -> bool:
        """Say whether a setting may differ between this run and its continuation.

        Args:
            name: Of the setting.
            finished: Whether only the run's model is left, and none of its checkpoints.
        """
        about = self.about(name)
        if about.resume_unless and getattr(self, about.resume_unless) is not None:
            return False
        return about.resume == "always" or (about.resume == "unfinished" and not finished)

    def count_steps(self, samples: int) -> int:
        """Return the optimiser steps that the settings mean for a data set of ``samples``."""
        if self.steps or self.epochs is None:
            return self.steps or DEFAULT_STEPS
        return math.ceil(self.epochs * samples / self.batch_size)

    @property
    def graphed(self) -> bool:
        """Say whether a pass is captured as a CUDA graph."""
        return self.compile in ("graphs", "compiled-graphs")

    def is_compiled(self, on_gpu: bool) -> bool:
        """Say whether torch.compile makes the kernels of a pass."""
        return on_gpu if self.compile == "auto" else self.compile in (True, "compiled-graphs")

    def is_open(self, name: str) -> bool:
        """Say whether a setting is left to be chosen when the data is known: at ``auto``, or empty instead."""
        value = getattr(self, name)
        return value == "auto" or (self.about(name).empty_is_auto and not value)
