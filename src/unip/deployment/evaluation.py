"""`unip evaluate` of an exported file: its scores, and whether it gives the masks of the model it was made from."""

from __future__ import annotations

import logging
from pathlib import Path

from unip.data.labelled.matching import match_classes
from unip.deployment.config import ACCEPTANCE, to_evaluate
from unip.deployment.engines.exported import open_exported
from unip.deployment.engines.graph_engine import GraphEngine
from unip.deployment.engines.opening import is_exported
from unip.deployment.export.acceptance import compare_on_data, warn_of_corrupted
from unip.deployment.export.file_predictor import BesideModel, FilePredictor
from unip.deployment.export.reference import ReferenceRunner
from unip.errors import UnipError
from unip.log import TableMessage
from unip.outputs import write_json
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.evaluation import EvaluateResult, score_model
from unip.segmentation.held_out import Evaluated
from unip.segmentation.predictor import Predictor, SegmenterPredictor
from unip.segmentation.storage import load_segmenter

log = logging.getLogger(__name__)


def open_predictor(config: EvaluateConfig) -> Predictor:
    """Open a model folder or an exported file to evaluate it.

    Raises:
        UnipError: It is damaged, its engine is not installed, or a setting is not of its kind.
    """
    if is_exported(config.model):
        return FilePredictor(open_exported(str(config.model), to_evaluate(config)), config.model)
    return SegmenterPredictor(config)


def score_file(
    config: EvaluateConfig, out: Path, opened: Evaluated, engine: GraphEngine, source: Path | None, memory: int | None
) -> EvaluateResult | None:
    """Do what is left of :func:`unip.deployment.evaluating.evaluate_file` once all is opened.

    Args:
        config: The settings.
        out: Where results go.
        opened: The pairs of ``config.data``, and what is known of them.
        engine: Runs the file.
        source: The model folder that it was made from; None: it is not there.
        memory: Bytes by which the process grew when the file was opened; None: not known.
    """
    file = FilePredictor(engine, config.model)
    if source is None:
        return score_model(config, out, opened, file)
    both = BesideModel(file, ReferenceRunner(load_segmenter(source), engine.runner.metadata))
    log.info(f"beside {source} in torch, which it was made from")
    result = score_model(config, out, opened, both)
    if result is None:
        log.info(f"dry run: would write {ACCEPTANCE}, too")
        return None
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
        **{"file": str(config.model), "model": str(source), "data": str(config.data), "split": config.split},
        **{"accepted": not reason, "reason": reason, "acceptance": accepted.to_dict(config.tolerance)},
    }
    write_json(out / ACCEPTANCE, record)
    log.info(TableMessage(accepted.table(config.tolerance)))
    warn_of_corrupted(accepted, config.tolerance)
    if reason:
        raise UnipError(
            f"{config.model} does not do what {source} does: {reason}",
            f"Do not use it on this device with these settings; {out / ACCEPTANCE} has all numbers.",
        )
    log.info(f"{config.model} does what {source} does; the comparison is {out / ACCEPTANCE}")
