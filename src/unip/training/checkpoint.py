"""Checkpoints as safetensors + JSON: no pickle, renamed into place when whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from unip.errors import UnipError
from unip.files import write_tensors
from unip.opening import check_regular
from unip.outputs import remove, set_aside, writing
from unip.training.best import BestWeights
from unip.training.checksums import DamagedCheckpoint, read_state, verify, write_state
from unip.training.ema import WeightAverage
from unip.training.run_folder import checkpoint_path, list_checkpoints, list_damaged, step_of


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
    parts = {"model": model.state_dict(), "optimizer": tensors}
    if average is not None:
        parts["ema"] = average.tensors
    if best is not None:
        parts["best"] = best.tensors
    with writing(path) as temporary:
        temporary.mkdir()
        files = {f"{name}.safetensors": part for name, part in parts.items()}
        write_state(temporary, record, {name: write_tensors(temporary / name, part) for name, part in files.items()})
    for old in list_checkpoints(folder)[:-keep]:
        remove(old)
    return path


@dataclass(frozen=True)
class WholeCheckpoint:
    """A checkpoint to continue from, and what to say about it and about newer ones that are damaged.

    Attributes:
        path: The checkpoint.
        message: What to say.
        damaged: Whether newer ones are damaged.
    """

    path: Path
    message: str
    damaged: bool


def newest_whole(folder: Path) -> WholeCheckpoint | None:
    """Find the newest checkpoint whose files are what was written, and set damaged newer ones aside.

    These are renamed to ``damaged-step-XXXXXXXX``, so that their steps can be written again, and are never deleted.
    Where no checkpoint is whole, all keep their names.

    Args:
        folder: The run's ``checkpoints``.

    Returns:
        It; None where none was ever written.

    Raises:
        UnipError: There are checkpoints, none of them whole; one cannot be read, or a damaged one not be renamed.
    """
    damaged: list[DamagedCheckpoint] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            verify(path)
        except DamagedCheckpoint as error:
            damaged.append(error)
            continue
        notes = [f"{error.what}; it is kept as {set_aside(error.path).name}" for error in damaged]
        goes_on = f"continuing from {path}"
        message = "; ".join([*notes, f"{goes_on}, step {step_of(path)}"]) if notes else goes_on
        return WholeCheckpoint(path, message, damaged=bool(damaged))
    before = list_damaged(folder)
    if damaged or before:
        notes = [*(error.what for error in damaged), *(f"{path} was found damaged before" for path in before)]
        raise UnipError(
            f"cannot continue: no whole checkpoint is left ({'; '.join(notes)})",
            "Put a whole copy of a checkpoint there, or start over with --overwrite, which deletes them.",
        )
    return None


def load_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
    best: BestWeights | None = None,
    verified: bool = False,
) -> tuple[int, dict[str, Any]]:
    """Put a checkpoint back into ``model``, ``optimizer``, ``average`` and ``best``.

    Args:
        path: The checkpoint.
        model: Takes its weights.
        optimizer: Takes its state tensors.
        average: Takes its moving average, if there is one.
        best: Takes its best weights, where they are judged.
        verified: Its files were compared with their checksums just now, here; else they are before they are used.

    Returns:
        The step it was taken at and the extra values saved with it.

    Raises:
        UnipError: A file is missing, damaged or of another model.
    """
    if not verified:
        verify(path)
    record = read_state(path)
    try:
        for file in path.glob("*.safetensors"):
            check_regular(file)
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
        lines = [line.strip() for line in str(error).splitlines()[:4]]  # torch lists all keys and shapes
        raise UnipError(
            f"cannot continue from {path}: {' '.join(lines)[:600]}",
            "It does not fit this run: choose another --out, start over with --overwrite, or remove that checkpoint.",
        ) from error
    return int(record["step"]), dict(record["extra"])


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give each moment its parameter's memory layout: files hold plain rows, fused AdamW walks both side by side."""
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
