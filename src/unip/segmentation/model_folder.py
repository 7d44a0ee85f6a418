"""Where a segmentation model lies, and what can be refused before torch is imported."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from unip.errors import UnipError
from unip.files import read_json
from unip.opening import check_regular
from unip.paths import exists
from unip.vit.sources import SEGMENTER_FORMAT, WEIGHTS_NAME
from unip.zoo.catalogue import find_model_folder, near_names, shipped_folder


def model_folder(path: Path) -> Path:
    """Return ``path`` if it is a model folder, its ``model/`` if it is a run folder, or that of a shipped model's name.

    Raises:
        UnipError: It is none of them.
    """
    if shipped := shipped_folder(str(path), "segmenter"):
        return shipped
    if folder := find_model_folder(path):
        return folder
    what = "does not exist" if not exists(path) else "holds no model (no config.json and no model/config.json)"
    near = [] if exists(path) else near_names(str(path), 1)
    fix = f"Did you mean {near[0]}?" if near else "Give the folder of a finished `unip finetune` run, or its model/."
    raise UnipError(f"{path} {what}", fix)


def read_model_config(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the model folder, see :func:`model_folder`, and what its ``config.json`` holds.

    Raises:
        UnipError: There is not a segmentation model, or its weights cannot be read.
    """
    folder = model_folder(path)
    record = read_json(folder / "config.json")
    found = record.get("format") if isinstance(record, dict) else None
    if found != SEGMENTER_FORMAT:
        raise UnipError(
            f"{folder} is not a segmentation model (config.json says format {found!r}, not {SEGMENTER_FORMAT!r})",
            "Give the folder of a `unip finetune` run.",
        )
    try:
        check_regular(folder / WEIGHTS_NAME)
    except OSError as error:
        raise unreadable_weights(folder / WEIGHTS_NAME, error) from error
    return folder, record


def spec_digest(record: dict[str, Any]) -> str:
    """Return the SHA-256 of what a ``config.json`` says of its model: architecture, classes, conversion, sizes."""
    return hashlib.sha256(json.dumps(record.get("spec"), sort_keys=True).encode()).hexdigest()


def is_model(path: Path) -> bool:
    """Say whether a path leads to a segmentation model: its folder, a run's, or the name of one that ships."""
    try:
        record = read_json(model_folder(path) / "config.json")
    except (UnipError, OSError):
        return False
    return isinstance(record, dict) and record.get("format") == SEGMENTER_FORMAT


def unreadable_weights(file: Path, error: Exception) -> UnipError:
    """Return the error for weights that are missing or damaged."""
    return UnipError(f"cannot read {file}: {error}", "Copy the whole model folder again.")
