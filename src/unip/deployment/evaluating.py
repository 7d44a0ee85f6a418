"""Opening what an evaluation of an exported file needs; torch comes after all that can be refused without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from unip.deployment.config import ACCEPTANCE, to_evaluate
from unip.deployment.engines.exported import open_exported
from unip.deployment.export.metadata import ExportMetadata
from unip.errors import UnipError
from unip.files import sha256
from unip.outputs import output_folder
from unip.runtime.memory import resident_bytes
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluating import evaluations_of, files_of
from unip.segmentation.held_out import open_evaluated
from unip.segmentation.model_folder import is_model, model_folder, read_model_config
from unip.vit.sources import WEIGHTS_NAME

if TYPE_CHECKING:
    from unip.segmentation.evaluation import EvaluateResult

log = logging.getLogger(__name__)


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
    out = config.out or evaluations_of(config.model) / (config.split or "all")
    with output_folder(out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check(*files_of(config), ACCEPTANCE)
        before = resident_bytes()
        engine = open_exported(str(config.model), to_evaluate(config))
        after = resident_bytes()
        metadata = engine.runner.metadata
        if config.corruption:
            metadata.check_pictures()
        source = find_reference(config, metadata)
        # whose run folder knows which images it held out, and which it was trained on
        opened = open_evaluated(config if source is None else config.model_copy(update={"model": source}))
        from unip.deployment.evaluation import score_file  # needs torch

        memory = None if before is None or after is None else max(0, after - before)
        return score_file(config, out, opened, engine, source, memory)


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
    missing = f"{metadata.model}, which {config.model} was made from, is not here"
    if "tolerance" in config.model_fields_set:
        raise UnipError(f"{missing}, so what the file loses is not known", "Give the model folder with --reference.")
    log.info(f"{missing}: the file is evaluated alone. To compare both, give the model folder with --reference")
    return None


def _candidates(file: Path, metadata: ExportMetadata) -> Iterator[Path]:
    yield Path(metadata.model)
    yield file.absolute().parent.parent  # of MODEL/export/FILE


def has_weights(model: Path, metadata: ExportMetadata) -> bool:
    """Say whether a model folder has the weights that a file was made from."""
    return sha256(model_folder(model) / WEIGHTS_NAME) == metadata.sha256
