"""Opening what an evaluation needs: what settings and paths can refuse comes before torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unip.errors import UnipError
from unip.outputs import output_folder, write_text
from unip.paths import is_dir, is_file, resolve
from unip.segmentation.calibration import FILE as CALIBRATION
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.held_out import open_evaluated, recorded_with, trained_on
from unip.segmentation.model_folder import read_model_config
from unip.segmentation.settings import HELD_OUT
from unip.written import HIDDEN
from unip.zoo.catalogue import shipped_folder

if TYPE_CHECKING:
    from unip.segmentation.evaluation import EvaluateResult
    from unip.segmentation.predictor import Predictor

log = logging.getLogger(__name__)


def evaluate_model(config: EvaluateConfig) -> EvaluateResult | None:
    """Do what `unip evaluate` does with a model folder: segment labelled images, compare, write and say what was found.

    With ``config.calibrate``, what the model's confidence means is measured, in place of what its folder says of it;
    it is in the result, and :func:`calibrate_model` keeps it.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Model or data are missing, damaged, or have other classes than each other.
        Interrupted: Stopped by Ctrl-C or SIGTERM among corruptions; the same call goes on with the next one.
    """
    read_model_config(config.model)  # refuses what is no model
    out = config.out or evaluations_of(config.model) / (config.split or "all")
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check(*files_of(config))
        opened = open_evaluated(config)
        from unip.segmentation.evaluation import score_model  # needs torch
        from unip.segmentation.predictor import SegmenterPredictor

        return score_model(config, out, opened, SegmenterPredictor(config))


def files_of(config: EvaluateConfig) -> tuple[str, ...]:
    """Return what an evaluation writes to its folder."""
    return "metrics.json", "evaluation.html", *(["robustness.json"] if config.corruption else [])


def calibrate_model(config: EvaluateConfig) -> EvaluateResult | None:
    """Evaluate a model, and keep in its folder what its confidence means on these images.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: As :func:`evaluate_model` does; or the model was trained on these images, is part of the package, or
            holds a calibration that this program did not write.
    """
    folder, record = read_model_config(config.model)
    if shipped_folder(str(config.model)):
        raise UnipError(
            f"{config.model} is part of the package, which is not written to",
            f"Copy its folder {folder} and calibrate the copy.",
        )
    run = (
        folder.parent if folder.name == "model" and is_dir(folder.parent / HIDDEN) else folder
    )  # has the list of files
    file = folder / CALIBRATION
    refuse_trained_on(config, record)
    with output_folder(run, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check(file.relative_to(run).as_posix())
        result = evaluate_model(config)
        if result is None:
            log.info(f"dry run: would write {file}, too")
            return None
        measured = None if result.reliability is None else result.reliability.calibration
        if measured is None:
            raise UnipError(
                f"no pixel of {config.data} is labelled, so nothing can be said of confidence",
                "Choose other images with --split.",
            )
        write_text(file, measured.model_dump_json() + "\n")
    log.info(f"what confidence means is in {file}, measured on {measured.images} images of {measured.data}")
    return result


def refuse_trained_on(config: EvaluateConfig, record: dict[str, Any]) -> None:
    """See that a model is not calibrated on images that it was trained on, where it is surer than anywhere else.

    Args:
        config: The settings.
        record: The model's ``config.json``.

    Raises:
        UnipError: It is, by the record of its run, or by the data and split that it names.
    """
    fix = f"Give images that it was not trained on: --split val, or --split {HELD_OUT} if some were held out."
    images = open_evaluated(config).data.images
    trained = trained_on(config.model, images, config.data)
    if trained:
        raise UnipError(
            f"{config.model} was trained on {len(trained)} of these {len(images)} images, where it is surer than on "
            "others",
            fix,
        )
    info = record.get("info")
    info = info if isinstance(info, dict) else {}
    data = info.get("data")
    if trained is None and isinstance(data, str) and resolve(Path(data)) == resolve(config.data):
        if info.get("split") == (config.split or info.get("split")):
            raise UnipError(f"{config.model} was trained on {config.split or 'all'} of {config.data}", fix)
    elif trained is None:
        log.warning(
            f"note: whether {config.model} was trained on these images is not known, as its run folder is not there. "
            "If it was, its confidence means less than the calibration says"
        )


def compare_models(
    config: EvaluateConfig, old: Path, open_model: Callable[[EvaluateConfig], Predictor]
) -> EvaluateResult | None:
    """Evaluate ``config.model`` and an older model on the same images, and say how much better the new one is.

    Args:
        config: The settings; the models were looked at already.
        old: The older model.
        open_model: Opens the model of such settings.

    Returns:
        The result of the new model with the comparison, or None for a dry run.

    Raises:
        UnipError: As :func:`evaluate_model` does; or the models share no class but the background.
    """
    name = f"against-{short_name(old)}-{config.split or 'all'}"
    out = config.out or evaluations_of(config.model) / name
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("comparison.json", "comparison.html")
        by_old = config.split == HELD_OUT and recorded_with(config.model) is None and recorded_with(old) is not None
        opened = open_evaluated(config.model_copy(update={"model": old}) if by_old else config)
        if config.split != HELD_OUT:
            opened = replace(opened, notes=())  # on images that were trained on: said of both models
        from unip.segmentation.comparing import compare  # needs torch

        return compare(config, out, opened, open_model)


def short_name(model: Path) -> str:
    """Return what a model is called in names of folders: its run, its folder, or its name if it ships."""
    path = Path(os.path.abspath(model))
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def results_beside(model: Path) -> Path:
    """Return the folder that results about a model go to: its own, one under ``runs`` for a model that ships.

    Of a file, it is ``results/`` beside it, with a folder of the file's name.
    """
    if shipped_folder(str(model)):
        return Path("runs") / model
    return model.parent / "results" / model.name if is_file(model) else model


def evaluations_of(model: Path) -> Path:
    """Return the folder of a model's evaluations: ``evaluation/`` among the results of a folder, or those of a file."""
    results = results_beside(model)
    return results if is_file(model) else results / "evaluation"
