"""The manifest of a pre-training data set: one Parquet row per image, made by reading every file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from unip.data.images.addresses import file_of
from unip.data.manifests.facts import FileFacts, facts_of
from unip.data.manifests.packed import open_packed
from unip.data.manifests.sources import (
    MODALITIES,
    ImageFile,
    check_manifest,
    find_index,
    is_manifest,
    list_source,
    printable,
    split_source,
)
from unip.errors import UnipError
from unip.opening import open_regular
from unip.outputs import writing

SCHEMA: Any = pa.schema(
    [
        ("path", pa.binary()),
        ("image", pa.binary()),
        ("modality", pa.string()),
        ("source", pa.string()),
        ("group", pa.string()),
        ("frame", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bits", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("weight", pa.float32()),
        ("grey", pa.bool_()),
        ("conversion", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
    ]
)
FIELDS = tuple(SCHEMA.names)
REQUIRED = ("path", "modality", "source", "width", "height", "bytes", "sha256")  # all that older manifests hold
SHOWN = 5  # bad files that a message names

Bytes = bytes  # a field of Row has the name of the type


@dataclass(frozen=True)
class Row:
    """One image of a data set; the fields are the columns of a manifest.

    Attributes:
        path: The file; absolute in memory. None where ``image`` holds the encoded file itself.
        image: The encoded file, in packed sets.
        modality: ``infrared``, ``rgb`` or ``depth``.
        source: Name of the dataset.
        group: The video or flight that neighbouring frames share; empty if none.
        frame: Place in it.
        width: Pixels; 0 where the file was not read, as all that follows.
        height: Pixels.
        bits: Of a sample, 8 or 16.
        bytes: Size of the file.
        sha256: Of the file.
        phash: Perceptual hash, see :func:`unip.data.manifests.facts.perceptual_hash`.
        weight: How often it is shown, relative to the others.
        grey: Whether it is turned to grey when it is shown or packed.
        conversion: How counts become 8 bits (JSON); None: the default.
        kept: False for a row that is only listed.
        reason: Why it was dropped.
    """

    path: Bytes | None
    modality: str
    source: str
    width: int = 0
    height: int = 0
    bytes: int = 0
    sha256: str = ""
    image: Bytes | None = None
    group: str = ""
    frame: int | None = None
    bits: int = 8
    phash: int = 0
    weight: float = 1.0
    grey: bool = True
    conversion: str | None = None
    kept: bool = True
    reason: str = ""


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Row) if field.name not in REQUIRED}
MAY_BE_EMPTY = ("path", "image", "frame", "conversion")


@dataclass(frozen=True)
class SourceSummary:
    """What a manifest holds of one source and modality; sizes in pixels (median), bytes in all."""

    source: str
    modality: str
    images: int
    width: int
    height: int
    bytes: int


def scan_sources(sources: Sequence[str], *, workers: int = 0) -> Any:
    """Read every image of some sources into a manifest.

    A source is one of

    - ``FOLDER`` in the InfMix layout: ``infpre/<dataset>/{thermal,rgb}/*`` and ``rgb/<dataset>/*``. Any folder
      named ``thermal`` holds infrared images, any named ``rgb`` holds RGB images.
    - ``FOLDER`` of another layout: a folder whose files are mostly grey is taken for infrared, else for RGB. This is
      noted in the table's metadata, see :func:`notes`.
    - ``infrared=FOLDER`` or ``rgb=FOLDER``, which settles the modality.
    - ``FILE.parquet``, a manifest, or the folder of a packed set; its rows are taken as they are.

    The ``masks`` folder beside an ``images`` folder is left out. A file that two sources list is taken once.

    Args:
        sources: The sources.
        workers: Threads; 0 means one for each core.

    Returns:
        A ``pyarrow.Table`` with the columns ``FIELDS``, absolute paths, sorted by source and the bytes of the path.

    Raises:
        UnipError: A source is missing, empty or contradicts another, or a file is damaged (the first ones are named).
    """
    if not sources:
        raise UnipError("no image source was given", "Give a folder, infrared=FOLDER, rgb=FOLDER or a manifest.")
    rows: list[Row] = []
    found: list[ImageFile] = []
    for source in sources:
        modality, location = split_source(source)
        if is_manifest(location):
            if modality is not None:
                raise UnipError(f"{source}: a manifest tells the modality itself", f"Give just {location}.")
            rows += (Row(**row) for row in read_manifest(location).to_pylist())
        else:
            found += list_source(location, modality)
    found = list({entry.path: entry for entry in reversed(found)}.values())
    found.sort(key=lambda entry: os.fsencode(entry.path))
    read = _read_all(found, workers)
    by_content = modalities_by_pixels(found, read)
    for entry, facts in zip(found, read, strict=True):
        rows.append(row_of(facts, entry.modality or by_content[entry.path.parent], entry.source))
    unique: dict[bytes, Row] = {}
    for row in rows:
        other = unique.setdefault(row.path or row.sha256.encode(), row)
        if other.modality != row.modality:
            raise UnipError(
                f"two sources list {printable(row.path or b'')}, once as {other.modality} and once as {row.modality}",
                "Leave one of the sources out.",
            )
    ordered = sorted(unique.values(), key=lambda row: (row.source, row.path or b"", row.sha256))
    names = {entry.path.parent: entry.source for entry in found}
    return table_of(ordered, modality_notes(names, by_content))


def measured(facts: FileFacts) -> dict[str, Any]:
    """Return the fields of a row that are measured from its file."""
    return {name: getattr(facts, name) for name in ("width", "height", "bits", "bytes", "sha256", "phash")}


def row_of(facts: FileFacts, modality: str, source: str) -> Row:
    """Make the row of a file that was read; one with a problem is not kept."""
    return Row(
        path=facts.path,
        modality=modality,
        source=source,
        **measured(facts),
        kept=facts.problem is None,
        reason=facts.problem or "",
    )


def table_of(rows: Sequence[Row], note_lines: Sequence[str] = ()) -> Any:
    """Make a table of rows; ``note_lines`` are its :func:`notes`."""
    columns = {name: [getattr(row, name) for row in rows] for name in FIELDS}
    return pa.table(columns, schema=SCHEMA.with_metadata({"unip.notes": json.dumps(list(note_lines))}))


def paths_of(table: Any) -> list[str]:
    """Return the paths of a manifest's files as Python takes them, any bytes in them included.

    Raises:
        UnipError: An image lies in the manifest itself.
    """
    paths = table["path"].to_pylist()
    if None in paths:
        raise UnipError("the manifest holds the images themselves, not files", "Give one that lists files.")
    return [os.fsdecode(path) for path in paths]


def with_paths(table: Any, paths: Sequence[bytes | str | None]) -> Any:
    """Return the table with other paths."""
    values = pa.array([None if path is None else os.fsencode(path) for path in paths], pa.binary())
    return table.set_column(table.schema.get_field_index("path"), SCHEMA.field("path"), values)


def write_manifest(table: Any, path: Path | str) -> None:
    """Write a manifest as Parquet; images inside its folder get relative paths, so that both can move together.

    Raises:
        UnipError: The table has no row, or the file cannot be written.
    """
    path = Path(path)
    if table.num_rows == 0:
        raise UnipError(f"{path} would be an empty manifest", "Give sources that hold images.")
    folder = os.fsencode(path.parent.resolve()) + os.fsencode(os.sep)
    table = with_paths(table, [value and value.removeprefix(folder) for value in table["path"].to_pylist()])
    with writing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_manifest(path: Path | str, *, all_rows: bool = False, may_miss: bool = False) -> Any:
    """Read a manifest; columns that older ones lack get the defaults of :class:`Row`.

    Args:
        path: The Parquet file; relative paths in it start at its folder. Or a packed set, see
            :func:`unip.data.manifests.packed.open_packed`.
        all_rows: Keep the rows that were dropped when it was made, whose files may be gone.
        may_miss: Do not mind files that are gone.

    Returns:
        A ``pyarrow.Table`` as :func:`scan_sources` returns it, in the order of the file.

    Raises:
        UnipError: The file is missing, not Parquet, has other columns, is empty, or lists files that do not exist.
    """
    path = Path(path)
    index = find_index(path)
    check_manifest(path)
    try:
        table = open_packed(index) if index else _read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UnipError(f"{path} is not a Parquet file that can be read: {error}", "Build it again.") from error
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise UnipError(
            f"{path} is not a manifest: no column {', '.join(missing)}", f"Its columns must be {', '.join(REQUIRED)}."
        )
    if "reading" in table.column_names:  # how its frames become 8 bits would be lost without a word
        raise UnipError(f"{path} is of unip 0.1, where the column `conversion` was `reading`", "Build it again.")
    for name, value in DEFAULTS.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * table.num_rows, SCHEMA.field(name).type))
    try:
        table = table.select(list(FIELDS)).cast(SCHEMA.with_metadata(table.schema.metadata))
    except (pa.ArrowException, ValueError) as error:
        raise UnipError(f"{path} has a column of the wrong type: {error}", "Build it again.") from error
    listed = table.num_rows
    if not all_rows:
        table = table.filter(table["kept"])
    if table.num_rows == 0:
        what = "keeps none of its rows" if listed else "is empty"
        raise UnipError(f"the manifest {path} {what}", "Build it from a folder that holds images.")
    paths = table["path"].to_pylist()
    empty = any(table[name].null_count for name in FIELDS if name not in MAY_BE_EMPTY)
    if empty or any(a is None and not b for a, b in zip(paths, table["image"].is_valid().to_pylist(), strict=True)):
        raise UnipError(f"{path} has empty cells", "Build it again.")
    unknown = sorted(set(table["modality"].to_pylist()) - set(MODALITIES))
    if unknown:
        raise UnipError(f"{path} holds the modality {unknown[0]!r}", f"Known: {', '.join(MODALITIES)}.")
    folder = os.fsencode(path.parent.resolve())
    paths = [value and os.path.join(folder, value) for value in paths]
    needed = [value for value, kept in zip(paths, table["kept"].to_pylist(), strict=True) if kept and value]
    lost = {file for file in {file_of(value) for value in needed} if not os.path.isfile(file)}
    if lost and not may_miss:
        gone = [value for value in needed if file_of(value) in lost]
        raise UnipError(
            f"{len(gone)} of {len(paths)} images of {path} do not exist:\n" + _first([printable(p) for p in gone]),
            "Put them back or build the manifest again.",
        )
    return with_paths(table, paths)


def _read_table(path: Path) -> Any:
    with open_regular(path) as opened, pq.ParquetFile(opened) as file:
        return file.read()


def open_images(sources: Sequence[str], *, workers: int = 0) -> Any:
    """Return the manifest of some sources: a single manifest or packed set is read, all else is scanned."""
    if len(sources) == 1 and is_manifest(Path(sources[0])):
        return read_manifest(sources[0])
    return scan_sources(sources, workers=workers)


def notes(table: Any) -> list[str]:
    """Return what a scan had to guess, one sentence a folder."""
    note_lines: list[str] = json.loads((table.schema.metadata or {}).get(b"unip.notes", b"[]"))
    return note_lines


def summary(table: Any) -> list[SourceSummary]:
    """Count the images of each source and modality, sorted by both."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.select(["source", "modality", "width", "height", "bytes"]).to_pylist():
        groups.setdefault((row["source"], row["modality"]), []).append(row)
    return [
        SourceSummary(
            source,
            modality,
            len(rows),
            int(np.median([row["width"] for row in rows])),
            int(np.median([row["height"] for row in rows])),
            sum(row["bytes"] for row in rows),
        )
        for (source, modality), rows in sorted(groups.items())
    ]


def summary_table(rows: Sequence[SourceSummary]) -> Table:
    """Lay the summary out for a terminal, with a last line for each modality."""
    table = Table("source", "modality", title="Images")
    for name in ("images", "median size", "MB"):
        table.add_column(name, justify="right")
    for row in rows:
        size = f"{row.width}x{row.height}"
        table.add_row(row.source, row.modality, f"{row.images:,}", size, f"{row.bytes / 1e6:.1f}")
    table.add_section()
    for modality in sorted({row.modality for row in rows}, key=MODALITIES.index):
        chosen = [row for row in rows if row.modality == modality]
        total = f"{sum(row.images for row in chosen):,}"
        table.add_row("all", modality, total, "", f"{sum(row.bytes for row in chosen) / 1e6:.1f}")
    return table


def modalities_by_pixels(found: Sequence[ImageFile], read: Sequence[FileFacts]) -> dict[Path, str]:
    """Tell the modality of the folders whose names did not: mostly grey files are infrared."""
    grey: dict[Path, list[bool]] = {}
    for entry, facts in zip(found, read, strict=True):
        if entry.modality is None:
            files = grey.setdefault(entry.path.parent, [])
            if facts.problem is None:
                files.append(facts.grey)
    return {folder: "infrared" if 2 * sum(files) > len(files) else "rgb" for folder, files in grey.items()}


def modality_notes(names: Mapping[Path, str], by_content: Mapping[Path, str]) -> list[str]:
    """Say which folders were taken for which modality by their pixels."""
    return [
        f"{names[folder]}: {printable(str(folder))} taken for {kind} by its pixels"
        for folder, kind in by_content.items()
    ]


def _read_all(found: Sequence[ImageFile], workers: int) -> list[FileFacts]:
    paths = [os.fsencode(entry.path) for entry in found]
    read = list(facts_of(paths, workers=workers, what="scanning images"))
    bad = [f"{printable(facts.path)}: {facts.problem}" for facts in read if facts.problem]
    if bad:
        raise UnipError(
            f"{len(bad)} of {len(found)} images cannot be used:\n{_first(bad)}", "Copy them again or remove them."
        )
    return read


def _first(lines: Sequence[str]) -> str:
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([f"  {line}" for line in lines[:SHOWN]] + more)
