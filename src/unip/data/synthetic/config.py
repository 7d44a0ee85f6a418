"""The settings of `unip data scenes`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from unip.config import Config

MIN_SIDE = 32

SPLITS = ("train", "val", "test")


class ScenesConfig(Config):
    """What to generate and where."""

    out: Path = Field(description="Folder to make: train, val and test, each with images, masks, visible, thermal16.")
    count: int = Field(1000, ge=1, le=1_000_000, description="Number of scenes.")
    size: tuple[int, int] = Field((256, 320), description="Height and width in pixels.")
    seed: int = Field(0, ge=0, description="Another seed gives other scenes.")
    splits: tuple[float, float, float] = Field(
        (0.8, 0.1, 0.1), description="Shares of train, val and test that add up to 1, or their counts."
    )
    workers: int | Literal["auto"] = Field("auto", description="Processes; auto: one for each core.")
    overwrite: bool = Field(False, description="Replace scenes of other settings.")
    dry_run: bool = Field(False, description="Say what would be written, write nothing.")

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(MIN_SIDE <= side <= 4096 for side in size):
            raise ValueError(f"height and width must be between {MIN_SIDE} and 4096")
        return size

    @field_validator("workers")
    @classmethod
    def _check_workers(cls, workers: int | Literal["auto"]) -> int | Literal["auto"]:
        if workers != "auto" and workers < 1:
            raise ValueError("workers must be auto or at least 1")
        return workers

    @model_validator(mode="after")
    def _check_splits(self) -> ScenesConfig:
        if min(self.splits) < 0 or not (math.isclose(sum(self.splits), 1.0, abs_tol=1e-6) or self._are_counts()):
            raise ValueError(
                f"splits must be three shares that add up to 1 or three counts that add up to {self.count}, "
                f"got {', '.join(f'{part:g}' for part in self.splits)}"
            )
        return self

    def _are_counts(self) -> bool:
        return all(float(part).is_integer() for part in self.splits) and sum(self.splits) == self.count

    def counts(self) -> dict[str, int]:
        """Number of scenes of each split; shares are rounded so that they add up to ``count``."""
        if self._are_counts():
            return {name: int(part) for name, part in zip(SPLITS, self.splits, strict=True)}
        ends = [round(self.count * sum(self.splits[: i + 1])) for i in range(len(SPLITS))]
        return {name: end - start for name, start, end in zip(SPLITS, [0, *ends], ends, strict=False)}
