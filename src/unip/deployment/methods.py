"""Verbs as methods of a loaded model: they are called with that model, and with how it was loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unip.deployment.config import LoadConfig
from unip.deployment.engine import ModelFacts
from unip.deployment.export.config import ExportConfig
from unip.errors import UnipError
from unip.segmentation.config import EvaluateConfig
from unip.verbs import VERBS

if TYPE_CHECKING:
    from unip.deployment.export.program import ExportResult
    from unip.segmentation.evaluation import EvaluateResult

log = logging.getLogger(__name__)

NO_MATTER = ("compile", "check")  # how a model is loaded that changes no mask


def evaluate_loaded(facts: ModelFacts, loaded: LoadConfig, settings: dict[str, Any]) -> EvaluateResult:
    """Do what :meth:`unip.deployment.model.Model.evaluate` does.

    Raises:
        UnipError: The verb refuses it, or has no such setting as the model was loaded with.
    """
    given = changed(loaded)
    _refuse(given, ("nodata",), "evaluated")
    engine = given.pop("engine", "auto")
    if facts.folder is not None and facts.engine != "torch":
        what = f"{facts.name} is run by {facts.engine} ({facts.view}), and"
        if engine != "auto":
            raise UnipError(f"{what} the folder would be evaluated with torch", 'Load it with engine="torch".')
        log.warning(
            f"note: {what} evaluated with torch, as unip evaluate does with model folders. To evaluate the exported "
            "file: unip.load(FILE).evaluate(...)"
        )
    config = EvaluateConfig.make(**{"model": source(facts, settings), **given, **settings})
    result: EvaluateResult = VERBS["evaluate"].run(config)
    return result


def export_loaded(facts: ModelFacts, loaded: LoadConfig, settings: dict[str, Any]) -> ExportResult:
    """Do what :meth:`unip.deployment.model.Model.export` does.

    Raises:
        UnipError: The verb refuses it, the model is a file, or it was loaded with another conversion than it has.
    """
    if facts.folder is None:
        raise UnipError(f"{facts.name} is an exported file", "Load the model folder, and export that.")
    _refuse(changed(loaded), ("palette", "polarity", "nodata"), "exported")
    result: ExportResult = VERBS["export"].run(ExportConfig.make(**{"model": source(facts, settings), **settings}))
    return result


def changed(loaded: LoadConfig) -> dict[str, Any]:
    """Return how a model was loaded, as far as it is not the default and may change masks."""
    default = LoadConfig()
    return {name: value for name, value in loaded if value != getattr(default, name) and name not in NO_MATTER}


def source(facts: ModelFacts, settings: dict[str, Any]) -> Path:
    """Return what the verbs open as this model.

    Raises:
        UnipError: It is of the hub, and there is no folder to write to: its own is the cache of all programs. Or a dry
            run is wanted, which has no result.
    """
    if settings.get("dry_run"):
        raise UnipError("a method of a model has no dry_run", "Write unip.evaluate(model=...), unip.export(model=...).")
    if facts.folder is None or not facts.name.startswith("hf:"):
        return Path(facts.name)
    if settings.get("calibrate"):
        raise UnipError(f"{facts.name} has no folder of its own to keep a calibration in", "Calibrate a copy of it.")
    if settings.get("out") is None:
        raise UnipError(f"{facts.name} has no folder of its own to write results to", 'Give out="FOLDER".')
    return facts.folder


def _refuse(given: dict[str, Any], names: Iterable[str], done: str) -> None:
    for name in names:
        if name in given:
            raise UnipError(
                f"a model that was loaded with {name} cannot be {done}: its folder says how frames are read",
                f"Load it without {name}, or fine-tune with it.",
            )
