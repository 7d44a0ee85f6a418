"""Where a backbone comes from: one parser of ``timm:``, ``hf:``, files, folders and names.

Nothing here needs torch: a path that is wrong is refused before torch is imported.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unip.errors import UnipError
from unip.files import read_json
from unip.vit.checkpoint_files import check_checkpoint
from unip.vit.student import STUDENTS

BACKBONE_FORMAT = "unip-backbone-1"
SEGMENTER_FORMAT = "unip-segmenter-1"
WEIGHTS_NAME = "model.safetensors"
#: What the hub takes for the name of a repository.
REPOSITORY = re.compile(r"(\b[\w.-]+\b/)?\b[\w.-]{1,96}\b(@.+)?")


@dataclass(frozen=True)
class Source:
    """What the text that names a backbone means.

    Attributes:
        kind: What it is.
        name: Of the student, timm's model or the hub's repository; empty of files and folders.
        path: The file or folder; of timm's models the file that follows ``@``, if any.
    """

    kind: Literal["student", "timm", "hf", "file", "folder"]
    name: str = ""
    path: Path | None = None


def parse_source(source: str) -> Source:
    """Tell the parts of a source, see :func:`unip.vit.backbone.load_backbone`.

    Raises:
        UnipError: There is no such file, folder or student, or the repository's name cannot be one.
    """
    source = source.strip()
    if source in STUDENTS:
        return Source("student", source)
    kind, colon, name = source.partition(":")
    if colon and kind == "timm":
        name, at, file = name.partition("@")
        return Source("timm", name, Path(file).expanduser() if at else None)
    if colon and kind == "hf":
        if not REPOSITORY.fullmatch(name):
            raise UnipError(f"hf:{name} is not a repository name", "Give hf:OWNER/NAME.")
        return Source("hf", name)
    path = Path(source).expanduser()
    if path.is_dir():
        return Source("folder", path=path)
    if path.exists():
        return Source("file", path=path)
    near = difflib.get_close_matches(source, STUDENTS, n=1)
    raise UnipError(
        f"no backbone {source!r}: there is no such file or folder, and no student of that name",
        f"Did you mean {near[0]!r}?" if near else "Give timm:NAME, hf:OWNER/NAME, a file, a folder or a student.",
    )


def check_backbone(source: str) -> None:
    """Refuse a source whose file or folder is missing, or is no checkpoint or model folder by its first bytes.

    Raises:
        UnipError: It is; the message is that of :func:`unip.vit.backbone.load_backbone`.
    """
    found = parse_source(source)
    if found.kind == "folder" and found.path is not None:
        folder, _ = read_model_folder(found.path)
        check_checkpoint(folder / WEIGHTS_NAME)
    elif found.path is not None:
        check_checkpoint(found.path)


def read_model_folder(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find the model folder (a run folder holds it as ``model/``) and read its ``config.json``.

    Raises:
        UnipError: There is none, or it describes no backbone of this program.
    """
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"  # a run folder
    file = folder / "config.json"
    if not file.is_file():
        raise UnipError(
            f"{folder} is not a model folder: it has no config.json", "Give a run's model/ folder, or a file."
        )
    config = read_json(file)
    kind = config.get("format") if isinstance(config, dict) else None
    if kind not in (BACKBONE_FORMAT, SEGMENTER_FORMAT):
        hint = f"For a timm model give timm:{config['architecture']}@{folder}/FILE." if _is_timm(config) else ""
        raise UnipError(f"{file} was not written by unip: format {kind!r}", hint or f"Expected {BACKBONE_FORMAT!r}.")
    return folder, config


def _is_timm(config: Any) -> bool:
    return isinstance(config, dict) and isinstance(config.get("architecture"), str)
