"""The images of some sources with the facts of each file, broken ones included: what `check` and `dedup` start from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unip.data.manifests.facts import FileFacts, facts_of
from unip.data.manifests.manifest import Row, measured, modalities_by_pixels, modality_notes, read_manifest, row_of
from unip.data.manifests.sources import ImageFile, find_index, is_manifest, list_source, split_source
from unip.errors import UnipError

JOURNAL = "facts.jsonl"  # in the hidden folder of an output folder


@dataclass(frozen=True)
class Item:
    """One image: its row, and the facts of its file; None if the row was dropped before."""

    row: Row
    facts: FileFacts | None


@dataclass(frozen=True)
class Inventory:
    """The images by source and bytes of the path, and what was guessed or could not be listed, in sentences."""

    items: list[Item]
    notes: list[str]


def take_inventory(sources: Sequence[str], journal: Path | None, *, workers: int = 0) -> Inventory:
    """Read every file of some sources once.

    Args:
        sources: Folders, single images, ``infrared=FOLDER``, ``rgb=FOLDER``, or manifests, whose groups and frames are
            kept and whose dropped rows stay dropped.
        journal: Keeps what was read, see :func:`unip.data.manifests.facts.facts_of`.
        workers: Threads; 0 means one for each core.

    Raises:
        UnipError: A source is missing or empty, or is a packed set.
    """
    if not sources:
        raise UnipError("no image source was given", "Give a folder, infrared=FOLDER, rgb=FOLDER or a manifest.")
    rows: dict[bytes, Row] = {}
    found: dict[bytes, ImageFile] = {}
    notes: list[str] = []
    for source in sources:
        modality, location = split_source(source)
        if is_manifest(location):
            rows |= {path: row for path, row in _rows_of(location).items() if path not in rows}
        else:
            listed = list_source(location, modality, lambda error: notes.append(f"cannot be opened: {error}"))
            for entry in listed:
                found.setdefault(os.fsencode(entry.path), entry)
    found = {path: entry for path, entry in found.items() if path not in rows}
    paths = sorted({path for path, row in rows.items() if row.kept} | set(found))
    facts = dict(zip(paths, facts_of(paths, journal, workers=workers), strict=True))
    entries = list(found.values())
    by_pixels = modalities_by_pixels(entries, [facts[path] for path in found])
    names = {entry.path.parent: entry.source for entry in entries}
    items = [Item(_with_facts(row, facts[path]) if row.kept else row, facts.get(path)) for path, row in rows.items()]
    for path, entry in found.items():
        row = row_of(facts[path], entry.modality or by_pixels[entry.path.parent], entry.source)
        items.append(Item(_with_facts(row, facts[path]), facts[path]))
    items.sort(key=lambda item: (item.row.source, item.row.path or b""))
    return Inventory(items, notes + modality_notes(names, by_pixels))


def _rows_of(location: Path) -> dict[bytes, Row]:
    packed = UnipError(f"{location} is a packed set", "Give the manifest or the folders that it was packed from.")
    if find_index(location) is not None:
        raise packed
    rows: dict[bytes, Row] = {}
    for values in read_manifest(location, all_rows=True, may_miss=True).to_pylist():
        row = Row(**values)
        if row.path is None:
            raise packed
        rows[row.path] = row
    return rows


def _with_facts(row: Row, facts: FileFacts) -> Row:
    if facts.problem:
        return replace(row, kept=False, reason=f"unreadable: {facts.problem}")
    return replace(row, **measured(facts))
