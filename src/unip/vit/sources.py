"""Where a backbone comes from: one parser of ``timm:``, ``hf:``, files, folders, students and names of the zoo.

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
from unip.paths import exists, expand, is_dir
from unip.vit.checkpoint_files import check_checkpoint
from unip.vit.student import STUDENTS
from unip.zoo.catalogue import catalogue, find_model_folder, zoo_model

BACKBONE_FORMAT = "unip-backbone-1"
SEGMENTER_FORMAT = "unip-segmenter-1"
WEIGHTS_NAME = "model.safetensors"
#: What the hub takes for the name of a repository.
REPOSITORY = re.compile(r"(\b[\w.-]+\b/)?\b[\w.-]{1,96}\b(@.+)?")


@dataclass(frozen=True)
class Source:
    """What the text that names a backbone means.

    Attributes:
        kind: What it is; a path leads to a file or a folder, ``hub file`` to a plain checkpoint in a repository.
        name: Of the student, timm's model with its tag, the hub's repository, or the zoo's model; empty for a path.
        file: The path; for a timm model the file after ``@``, if any.
        revision: Of the hub's repository: what is after ``@``, if anything.
        pattern: Regular expression that the checkpoint's name in the repository fits.
    """

    kind: Literal["student", "timm", "hf", "path", "hub file"]
    name: str = ""
    file: Path | None = None
    revision: str | None = None
    pattern: str = ""

    @property
    def repository(self) -> str:
        """The hub's repository with its revision, for messages."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def parse_source(source: str) -> Source:
    """Tell the parts of a source, see :func:`unip.vit.backbone.load_backbone`; nothing has to be there."""
    source = source.strip()
    kind, colon, rest = source.partition(":")
    name, at, after = rest.partition("@")
    if source in STUDENTS:
        return Source("student", source)
    if not colon or kind not in ("timm", "hf"):
        return _named(source) or Source("path", file=expand(source))
    if kind == "timm":
        return Source("timm", name, file=expand(after) if at else None)
    return Source("hf", name, revision=after if at else None)


def _named(name: str) -> Source | None:
    """Return the source of a model of the zoo; None: there is none of that name, or it is in no package yet."""
    model = zoo_model(name)
    if model is None or model.how_to_make:
        return None
    if model.shipped:
        return Source("path", name, file=model.folder)
    if model.source:
        return parse_source(model.source)
    return Source("hub file", model.repository or "", pattern=model.pattern or "")


def find_source(source: str) -> Source:
    """Tell the parts of a source that can be there.

    Raises:
        UnipError: There is no such file, folder or student, or the repository's name cannot be one.
    """
    found = parse_source(source)
    if found.kind == "hf" and not REPOSITORY.fullmatch(found.repository):
        raise UnipError(f"hf:{found.repository} is not a repository name", "Give hf:OWNER/NAME.")
    if found.kind == "path" and found.file is not None and not exists(found.file):
        raise _not_there(source.strip())
    return found


def _not_there(source: str) -> UnipError:
    model = zoo_model(source)
    if model is not None:  # its name is known, but it is neither in the package nor on a hub
        return UnipError(f"{source} is not in this package: {model.note}", model.how_to_make or "")
    near = difflib.get_close_matches(source, [*STUDENTS, *catalogue()], n=1)
    return UnipError(
        f"no backbone {source!r}: there is no such file or folder, and `unip models` lists no such name",
        f"Did you mean {near[0]!r}?"
        if near
        else "Give timm:NAME, hf:OWNER/NAME, a file, a folder, or a name of `unip models`.",
    )


def check_backbone(source: str) -> None:
    """Refuse a source whose file or folder is missing, or is no checkpoint or model folder by its first bytes.

    Raises:
        UnipError: It is; the message is that of :func:`unip.vit.backbone.load_backbone`.
    """
    found = find_source(source)
    if found.kind == "path" and found.file is not None and is_dir(found.file):
        folder, _ = read_model_folder(found.file)
        check_checkpoint(folder / WEIGHTS_NAME)
    elif found.file is not None:
        check_checkpoint(found.file)


def read_model_folder(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find the model folder (a run folder holds it as ``model/``) and read its ``config.json``.

    Raises:
        UnipError: There is none, or it describes no backbone of this program.
    """
    found = find_model_folder(folder)
    if found is None:
        raise UnipError(
            f"{folder} is not a model folder: it has no config.json", "Give a run's model/ folder, or a file."
        )
    folder, file = found, found / "config.json"
    config = read_json(file)
    kind = config.get("format") if isinstance(config, dict) else None
    if kind not in (BACKBONE_FORMAT, SEGMENTER_FORMAT):
        hint = f"For a timm model give timm:{config['architecture']}@{folder}/FILE." if _is_timm(config) else ""
        raise UnipError(f"{file} was not written by unip: format {kind!r}", hint or f"Expected {BACKBONE_FORMAT!r}.")
    return folder, config


def _is_timm(config: Any) -> bool:
    return isinstance(config, dict) and isinstance(config.get("architecture"), str)
