"""Checkpoints as safetensors + JSON: no pickle, renamed into place when whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from unip.errors import UnipError
from unip.files import read_json, write_tensors, writing
from unip.training.best import BestWeights
from unip.training.ema import WeightAverage


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Any],
    keep: int,
    average: WeightAverage | None = None,
    best: BestWeights | None = None,
) -> Path:
    """Write ``folder/step-XXXXXXXX`` and delete all but the ``keep`` newest checkpoints.

    Args:
        folder: The run's ``checkpoints``.
        step: Optimiser steps done so far.
        model: Whose state is saved.
        optimizer: Whose state tensors and group settings are saved.
        extra: JSON values that the run wants back when it continues.
        keep: How many checkpoints stay.
        average: The moving average of the model's weights, if there is one.
        best: The best weights so far, where they are judged.

    Raises:
        UnipError: The disk is full or cannot be written; older checkpoints stay as they were.
    """
    path = checkpoint_path(folder, step)
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for key, value in values.items()
    }
    record = {"step": step, "extra": extra, "best": None if best is None else best.record()}
    with writing(path) as temporary:
        temporary.mkdir()
        write_tensors(temporary / "model.safetensors", model.state_dict())
        write_tensors(temporary / "optimizer.safetensors", tensors)
        if average is not None:
            write_tensors(temporary / "ema.safetensors", average.tensors)
        if best is not None:
            write_tensors(temporary / "best.safetensors", best.tensors)
        (temporary / "state.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's folder is named by."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / "state.json").is_file())


def load_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
    best: BestWeights | None = None,
) -> tuple[int, dict[str, Any]]:
    """Put a checkpoint back into ``model``, ``optimizer``, ``average`` and ``best``.

    Returns:
        The step it was taken at and the extra values saved with it.

    Raises:
        UnipError: A file is missing, damaged or of another model.
    """
    record = read_json(path / "state.json")
    try:
        weights = load_file(path / "model.safetensors")
        tensors = load_file(path / "optimizer.safetensors")
        model.load_state_dict(weights)
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        _match_layout(optimizer)
        if average is not None:
            average.load(load_file(path / "ema.safetensors"))
        if best is not None:
            judged = {"judged": record["step"]}  # before it was recorded, what was due had been done
            best.load(judged | record["best"], load_file(path / "best.safetensors"))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise UnipError(
            f"cannot continue from {path}: {error}",
            "Delete that checkpoint folder to continue from the one before, or start anew with --overwrite.",
        ) from error
    return int(record["step"]), dict(record["extra"])


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give each moment its parameter's memory layout: files hold plain rows, fused AdamW walks both side by side."""
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
