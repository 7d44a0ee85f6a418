"""What a source offers, whatever its kind, and how a recipe's paths and patterns are followed."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unip.data.manifests.recipe import SourceConfig
from unip.data.manifests.sources import Entry, printable
from unip.errors import UnipError
from unip.paths import expand, is_dir

Fetch = Callable[[Sequence[Entry]], None]  # makes the files at ``path``; sets ``reason`` where that fails


@dataclass
class Listing:
    """The entries of one source, sorted by key, how to get at their files, and folders that could not be opened."""

    config: SourceConfig
    entries: list[Entry]
    fetch: Fetch | None = None
    problems: list[str] = field(default_factory=list)


def located(place: str, root: Path) -> str:
    """Return a path of a recipe as an absolute one."""
    return os.path.abspath(os.path.join(root, expand(place)))


def glob_files(pattern: str, suffixes: Sequence[str]) -> tuple[str, list[str]]:
    """Find files by a pattern; a folder that links lead to twice is taken once, by its shortest name.

    Returns:
        The folder above the first wildcard, and the absolute paths of files with these suffixes, sorted by bytes.
    """
    magic = re.search(r"[*?\[]", pattern)
    base = os.path.dirname(pattern[: magic.start()] if magic else pattern)
    files: dict[str, str] = {}
    found = (p for p in glob.glob(pattern, recursive=True) if os.path.splitext(p)[1].lower() in suffixes)
    for path in sorted(found, key=lambda p: (len(os.fsencode(p)), os.fsencode(p))):
        if not is_dir(path):
            files.setdefault(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)), path)
    if not files:
        raise UnipError(f"nothing matches {printable(pattern)}", f"Known endings: {', '.join(suffixes)}.")
    return base, sorted(files.values(), key=os.fsencode)
