"""Reading files with messages that help, and what writers of files share."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unip.errors import UnipError
from unip.opening import read_regular_text, regular
from unip.paths import exists, is_link, nameable, status

if TYPE_CHECKING:
    from torch import Tensor


def advice(error: OSError) -> str:
    """Say what helps against an error of writing: another folder, and space where that is what is missing."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some space or choose another output folder"
    if error.errno == errno.ENAMETOOLONG:
        return "Rename what it is named after, or choose a shorter output folder"
    return "Choose another output folder"


def refuse_unwritable(out: Path) -> None:
    """See that an output folder can be written to, or made: before hours of work, not after. Nothing is left behind.

    Raises:
        UnipError: It cannot.
    """
    there = out
    for path in (out, *out.absolute().parents):
        if is_link(path) and not exists(path):
            what = f"cannot write to {out}: {path} is a link to {os.readlink(path)}, which is not there"
            raise UnipError(what, "Choose another output folder.")
    try:
        there = next(filter(_exists, (out, *out.absolute().parents)), out)
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        why = f"{there} is a file" if isinstance(error, NotADirectoryError) else error.strerror or error
        raise UnipError(f"cannot write to {out}: {why}", f"{advice(error)}.") from error


def _exists(path: Path) -> bool:
    """Say whether a path exists, and not, as Path.exists may, that one which cannot be looked at does not."""
    try:
        status(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@dataclass(frozen=True)
class Checksum:
    """What a file is recognised by.

    Attributes:
        size: Bytes.
        sha256: Hex SHA-256 of all of them.
    """

    size: int
    sha256: str


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Checksum:
    """Write tensors as safetensors, from any device and memory layout; equal content makes equal bytes.

    Not through safetensors' own ``save_file``: that hides a full disk behind its own error type and makes files that
    only their owner can read. Call it within :func:`unip.outputs.writing` to write whole or not at all.

    Args:
        path: Where to.
        tensors: Any shapes and dtypes, by name; none may share memory with another.
        metadata: Text values for the file's header.

    Returns:
        The checksum of what was written, computed while it was in memory.
    """
    from safetensors.torch import save  # here: it imports torch, which a file alone does not want

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header, data = _sort_metadata(save(plain, metadata={"format": "pt", **(metadata or {})}))
    digest = hashlib.sha256(header)
    digest.update(data)
    with path.open("wb") as file:
        file.write(header)
        file.write(data)
    return Checksum(len(header) + len(data), digest.hexdigest())


def _sort_metadata(content: bytes) -> tuple[bytes, memoryview]:
    """Return the header of a safetensors file with its metadata in order, and the bytes that follow it.

    safetensors keeps the metadata in a hash map, whose order is another one each time. A file is the length of its JSON
    header (8 bytes, little-endian), the header, and the tensors, whose offsets count from the header's end.
    """
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes, as safetensors writes them
    return len(text).to_bytes(8, "little") + text, memoryview(content)[begin:]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UnipError: The file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(read_regular_text(path, "utf-8-sig"))
    except OSError as error:
        raise UnipError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    except ValueError as error:
        raise UnipError(
            f"{path} is not valid JSON: {error}", "Correct the file, or delete it if unip can write it again."
        ) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        UnipError: The file is missing, unreadable, not YAML, or holds something else than a mapping.
    """
    import yaml  # here: most calls have no use for it

    try:
        value = yaml.safe_load(read_regular_text(path, "utf-8-sig"))
    except OSError as error:
        raise UnipError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UnipError(f"{path} is not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnipError(f"{path} must hold `key: value` lines, but holds a {type(value).__name__}")
    return value


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text, with or without a byte order mark.

    Raises:
        UnipError: The file is missing, unreadable or not such a text.
    """
    try:
        return read_regular_text(path, "utf-8-sig").splitlines()
    except OSError as error:
        raise UnipError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise UnipError(f"{path} is not UTF-8 text: {error}", "Save it as UTF-8.") from error


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in pieces."""
    with open(nameable(path), "rb", opener=regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
