"""Opening what an evaluation needs: what settings and paths can refuse comes before torch."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unip.outputs import output_folder
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.held_out import open_evaluated, recorded_with
from unip.segmentation.model_folder import read_model_config
from unip.segmentation.settings import HELD_OUT
from unip.zoo.catalogue import shipped_folder

if TYPE_CHECKING:
    from unip.segmentation.evaluation import EvaluateResult


def evaluate_model(config: EvaluateConfig, *, calibrate: bool = False) -> EvaluateResult | None:
    """Do what `unip evaluate` does: segment labelled images, compare, write and say what was found.

    With ``config.against``, see :func:`compare_models`.

    Args:
        config: The settings.
        calibrate: Measure what the model's confidence means, in place of what its folder says of it.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Model or data are missing, damaged, or have other classes than each other.
        Interrupted: Stopped by Ctrl-C or SIGTERM among corruptions; the same call goes on with the next one.
    """
    if config.against is not None:
        return compare_models(config, config.against)
    read_model_config(config.model)  # refuses what is no model
    out = config.out or results_beside(config.model) / "evaluation" / (config.split or "all")
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("metrics.json", "evaluation.html", *(["robustness.json"] if config.corruption else []))
        opened = open_evaluated(config)
        from unip.segmentation.evaluation import score_model  # needs torch

        return score_model(config, out, opened, calibrate=calibrate)


def compare_models(config: EvaluateConfig, old: Path) -> EvaluateResult | None:
    """Evaluate ``config.model`` and an older model on the same images, and say how much better the new one is.

    Returns:
        The result of the new model with the comparison, or None for a dry run.

    Raises:
        UnipError: As :func:`evaluate_model` does; or the models share no class but the background.
    """
    for model in (old, config.model):
        read_model_config(model)  # refuses what is no model
    name = f"against-{short_name(old)}-{config.split or 'all'}"
    out = config.out or results_beside(config.model) / "evaluation" / name
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("comparison.json", "comparison.html")
        by_old = config.split == HELD_OUT and recorded_with(config.model) is None and recorded_with(old) is not None
        opened = open_evaluated(config.model_copy(update={"model": old}) if by_old else config)
        if config.split != HELD_OUT:
            opened = replace(opened, notes=())  # on images that were trained on: said of both models
        from unip.segmentation.comparing import compare  # needs torch

        return compare(config, out, opened)


def short_name(model: Path) -> str:
    """Return what a model is called in names of folders: its run, its folder, or its name if it ships."""
    path = Path(os.path.abspath(model))
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def results_beside(model: Path) -> Path:
    """Return the folder that results about a model go to: its own, or one under ``runs`` for a model that ships."""
    return Path("runs") / model if shipped_folder(str(model)) else model
