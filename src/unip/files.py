"""Reading files with messages that help, and what writers of files share."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from unip.documents import CORRECT, decode, parse_json, parse_yaml
from unip.errors import UnipError
from unip.opening import open_regular, regular
from unip.paths import exists, is_link, nameable, status

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

MAX_JSON_BYTES = 2_000_000_000  # COCO's largest files have a quarter of it
MAX_YAML_BYTES = 2_000_000
MAX_TEXT_BYTES = 200_000_000


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
    header = parse_json(content[8:begin], "the header of tensors")
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes, as safetensors writes them
    return len(text).to_bytes(8, "little") + text, memoryview(content)[begin:]


@overload
def read_json(path: Path, *, file_names: bool = False, fix: str = CORRECT) -> Any: ...
@overload
def read_json(path: Path, kind: type[T], *, file_names: bool = False, fix: str = CORRECT) -> T: ...
def read_json(path: Path, kind: Any = None, *, file_names: bool = False, fix: str = CORRECT) -> Any:
    """Read a JSON file; for the arguments see :func:`unip.documents.parse_json`.

    Raises:
        UnipError: The file is missing, unreadable, not JSON, or its values are not of this kind.
    """
    return parse_json(_content(path, MAX_JSON_BYTES), str(path), kind, file_names=file_names, fix=fix)


def read_yaml(path: Path, *, text_keys: bool = True) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; an empty file is an empty one.

    Raises:
        UnipError: The file is missing, unreadable, not YAML, or holds something else than a mapping.
    """
    value = parse_yaml(_content(path, MAX_YAML_BYTES), str(path), text_keys=text_keys)
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
    return decode(_content(path, MAX_TEXT_BYTES), str(path)).splitlines()


def read_table(path: Path, columns: Sequence[str], fix: str) -> list[dict[str, str]]:
    """Read a CSV file with a heading.

    Args:
        path: The file.
        columns: Of which it must have all.
        fix: What to do if it has not.

    Returns:
        A mapping from column to cell for each line.

    Raises:
        UnipError: The file is missing or unreadable, has not the columns, or a line has more or fewer cells.
    """
    text = decode(_content(path, MAX_TEXT_BYTES), str(path))
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, str]] = []
    try:
        heading = reader.fieldnames or []
        if missing := [name for name in columns if name not in heading]:
            raise UnipError(f"{path} has no column {missing[0]!r}, only {', '.join(heading) or 'none'}", fix)
        for row in reader:
            if None in row or None in row.values():
                raise UnipError(f"{path}, line {reader.line_num}: not {len(heading)} cells, as the heading has", fix)
            rows.append(row)
    except csv.Error as error:
        raise UnipError(f"{path}, line {reader.line_num}: not CSV: {error}", fix) from None
    return rows


def _content(path: Path, limit: int) -> bytes:
    """Return the bytes of a file of text."""
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise UnipError(f"cannot read {path}: {error.strerror or error}", "Check the path.") from error
    if len(content) > limit:
        raise UnipError(f"{path} is larger than {limit / 1e6:,.0f} MB, more than is read of such files")
    return content


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in pieces."""
    with open(nameable(path), "rb", opener=regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
