"""The list of files that a call has written to its output folder: a line of JSON each, and files compared with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unip.documents import try_json
from unip.opening import open_regular, read_regular
from unip.paths import is_dir, is_file, is_link, status

HIDDEN = ".unip"  # the folder in an output folder that holds the list
HASHED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Written:
    """What was written: the size in bytes and the SHA-256 of a file, or the target of a symbolic link.

    Behind a file that is still ``growing`` (a log) there may be more bytes than those.
    """

    size: int = 0
    sha256: str = hashlib.sha256().hexdigest()
    link: str | None = None
    growing: bool = False


def read_list(path: Path) -> dict[str, list[Written]]:
    """Return what a list says of each file, by its name in the folder; the file is as one of the entries says."""
    known: dict[str, list[Written]] = {}
    try:
        lines = read_regular(path).splitlines()
    except OSError:
        return known
    for line in filter(None, lines):
        try:
            record = try_json(line, dict[str, Any]) or {}
            name = record.pop("file", None)
            if is_inside(name):
                apply_line(known, name, record)
        except TypeError:
            continue  # a line that a kill has cut: what it listed does not count as ours
    return known


def is_inside(name: Any) -> bool:
    """Say whether this is the name of a file in the folder, as we write it."""
    if not isinstance(name, str) or "\0" in name or name != os.path.normpath(name):
        return False
    return not os.path.isabs(name) and name.split("/")[0] not in ("", ".", "..", HIDDEN)


def apply_line(known: dict[str, list[Written]], name: str, record: dict[str, Any]) -> None:
    """Take a line of the list into account; of the entries before, the last one may still be true after a kill."""
    values: dict[str, Any] = {
        "size": 0,
        "sha256": "",
        "link": "",
        "growing": False,
        "deleted": False,
        "only": False,
    } | record
    written = Written(values["size"], values["sha256"], record.get("link"), values["growing"])
    if [type(value) for value in values.values()] != [int, str, str, bool, bool, bool] or written.size < 0:
        raise TypeError(f"not what note() writes: {record}")
    before = known.pop(name, [])[-1:]
    if not values["deleted"]:
        known[name] = [written] if values["only"] else [*before, written]


def as_json(written: Written) -> dict[str, Any]:
    """Return the values of a line, less the name."""
    if written.link is not None:
        return {"link": written.link}
    return {"size": written.size, "sha256": written.sha256} | ({"growing": True} if written.growing else {})


def written_state(path: Path) -> Written:
    """Return what a file is now."""
    if is_link(path):
        return Written(link=os.readlink(path))
    size = status(path).st_size
    return Written(size, _hash(path, size))


def matches(path: Path, info: os.stat_result, written: Written) -> bool:
    """Say whether a file is what was written."""
    if written.link is not None:
        return is_link(path) and os.readlink(path) == written.link
    if is_link(path) or not is_file(path) or info.st_size < written.size:
        return False
    return (written.growing or info.st_size == written.size) and _hash(path, written.size) == written.sha256


def _hash(path: Path, size: int) -> str:
    """Return the hex SHA-256 of a file's first ``size`` bytes."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while size > 0 and (data := file.read(min(size, HASHED_AT_ONCE))):
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 where there is none."""
    try:
        return status(path).st_size
    except OSError:
        return 0


def stamp_of(info: os.stat_result) -> tuple[int, int, int]:
    """Return what tells at once that a file is the one that was looked at before."""
    return info.st_size, info.st_mtime_ns, info.st_ino


def walk(target: Path, name: str) -> Iterator[str]:
    """Yield the files of what was written, by the names that they will have."""
    if is_link(target) or not is_dir(target):
        yield name
        return
    for folder, folders, files in os.walk(target):
        links = [each for each in folders if is_link(Path(folder) / each)]
        for each in [*files, *links]:
            yield (Path(name) / Path(folder).relative_to(target) / each).as_posix()
