"""Whether a checkpoint holds what was written: its state.json records size and SHA-256 of each tensor file.

state.json has a SHA-256 of its own values too, so that a changed step or scale is noticed like a changed weight.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from unip.documents import fit, parse_json
from unip.errors import UnipError
from unip.files import Checksum, sha256
from unip.opening import read_regular
from unip.paths import status

STATE_NAME = "state.json"
#: Errors of reading that say that the file is gone or its disk broken; others, such as a lack of rights, may pass.
_LOST = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EBADMSG)


@dataclass(frozen=True)
class SavedState:
    """What every state.json has; ``files`` not of a checkpoint from before checksums were recorded."""

    step: Annotated[int, Field(ge=0)]
    extra: dict[str, Any]
    files: dict[str, Checksum] = field(default_factory=dict)
    best: dict[str, Any] | None = None


class DamagedCheckpoint(UnipError):
    """A file of a checkpoint is missing or is not what was written.

    Args:
        path: The checkpoint.
        file: The file's name.
        why: What is wrong with it, a verb first.
    """

    def __init__(self, path: Path, file: str, why: str) -> None:
        self.path = path
        super().__init__(
            f"checkpoint {path} is damaged: {file} {why}",
            "Run the same command again: it continues from the newest checkpoint that is whole.",
        )


def write_state(path: Path, record: Mapping[str, Any], files: Mapping[str, Checksum]) -> None:
    """Write a checkpoint's state.json.

    Args:
        path: The checkpoint's folder.
        record: JSON values, among them ``step`` and ``extra``.
        files: The checksum of each other file of the checkpoint, by its name.
    """
    state = {**record, "files": {name: asdict(checksum) for name, checksum in files.items()}}
    text = json.dumps({**state, "sha256": _digest(state)}, allow_nan=False)
    (path / STATE_NAME).write_text(text, encoding="utf-8")


def read_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint's state.json.

    Raises:
        DamagedCheckpoint: It is missing, is not JSON, or its values are not those that were written.
        UnipError: It cannot be read.
    """
    try:
        content = read_regular(path / STATE_NAME)
    except OSError as error:
        raise _unreadable(path, STATE_NAME, error) from error
    try:
        state: dict[str, Any] = parse_json(content, "it")
        fit(state, SavedState, "values")
    except UnipError as error:
        why = error.what.removeprefix("it ").removeprefix("values: ")
        says = why if error.what.startswith("it ") else f"lacks values or has others ({why})"
        raise DamagedCheckpoint(path, STATE_NAME, says) from error
    # checkpoints from before checksums were recorded have neither of the two: they are taken as they are
    if {"files", "sha256"} & state.keys() and state.pop("sha256", None) != _digest(state):
        raise DamagedCheckpoint(path, STATE_NAME, "has other values than were written (its SHA-256 differs)")
    return state


def verify(path: Path) -> None:
    """Compare all files of a checkpoint with their checksums; each is read once.

    Raises:
        DamagedCheckpoint: One is missing or is not what was written.
        UnipError: One cannot be read.
    """
    for name, wanted in read_state(path).get("files", {}).items():
        file = path / name
        try:
            size = status(file).st_size
            if size != wanted["size"]:
                raise DamagedCheckpoint(path, name, f"has {size} bytes, not the {wanted['size']} that were written")
            if sha256(file) != wanted["sha256"]:
                raise DamagedCheckpoint(path, name, "has other bytes than were written (its SHA-256 differs)")
        except OSError as error:
            raise _unreadable(path, name, error) from error


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _unreadable(path: Path, name: str, error: OSError) -> UnipError:
    if error.errno == errno.ENOENT:
        return DamagedCheckpoint(path, name, "is missing")
    if error.errno in _LOST:
        return DamagedCheckpoint(path, name, f"cannot be read ({error.strerror})")
    return UnipError(f"cannot read {path / name}: {error.strerror or error}", "Make it readable, then run again.")
