"""The settings of `unip demo`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from unip.config import Config

INITS = ("scratch", "distilled", "zoo")


class DemoConfig(Config):
    """How much of the workflow to run; the defaults take a few minutes on two cores."""

    out: Path = Field(Path("runs/demo"), description="Folder of the scenes, the runs and the page.")
    scenes: tuple[int, int] = Field((240, 60), description="Scenes to train on and to test on.")
    distil_steps: int = Field(220, ge=1, description="Distillation steps of 48 crops.")
    finetune_steps: int = Field(
        120, ge=1, description="Fine-tuning steps of 8 crops for the small student, for each init and seed."
    )
    zoo_steps: int = Field(150, ge=1, description="Steps of the decoder on unip-ir-tiny, for each seed.")
    label_budget: int = Field(24, ge=1, description="Number of labelled scenes to fine-tune on, drawn for each seed.")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="Seeds of labels, weights and crops.")
    overwrite: bool = Field(False, description="Start over in a folder that holds another demo.")
    dry_run: bool = Field(False, description="Say what would happen, write nothing.")
