"""Opening what an evaluation needs: what settings and paths can refuse comes before torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unip.outputs import output_folder
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.held_out import open_evaluated
from unip.segmentation.model_folder import read_model_config
from unip.zoo.catalogue import shipped_folder

if TYPE_CHECKING:
    from unip.segmentation.evaluation import EvaluateResult


def evaluate_model(config: EvaluateConfig) -> EvaluateResult | None:
    """Do what `unip evaluate` does: segment labelled images, compare, write and say what was found.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Model or data are missing, damaged, or have other classes than each other.
        Interrupted: Stopped by Ctrl-C or SIGTERM among corruptions; the same call goes on with the next one.
    """
    read_model_config(config.model)  # refuses what is no model
    out = config.out or results_beside(config.model) / "evaluation" / (config.split or "all")
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("metrics.json", "evaluation.html", *(["robustness.json"] if config.corruption else []))
        opened = open_evaluated(config)
        from unip.segmentation.evaluation import score_model  # needs torch

        return score_model(config, out, opened)


def results_beside(model: Path) -> Path:
    """Return the folder that results about a model go to: its own, or one under ``runs`` for a model that ships."""
    return Path("runs") / model if shipped_folder(str(model)) else model
