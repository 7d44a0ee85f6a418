"""The recipe of a pre-training, as far as settings and the run folder tell it: no torch is needed here."""

from __future__ import annotations

from typing import Any

from unip.data.manifests.sources import is_manifest, split_source
from unip.errors import UnipError
from unip.files import read_yaml
from unip.paths import is_dir
from unip.pretraining.config import PretrainConfig
from unip.training.run_folder import RunFolder

START = "unip-ir-tiny"
ADAPT: dict[str, Any] = {
    "objective": "nmi_had+values",
    "init_share": 0.75,
    "distort": 0.5,
    "distortions": "infrared",
    "drop_path": 0.2,
    "lr": 5e-4,
    "clip": 1.0,
}
#: What the recipe adapt may choose, and a run that goes on keeps.
CHOSEN = (
    *ADAPT,
    *("init", "teacher", "teacher_layer", "student_layers", "batch_size", "steps", "scale", "accumulate", "warmup"),
)
NOT_INFRARED = {"rgb", "visible", "depth"}  # names of folders


def begin(config: PretrainConfig, run: RunFolder) -> PretrainConfig:
    """Name the start, take folders as infrared, and fill in what a run that goes on chose when it began.

    Raises:
        UnipError: The start would be random, or nothing would be learnt from a teacher.
    """
    if config.recipe != "adapt":
        return config
    given = {name: getattr(config, name) for name in config.model_fields_set}
    if given.get("init") == "random":
        raise UnipError("recipe adapt starts from a model, and init is random", f"Leave init out: {START}.")
    if given.get("objective") == "mae":
        raise UnipError("recipe adapt learns from teachers, and objective mae has none", "Leave one of the two out.")
    there = read_yaml(run.config) if run.continues(config) or run.is_finished(config) else {}
    kept = {name: there[name] for name in CHOSEN if name in there and name not in given}
    return PretrainConfig.make(**{"init": START, **given, **kept, "data": tuple(map(as_infrared, config.data))})


def as_infrared(source: str) -> str:
    """Take a plain folder as infrared where nothing tells what is in it, neither the user nor a folder's name."""
    modality, location = split_source(source)
    if modality is not None or not is_dir(location) or is_manifest(location):
        return source
    names = {location.name.lower(), *(each.name.lower() for each in location.rglob("*") if is_dir(each))}
    return source if names & NOT_INFRARED else f"infrared={source}"
