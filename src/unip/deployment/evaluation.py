"""`unip evaluate` of an exported file: its scores, and whether it gives the masks of the model it was made from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from unip.data.labelled.matching import match_classes
from unip.deployment.config import LoadConfig
from unip.deployment.engines.exported import open_exported
from unip.deployment.engines.opening import is_exported
from unip.deployment.export.acceptance import compare_on_data, warn_of_corrupted
from unip.deployment.export.file_predictor import BesideModel, FilePredictor, check_pictures
from unip.deployment.export.metadata import ExportMetadata
from unip.deployment.export.reference import ReferenceRunner
from unip.errors import UnipError
from unip.files import sha256
from unip.log import TableMessage
from unip.outputs import output_folder, write_json
from unip.runtime.memory import resident_bytes
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluating import files_of, results_beside
from unip.segmentation.evaluation import EvaluateResult, score_model
from unip.segmentation.held_out import Evaluated, open_evaluated
from unip.segmentation.model_folder import is_model, model_folder, read_model_config
from unip.segmentation.predictor import Predictor, SegmenterPredictor
from unip.segmentation.storage import load_segmenter
from unip.vit.sources import WEIGHTS_NAME

log = logging.getLogger(__name__)

REPORT = "acceptance.json"


def open_predictor(config: EvaluateConfig) -> Predictor:
    """Open a model folder or an exported file to evaluate it.

    Raises:
        UnipError: It is damaged, its engine is not installed, or a setting is not of its kind.
    """
    return open_file(config) if is_exported(config.model) else SegmenterPredictor(config)


def open_file(config: EvaluateConfig) -> FilePredictor:
    """Open an exported file to evaluate it.

    Raises:
        UnipError: It is damaged, its engine is not installed, or a setting is of model folders.
    """
    load = LoadConfig(
        device=config.device,
        precision=config.precision,
        batch_size=config.batch_size,
        palette=config.palette,
        polarity=config.polarity,
    )  # without the window: a file segments whole frames in any case
    return FilePredictor(open_exported(str(config.model), load), config.model)


def evaluate_file(config: EvaluateConfig) -> EvaluateResult | None:
    """Evaluate an exported file, and compare it with the model that it was made from if that is there.

    The scores, the page and ``robustness.json`` are those of a model folder. The comparison goes to
    ``acceptance.json``; it is what `unip export` does with labelled frames.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: File or data are missing, damaged, or have other classes than each other; the model that was given is
            another one; or the file loses too much against it, after all was written.
    """
    out = config.out or results_beside(config.model) / (config.split or "all")
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check(*files_of(config), REPORT)
        before = resident_bytes()
        file = open_file(config)
        after = resident_bytes()
        if config.corruption:
            check_pictures(file.runner)
        source = find_reference(config, file.runner.metadata)
        # whose run folder knows which images it held out, and which it was trained on
        opened = open_evaluated(config if source is None else config.model_copy(update={"model": source}))
        if source is None:
            return score_model(config, out, opened, file)
        both = BesideModel(file, ReferenceRunner(load_segmenter(source), file.runner.metadata))
        log.info(f"beside {source} in torch, which it was made from")
        result = score_model(config, out, opened, both)
        if result is None:
            log.info(f"dry run: would write {REPORT}, too")
            return None
        memory = None if before is None or after is None else max(0, after - before)
        accept(config, out, both, opened, memory, source)
        return result


def accept(
    config: EvaluateConfig, out: Path, both: BesideModel, opened: Evaluated, memory: int | None, source: Path
) -> None:
    """Compare file and model on corrupted frames, too, and report it all.

    Raises:
        UnipError: The file loses too much.
    """
    metadata = both.file.runner.metadata
    data = match_classes(
        opened.data, metadata.classes, remap=config.remap, model=str(config.model), source=str(config.data)
    )
    accepted = compare_on_data(both, memory, data)
    reason = accepted.rejection(metadata, config.tolerance)
    record: dict[str, object] = {
        "file": str(config.model),
        "model": str(source),
        "data": str(config.data),
        "split": config.split,
    }
    record |= {"accepted": not reason, "reason": reason}
    write_json(out / REPORT, record | {"acceptance": accepted.to_dict(config.tolerance)})
    log.info(TableMessage(accepted.table(config.tolerance)))
    warn_of_corrupted(accepted, config.tolerance)
    if reason:
        raise UnipError(
            f"{config.model} does not do what {source} does: {reason}",
            f"Do not use it on this device with these settings; {out / REPORT} has all numbers.",
        )
    log.info(f"{config.model} does what {source} does; the comparison is {out / REPORT}")


def find_reference(config: EvaluateConfig, metadata: ExportMetadata) -> Path | None:
    """Return the model folder that a file was made from, by the SHA-256 of its weights; None: it is not there.

    Raises:
        UnipError: A folder was given that is no model, or has other weights.
    """
    if config.reference is not None:
        read_model_config(config.reference)
        if not has_weights(config.reference, metadata):
            raise UnipError(
                f"{config.model} was made from other weights than those of {config.reference}",
                "Give the model that was exported; to compare any two models: unip evaluate OLD NEW DATA.",
            )
        return config.reference
    for place in _candidates(config.model, metadata):
        if is_model(place) and has_weights(place, metadata):
            return place
    log.info(
        f"{metadata.model}, which {config.model} was made from, is not here: the file is evaluated alone. To compare "
        "both, give the model folder with --reference"
    )
    return None


def _candidates(file: Path, metadata: ExportMetadata) -> Iterator[Path]:
    yield Path(metadata.model)
    yield file.absolute().parent.parent  # of MODEL/export/FILE


def has_weights(model: Path, metadata: ExportMetadata) -> bool:
    """Say whether a model folder has the weights that a file was made from."""
    return sha256(model_folder(model) / WEIGHTS_NAME) == metadata.sha256
