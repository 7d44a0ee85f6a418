"""`unip evaluate`, `unip predict` and `unip export`: what settings and paths can refuse comes before torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unip.config import verb
from unip.data.images.files import check_images
from unip.deployment.config import PredictConfig
from unip.deployment.engines.opening import check_model, is_exported
from unip.deployment.export.config import ExportConfig
from unip.deployment.names import name_outputs, result_files
from unip.errors import UnipError
from unip.outputs import output_folder
from unip.paths import exists, is_file
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.model_folder import is_model, read_model_config

COMPARING = "Compare with: unip evaluate OLD NEW DATA; evaluate one model with: unip evaluate MODEL DATA --split SPLIT."

if TYPE_CHECKING:
    from unip.deployment.export.program import ExportResult
    from unip.deployment.prediction import PredictResult
    from unip.segmentation.evaluation import EvaluateResult
    from unip.segmentation.predictor import Predictor


@verb(EvaluateConfig)
def evaluate(config: EvaluateConfig) -> EvaluateResult | None:
    """Segment labelled images and compare; of a model folder, or of a file of `unip export`.

    Images are resized to the model's short side with their ratio kept and segmented in overlapping windows whose
    logits are averaged; the logits are resized to the stored size and compared with the mask there. One confusion
    matrix over all images gives every score. Results: ``metrics.json`` and ``evaluation.html`` with the worst frames.
    The same is done for each corruption, whose images are corrupted as soon as they are 8-bit, at their own size. These
    scores go to ``robustness.json`` one after the other, and those that are there already are not computed again.
    With ``against``, both models are evaluated on the same images, and ``comparison.json`` and ``comparison.html`` say
    how much better the new one is. An exported file is also compared with the model that it was made from, if that is
    there: ``acceptance.json``. With ``calibrate``, ``calibration.json`` in the model folder says what confidence means.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Model or data are missing, damaged, or have other classes than each other; the model was trained on
            the images that it is to be calibrated on; or an exported file loses too much against its model.
        Interrupted: Stopped by Ctrl-C or SIGTERM among corruptions; the same call goes on with the next one.
    """
    config = sort_models(config)
    for model in (config.model, *([config.against] if config.against else [])):
        check_model(str(model))
    exported = is_exported(config.model)
    if config.against is None:
        check_kind(config, exported)
        if exported:
            from unip.deployment.evaluating import evaluate_file  # needs numpy, and what runs the file

            return evaluate_file(config)
    # needs numpy, as the layouts of labelled data do
    from unip.segmentation.evaluating import calibrate_model, compare_models, evaluate_model

    if config.against is not None:
        return compare_models(config, config.against, _open_predictor)
    return calibrate_model(config) if config.calibrate else evaluate_model(config)


def check_kind(config: EvaluateConfig, exported: bool) -> None:
    """Refuse settings that are not of a model folder, or not of an exported file.

    Raises:
        UnipError: One is given.
    """
    if exported and config.calibrate:
        raise UnipError(
            f"{config.model} is an exported file, which says what its confidence means since it was made",
            "Calibrate the model folder, and export it again.",
        )
    if exported and config.window == "slide":
        raise UnipError(
            f"{config.model} is an exported file, which sees frames whole, and sliding windows were requested",
            "Leave --window out, or give the model folder.",
        )
    given = [name for name in ("reference", "tolerance") if name in config.model_fields_set]
    if not exported and given:
        raise UnipError(
            f"{given[0]} is for exported files, and {config.model} is a model folder",
            f"Leave out --{' and --'.join(given)}; to compare two models: unip evaluate OLD NEW DATA.",
        )


def _open_predictor(config: EvaluateConfig) -> Predictor:
    from unip.deployment.evaluation import open_predictor  # needs torch

    return open_predictor(config)


def sort_models(config: EvaluateConfig) -> EvaluateConfig:
    """Put ``OLD NEW DATA``, which words without names fill in as model, data and against, where they belong.

    Settings that are given by their names stay as they are: there, ``data`` is no model.

    Raises:
        UnipError: A comparison needs two models and data, and these are others.
    """
    data_is_model = _is_model(config.data)
    if config.against is None:
        if data_is_model:
            raise UnipError(f"{config.data} is a model, and there is no labelled data to evaluate on", COMPARING)
        return config
    against_is_model = _is_model(config.against)
    if data_is_model and not against_is_model and _is_model(config.model):
        return config.model_copy(update={"model": config.data, "against": config.model, "data": config.against})
    if against_is_model and not data_is_model:
        return config  # of the model, what opens it says what is wrong
    given = [f"{path} {_kind(path)}" for path in (config.model, config.data, config.against)]
    raise UnipError(f"a comparison needs two segmentation models and labelled data, but {', '.join(given)}", COMPARING)


def _is_model(path: Path) -> bool:
    return (is_exported(path) and is_file(path)) or is_model(path)


def _kind(path: Path) -> str:
    if _is_model(path):
        return "is a model"
    return "is not a segmentation model" if exists(path) else "does not exist"


@verb(PredictConfig)
def predict(config: PredictConfig) -> PredictResult | None:
    """Segment images; write indexed masks, overlays and, if wanted, probabilities.

    ``masks/NAME.png`` holds class ids (and shows the classes' colours), ``overlays/NAME.png`` the tinted image with a
    legend, ``probabilities/NAME.npz`` the array ``probabilities``; ``predictions.json`` lists them with each class's
    share of the pixels. NAME is the path within the given folder, with ``-2``, ``-3`` ... where names would meet.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: The model or an image folder is missing; or, after all others were written, some images are damaged.
    """
    check_model(str(config.model))
    if config.engine == "torch" and is_exported(config.model) and config.model.suffix.lower() != ".pt2":
        raise UnipError(
            f"{config.model} is an exported file, which torch does not run",
            "Leave --engine out, or give the model folder.",
        )
    names = name_outputs(config.images, config.out)
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check(
            "predictions.json", *(file for name in names.values() for file in result_files(name, config).values())
        )
        from unip.deployment.prediction import segment_images  # needs torch

        return segment_images(config, names)


@verb(ExportConfig)
def export(config: ExportConfig) -> ExportResult | None:
    """Write a model as a file for another engine, and compare both on the same frames.

    The file holds all that happens between a frame and its mask: conversion to 8 bits, resizing, normalisation,
    padding, the model, and resizing back. It says about itself what classes, sizes and licences it has, and carries
    three frames with their masks.

    Returns:
        The file and how it compares with the model, or None for a dry run.

    Raises:
        UnipError: The model is missing, the engine cannot take it or is not installed; or the file gives other masks
            than the model, which is then kept under another name.
    """
    from unip.deployment.export.files import ExportFiles, check_engine, open_data  # needs numpy

    read_model_config(config.model)  # refuses what is no model
    files = ExportFiles.of(config)
    for frames in (*config.golden, *config.calibration):
        check_images(frames)
    with output_folder(files.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check(*files.all)
        opened = open_data(config)
        check_engine(config.to, config.precision)
        from unip.deployment.export.program import export_model  # needs torch

        return export_model(config, files, opened)
