"""Manifests: one Parquet row per image of a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from unip.data.images.addresses import file_of
from unip.data.manifests.packed import open_packed
from unip.data.manifests.rows import DEFAULTS, FIELDS, MAY_BE_EMPTY, REQUIRED, SCHEMA
from unip.data.manifests.sources import MODALITIES, check_manifest, find_index, printable
from unip.documents import try_json
from unip.errors import UnipError
from unip.opening import open_regular
from unip.outputs import writing
from unip.paths import is_file, resolve

SHOWN = 5  # files that a message names


@dataclass(frozen=True)
class SourceSummary:
    """What a manifest holds of one source and modality; sizes in pixels (median), bytes in all."""

    source: str
    modality: str
    images: int
    width: int
    height: int
    bytes: int


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
    folder = os.fsencode(resolve(path.parent)) + os.fsencode(os.sep)
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
        A ``pyarrow.Table`` with the columns ``FIELDS`` and absolute paths, in the order of the file.

    Raises:
        UnipError: The file is missing, not Parquet, has other columns, is empty, or lists files that do not exist.
    """
    path = Path(path)
    check_manifest(path)
    table = _with_all_columns(_read_table(path), path)
    listed = table.num_rows
    if not all_rows:
        table = table.filter(table["kept"])
    if table.num_rows == 0:
        what = "keeps none of its rows" if listed else "is empty"
        raise UnipError(f"the manifest {path} {what}", "Build it from a folder that holds images.")
    _check_cells(table, path)
    folder = os.fsencode(resolve(path.parent))
    table = with_paths(table, [value and os.path.join(folder, value) for value in table["path"].to_pylist()])
    if not may_miss:
        _check_files(table, path)
    return table


def _read_table(path: Path) -> Any:
    index = find_index(path)
    try:
        if index:
            return open_packed(index)
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            return file.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of names of columns
        raise UnipError(f"{path} is not a Parquet file that can be read: {error}", "Build it again.") from error


def _with_all_columns(table: Any, path: Path) -> Any:
    """Return the table with the columns ``FIELDS`` in their types."""
    if twice := [name for name in FIELDS if table.column_names.count(name) > 1]:
        raise UnipError(f"{path} has two columns {twice[0]}", "Build it again.")
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
    _check_types(table, path)
    try:
        table = table.select(list(FIELDS)).cast(SCHEMA.with_metadata(table.schema.metadata))
    except (pa.ArrowException, ValueError) as error:
        raise UnipError(f"{path} has a column of the wrong type: {error}", "Build it again.") from error
    for name in FIELDS:
        try:
            table[name].validate(full=True)  # Parquet does not see to it that text is UTF-8
        except pa.ArrowException as error:
            raise UnipError(
                f"{path} is damaged in column {name}: {error}", "Build it again, or copy it again."
            ) from error
    return table


def _check_types(table: Any, path: Path) -> None:
    """Refuse what Arrow would turn into another kind of value, such as numbers into text."""
    for name in FIELDS:
        kind, wanted = table.schema.field(name).type, SCHEMA.field(name).type
        if not pa.types.is_null(kind) and _family(kind) != _family(wanted):
            what = f"{path} has a column of the wrong type: {name} holds {kind}, not {wanted}"
            raise UnipError(what, "Build it again.")


def _family(kind: Any) -> str:
    """Return the kind of values of an Arrow type."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_integer(kind) or types.is_floating(kind):
        return "numbers"
    text = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return "text" if any(is_it(kind) for is_it in text) else str(kind)


def _check_cells(table: Any, path: Path) -> None:
    """Refuse empty cells and unknown modalities."""
    empty = any(table[name].null_count for name in FIELDS if name not in MAY_BE_EMPTY)
    places = zip(table["path"].to_pylist(), table["image"].is_valid().to_pylist(), strict=True)
    if empty or any(value is None and not image for value, image in places):
        raise UnipError(f"{path} has empty cells", "Build it again.")
    unknown = sorted(set(table["modality"].to_pylist()) - set(MODALITIES))
    if unknown:
        raise UnipError(f"{path} holds the modality {unknown[0]!r}", f"Known: {', '.join(MODALITIES)}.")


def _check_files(table: Any, path: Path) -> None:
    """Refuse kept rows whose files are gone."""
    needed = [value for value in table.filter(table["kept"])["path"].to_pylist() if value]
    lost = {file for file in {file_of(value) for value in needed} if not is_file(file)}
    if lost:
        gone = [printable(value) for value in needed if file_of(value) in lost]
        raise UnipError(
            f"{len(gone)} of {table.num_rows} images of {path} do not exist:\n{first_lines(gone)}",
            "Put them back or build the manifest again.",
        )


def notes(table: Any) -> list[str]:
    """Return what a scan had to guess, one sentence a folder."""
    return try_json((table.schema.metadata or {}).get(b"unip.notes", b"[]"), list[str]) or []


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


def first_lines(lines: Sequence[str]) -> str:
    """Return the first lines, indented, and how many more there are."""
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([f"  {line}" for line in lines[:SHOWN]] + more)
