"""The folder a run lives in: its config, environment, log, checkpoints and model.

RUN/
  config.yaml         every setting, resolved
  environment.json    versions, device, command
  log.jsonl           one line per logged step
  checkpoints/        step-00001000/{model,optimizer}.safetensors + state.json
  model/              the result: model.safetensors + config.json + README.md
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from unip.errors import UnipError
from unip.files import read_yaml, write_json, write_text
from unip.opening import read_regular_text
from unip.training.checkpoint import list_checkpoints, list_damaged
from unip.training.config import TrainingConfig

C = TypeVar("C", bound=TrainingConfig)


class RunFolder:
    """Paths of one run, and the decision whether it starts, continues or is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"

    def continues(self, config: TrainingConfig) -> bool:
        """Say whether there is something to continue here: a run with a checkpoint that is not to be overwritten.

        A run that ended before its first checkpoint (say, for settings that did not fit) is begun anew instead. One
        of which only damaged checkpoints are left is not: training then refuses to go on.
        """
        saved = bool(list_checkpoints(self.checkpoints) or list_damaged(self.checkpoints))
        return saved and not config.overwrite and self.config.exists()

    def adopt(self, config: C) -> C:
        """Fill the settings left open with what the run here resolved them to, if there is one to continue.

        Raises:
            UnipError: The folder holds foreign files.
        """
        self._refuse_foreign_files(config)
        if not self.continues(config):
            return config
        there = read_yaml(self.config)
        free = config.resumable()
        known = {name: there[name] for name, _ in config if config.is_open(name) and name not in free and name in there}
        return config.make(**{**config.model_dump(), **known})

    def open(self, config: TrainingConfig, *, main_process: bool = True) -> None:
        """Start the run, or continue it when the folder holds the same one; a dry run only checks.

        Args:
            config: What will run, every ``auto`` resolved where it can be before the data is seen.
            main_process: Only this rank looks and writes, so that no rank sees what another has half done.

        Raises:
            UnipError: The folder holds another run or foreign files, or cannot be written.
        """
        if not main_process:
            return
        self._refuse_foreign_files(config)
        if self.continues(config):
            self._refuse_other_run(config)
        elif self.config.exists() and not config.dry_run:
            self._clear()
        if not config.dry_run:
            self._remove_leftovers()
            # the folder's config is a recipe too, and one that goes on with this run must not clear it
            write_text(self.config, config.model_copy(update={"overwrite": False}).to_yaml())
            write_json(self.environment, describe_environment())

    def _refuse_foreign_files(self, config: TrainingConfig) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UnipError(f"{self.path} is a file, not a run folder", "Choose a new folder with --out.")
        if not config.overwrite and self.path.exists() and not self.config.exists() and any(self.path.iterdir()):
            raise UnipError(
                f"{self.path} is not empty and holds no run of ours (no config.yaml)",
                "Choose an empty or new folder with --out.",
            )

    def _refuse_other_run(self, config: TrainingConfig) -> None:
        there, wanted = read_yaml(self.config), yaml.safe_load(config.to_yaml())
        # settings that came after the run was begun: their defaults are what was done before there was a choice
        new = {k for k, field in type(config).model_fields.items() if getattr(config, k) == field.default} - set(there)
        free = config.resumable() | new
        keys = [k for k in {**there, **wanted} if k not in free and there.get(k) != wanted.get(k)]
        if keys:
            changes = "; ".join(f"{k}: {there.get(k)!r} there, {wanted.get(k)!r} now" for k in keys)
            raise UnipError(
                f"{self.path} holds a run with other settings ({changes})",
                "Give the same settings to continue it, another --out, or --overwrite to start anew.",
            )

    def _clear(self) -> None:
        folders = (self.path / name for name in ("tensorboard", "pictures", "evaluation"))
        for path in (self.checkpoints, self.model, *folders):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.log, self.config, self.environment):
            path.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Delete the half-written checkpoints of runs that were killed."""
        for path in self.checkpoints.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)

    def trim_log(self, step: int) -> None:
        """Drop log lines beyond ``step``: they were written after the checkpoint that the run continues from."""
        if not self.log.exists():
            return
        kept = []
        for line in read_regular_text(self.log).splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):
                continue  # the line a kill cut short
        write_text(self.log, "".join(f"{line}\n" for line in kept))

    def append_log(self, record: dict[str, Any]) -> None:
        """Append one JSON line to the log."""
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise UnipError(f"cannot write {self.log}: {error.strerror}", "Free some space and run again.") from error

    def read_log(self) -> list[dict[str, Any]]:
        """Return the log's records, oldest first."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in read_regular_text(self.log).splitlines()]


def describe_environment() -> dict[str, Any]:
    """Say what this run runs on: versions, device and command line."""
    packages = ("unip", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow")
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        "cores": os.cpu_count(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
