"""The folder a run lives in: its config, environment, log, checkpoints and model.

RUN/
  config.yaml         every setting, resolved
  environment.json    versions, device, command
  log.jsonl           one line per logged step
  labels.json         fine-tuning: the labelled files as they were, and what is in them, so as not to read them again
  held_out.json       fine-tuning: the labelled images that were held out to evaluate on, and why those
  guard.json          pre-training by the recipe adapt: whether the new start is saved or the old one, and why
  checkpoints/        step-00001000/{model,optimizer}.safetensors + state.json
  model/              the result: model.safetensors + config.json + README.md
  .unip/              the list of these files and the lock, see unip.outputs
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Strict

from unip.documents import fit, try_json
from unip.errors import UnipError
from unip.files import read_yaml
from unip.limits import MAX_COUNT
from unip.opening import read_regular_text
from unip.outputs import FILES_NAMED, OutputFolder, output_folder, write_json, write_text
from unip.paths import exists, is_dir, is_link
from unip.training.config import TrainingConfig
from unip.written import HIDDEN

log = logging.getLogger(__name__)

C = TypeVar("C", bound=TrainingConfig)
LogRecord = dict[str, float]  # a line of the log: the step, the loss and other numbers by name


#: What a run writes beside checkpoints, pictures and logs of TensorBoard, whose names are not known before.
FILES = (
    "config.yaml",
    "environment.json",
    "log.jsonl",
    "labels.json",
    "held_out.json",
    "manifest.parquet",
    "teacher.json",
    "guard.json",
    "model/config.json",
    "model/model.safetensors",
    "model/README.md",
)


#: Folders of a run whose files have the step or the time in their names.
STEP_FOLDERS = ("checkpoints", "pictures", "tensorboard")


@contextmanager
def run_folder(config: TrainingConfig) -> Iterator[RunFolder]:
    """Open the folder of a run, for this process alone; ranks other than the first, and dry runs, only look.

    Raises:
        UnipError: It cannot be written, or another process trains there.
    """
    looks = config.dry_run or not _is_first_rank()
    if exists(config.out) and not is_dir(config.out):
        raise UnipError(f"{config.out} is a file, not a run folder", "Choose a new folder with --out.")
    with output_folder(config.out, overwrite=config.overwrite, dry_run=looks) as outputs:
        yield RunFolder(outputs)


def _is_first_rank() -> bool:
    """Say whether this process is the one that writes; asked before the ranks know each other."""
    known = [os.environ.get(name, "") for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")]
    sizes = [os.environ.get(name, "") for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")]
    return not any(int(r) > 0 and int(n) > 1 for r, n in zip(known, sizes, strict=True) if r.isdigit() and n.isdigit())


class RunFolder:
    """Paths of one run, and the decision whether it starts, continues or is refused."""

    def __init__(self, outputs: OutputFolder) -> None:
        self.outputs = outputs
        outputs.overwrite_means = "starts over, and replaces them"
        self.path = path = outputs.given
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.log = path / "log.jsonl"
        self.labels = path / "labels.json"
        self.held_out = path / "held_out.json"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"

    def continues(self, config: TrainingConfig) -> bool:
        """Say whether there is something to continue here: a run with a checkpoint that is not to be overwritten.

        A run that ended before its first checkpoint (say, for settings that did not fit) starts over instead. One
        of which only damaged checkpoints are left is not: training then refuses to go on.
        """
        return self._has_run(config) and self._has_checkpoints()

    def is_finished(self, config: TrainingConfig) -> bool:
        """Say whether the run here has its model and no checkpoints any more, so that no step can be added to it."""
        has_model = any(self.outputs.wrote(f"model/{name}") for name in ("config.json", "model.safetensors"))
        return self._has_run(config) and not self._has_checkpoints() and has_model

    def _has_run(self, config: TrainingConfig) -> bool:
        return not config.overwrite and self.outputs.wrote("config.yaml")

    def _has_checkpoints(self) -> bool:
        return bool(list_checkpoints(self.checkpoints) or list_damaged(self.checkpoints))

    def adopt(self, config: C) -> C:
        """Fill the settings left open with what the run here resolved them to, if there is one to continue.

        Raises:
            UnipError: The folder holds foreign files.
        """
        self._refuse_foreign_files(config)
        if not (self.continues(config) or self.is_finished(config)):
            return config
        there = read_yaml(self.config)
        left = [name for name, _ in config if config.is_open(name) and not config.may_change(name)]
        known = {name: there[name] for name in left if name in there}
        return config.make(**{**config.model_dump(), **known})

    def open(self, config: TrainingConfig, *, main_process: bool = True) -> None:
        """Start the run, or continue it when the folder holds the same one; a dry run only checks.

        Args:
            config: What will run, every ``auto`` resolved where it can be before the data is seen.
            main_process: Only this rank looks and writes, so that no rank sees what another has half done.

        Raises:
            UnipError: The folder holds another run, or files that unip did not write or that were changed.
        """
        if not main_process:
            return
        self._refuse_foreign_files(config)
        if linked := [name for name in STEP_FOLDERS if is_link(self.path / name)]:
            raise UnipError(
                f"{self.path / linked[0]} is a link, through which nothing is written",
                "Put the folder itself in its place; or choose another --out, which may be a link.",
            )
        if self.is_finished(config):
            self._refuse_other_run(config)
            self.outputs.check("config.yaml", "environment.json")
        elif self.continues(config):
            self._refuse_other_run(config)
            self.outputs.check(*FILES, folders=("model",))
        else:
            numbered = self.outputs.files("checkpoints", "pictures")
            self.outputs.check(*FILES, *numbered, folders=("checkpoints", "model", "pictures"))
            if not config.dry_run:
                self._clear()
        if not config.dry_run:
            # the folder's config is a recipe too, and one that goes on with this run must not clear it
            write_text(self.config, config.model_copy(update={"overwrite": False}).to_yaml())
            write_json(self.environment, asdict(describe_environment()))

    def result(self) -> tuple[int, LogRecord]:
        """Return the steps of a finished run and the last line of its log, if it is there."""
        lines = self.read_log()
        if lines:
            return int(lines[-1]["step"]), lines[-1]
        return fit(read_yaml(self.config), _Length, str(self.config)).steps, {}

    def _refuse_foreign_files(self, config: TrainingConfig) -> None:
        if self.outputs.is_empty() or self.outputs.wrote("config.yaml"):
            return
        if config.overwrite and not any(self.outputs.wrote(name) for name in self.outputs.known):
            return  # what is not ours stays; what another command wrote would not
        if exists(self.config) and not self.outputs.known:
            what = f"{self.path} holds a config.yaml, but no list of the files that unip wrote ({HIDDEN}/files.jsonl)"
        else:
            what = f"{self.path} is not empty and holds no run (no config.yaml that unip wrote)"
        fix = "Choose an empty or new folder with --out. A copy of a run needs the hidden folder of the original, too."
        raise UnipError(what, fix)

    def _refuse_other_run(self, config: TrainingConfig) -> None:
        there, wanted = read_yaml(self.config), config.model_dump(mode="json")
        # settings that came after the run was begun: their defaults are what was done before there was a choice
        new = {k for k, field in type(config).model_fields.items() if getattr(config, k) == field.default} - set(there)
        finished = self.is_finished(config)
        free = {name for name, _ in config if config.may_change(name, finished=finished)} | new
        keys = [k for k in {**there, **wanted} if k not in free and there.get(k) != wanted.get(k)]
        if keys:
            changes = "; ".join(f"{k}: {there.get(k)!r} there, {wanted.get(k)!r} now" for k in keys)
            kind = "a finished run without checkpoints, of" if finished else "a run with"
            raise UnipError(
                f"{self.path} holds {kind} other settings ({changes})",
                "Give the same settings to continue it, another --out, or --overwrite to start over.",
            )

    def _clear(self) -> None:
        """Delete what an earlier run wrote here, and the evaluations of its model; say what stays."""
        kept: list[str] = []
        linked = {self.path / name for name in ("evaluation", "model", "model/evaluation")}
        places = [
            place for name in ("evaluation", "model/evaluation") for place in self.path.glob(f"{name}/*/{HIDDEN}")
        ]
        for hidden in places:
            if any(is_link(above) for above in (*linked, hidden.parent, hidden)):
                continue
            with output_folder(hidden.parent, overwrite=self.outputs.overwrite) as evaluation:
                kept += [f"{hidden.parent.name}/{name}" for name in evaluation.clear()]
        kept += self.outputs.clear("config.yaml")  # replaced in a moment; a kill before that leaves a run
        self.outputs.remove("evaluation", "model")  # if they are empty
        if kept:
            log.warning(f"kept in {self.path}, because unip did not write it: {', '.join(kept[:FILES_NAMED])}")

    def trim_log(self, step: int) -> None:
        """Drop log lines beyond ``step``: they were written after the checkpoint that the run continues from."""
        self._keep_lines(lambda record: record["step"] <= step)

    def replace_log(self, record: LogRecord) -> None:
        """Put a record in the place of the one of the same step."""
        self._keep_lines(lambda there: there["step"] != record["step"], record)

    def _keep_lines(self, keeps: Callable[[LogRecord], bool], *added: LogRecord) -> None:
        text = self._log_text()
        records = ((line, _record(line)) for line in text.splitlines())
        kept = [line for line, record in records if record is not None and keeps(record)]
        new = "".join(f"{line}\n" for line in (*kept, *map(_line, added)))
        if new != text:
            write_text(self.log, new)
        self.outputs.grow("log.jsonl")

    def append_log(self, record: LogRecord) -> None:
        """Append one JSON line to the log."""
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(_line(record) + "\n")
        except OSError as error:
            raise UnipError(f"cannot write {self.log}: {error.strerror}", "Free some space and run again.") from error

    def read_log(self) -> list[LogRecord]:
        """Return the log's records, oldest first.

        Raises:
            UnipError: It cannot be read.
        """
        return [record for line in self._log_text().splitlines() if (record := _record(line)) is not None]

    def _log_text(self) -> str:
        if not exists(self.log):
            return ""
        try:
            return read_regular_text(self.log)
        except (OSError, UnicodeDecodeError) as error:
            what = f"cannot read {self.log}: {getattr(error, 'strerror', None) or error}"
            raise UnipError(what, "Delete it: the run goes on without.") from error


def _line(record: LogRecord) -> str:
    return json.dumps(record, allow_nan=False)


def _record(line: str) -> LogRecord | None:
    """Read a line of the log; None if a kill has cut it short, or someone has changed it."""
    record = try_json(line, dict[str, Annotated[float, Strict()]])
    step = -1.0 if record is None else record.get("step", -1.0)
    if record is None or not step.is_integer() or not 0 <= step <= MAX_COUNT:  # a float may not hold others
        return None
    return record | {"step": int(step)}


@dataclass(frozen=True)
class _Length:
    """What a run's config says of its length, for want of a log."""

    steps: int


@dataclass(frozen=True)
class Environment:
    """What a run runs on: command line, versions (those of ``packages`` by name) and devices."""

    command: list[str]
    python: str
    platform: str
    packages: dict[str, str]
    devices: list[str]
    cores: int | None


def describe_environment() -> Environment:
    """Look what this run runs on."""
    import torch  # here: a run folder alone has no use for it

    packages = ("unip", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow")
    return Environment(
        command=[Path(sys.argv[0]).name, *sys.argv[1:]],
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: _version(name) for name in packages},
        devices=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        cores=os.cpu_count(),
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's folder is named by."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first; not those that were set aside as damaged."""
    found = (p for p in folder.glob("step-*") if re.fullmatch(r"step-\d+", p.name) and is_dir(p))
    return sorted(found, key=step_of)


def list_damaged(folder: Path) -> list[Path]:
    """Return the checkpoints of a run that were found damaged and set aside."""
    return sorted(folder.glob("damaged-step-*"))
