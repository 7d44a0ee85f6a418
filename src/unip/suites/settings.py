"""What the settings of a cell mean: a fine-tuning, or a fit on frozen features."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from unip.config import Config
from unip.errors import UnipError
from unip.features.config import NeighbourSettings
from unip.limits import MAX_BATCH, MAX_SIDE
from unip.runtime.memory import Cache
from unip.segmentation.config import FinetuneConfig
from unip.suites.suite import TRAINED_KINDS
from unip.suites.tasks import CellTask
from unip.training.config import MACHINE


class LayerSettings(Config):
    """Which layer is probed, and how; the probe is that of `unip analyze --probe`."""

    layer: int | None = None
    short_side: int = Field(448, ge=16, le=MAX_SIDE)
    batch_size: int = Field(4, ge=1, le=MAX_BATCH)
    l2: float = 1e-4
    max_iterations: int = 200
    cache: Annotated[Cache, MACHINE] = "auto"


def check_settings(task: CellTask) -> Config:
    """Return all settings of a cell with their defaults filled in.

    Raises:
        UnipError: One is unknown or does not fit.
    """
    if task.kind in TRAINED_KINDS:
        for choice in choices(task):
            config = finetune_config(task, task.folder / "run", choice)
        return config
    of_kind: type[Config] = NeighbourSettings if task.kind == "knn" else LayerSettings
    settings = of_kind.make(**task.settings)
    if isinstance(settings, LayerSettings) and settings.layer is None and task.val is None:
        raise UnipError(
            f"{task.axes.protocol}: no layer is given, and {task.axes.dataset} has no val to choose one on",
            "Name the data set's `val`, or give `layer` in the protocol's settings.",
        )
    return settings


def choices(task: CellTask) -> list[dict[str, Any]]:
    """Return every combination of the settings to choose from; a single empty one where there is no choice."""
    return [dict(zip(task.choose, values, strict=True)) for values in itertools.product(*task.choose.values())]


def finetune_config(task: CellTask, out: Path, choice: dict[str, Any]) -> FinetuneConfig:
    """Return the fine-tuning that a cell means; `unip finetune` with it does the same by hand."""
    mode = "linear" if task.kind == "linear_probe" else "frozen" if task.settings.get("recipe") == "quick" else "full"
    # nothing that depends on the machine: neither the recipe nor how much fits into a time
    settings = {
        "recipe": "fast",
        "minutes": 0.0,
        **task.settings,
        **choice,
        "model": task.model,
        "from_backbone": True,  # a protocol has its own decoder
        "data": task.data,
        "split": task.train,
        "remap": task.remap,
        "images": task.images,
        "masks": task.masks,
        "mask_suffix": task.mask_suffix,
        "mask_orientation": task.mask_orientation,
        "label_budget": task.label_budget,
        "label_seed": task.seed,
        "seed": task.seed,
        "mode": mode,
        "device": task.device,
        "out": out,
    }
    if task.val is not None:
        settings["val"] = task.val
    else:
        settings["val_share"] = 0.0  # cells are evaluated on test, and trained on all labels of their budget
    return FinetuneConfig.make(**settings)
