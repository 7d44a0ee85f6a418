"""The manifest of a pre-training mix: one Parquet row for each image, made by reading every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from unip.data.images import decode_image, is_grey
from unip.data.parallel import threaded
from unip.data.sources import MODALITIES, Found, list_source, split_source
from unip.errors import UnipError
from unip.files import writing

FIELDS = ("path", "modality", "source", "width", "height", "bytes", "sha256")
SCHEMA: Any = pa.schema(
    [
        ("path", pa.string()),
        ("modality", pa.string()),
        ("source", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)
SHOWN = 5  # bad files that a message names


@dataclass(frozen=True)
class Row:
    """One image of a mix; the fields are the columns of a manifest."""

    path: str
    modality: str
    source: str
    width: int
    height: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SourceSummary:
    """What a manifest holds of one source and modality; sizes in pixels (median), bytes in all."""

    source: str
    modality: str
    images: int
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class _Read:
    """What reading a file told."""

    width: int
    height: int
    bytes: int
    sha256: str
    grey: bool


def scan_sources(sources: Sequence[str], *, workers: int = 0) -> Any:
    """Read every image of some sources into a manifest.

    A source is one of

    - ``FOLDER`` in the InfMix layout: ``infpre/<dataset>/{thermal,rgb}/*`` and ``rgb/<dataset>/*``. Any folder
      named ``thermal`` holds infrared images, any named ``rgb`` holds RGB images.
    - ``FOLDER`` of another layout: a folder whose files are mostly grey is taken for infrared, else for RGB. This is
      noted in the table's metadata, see :func:`notes`.
    - ``infrared=FOLDER`` or ``rgb=FOLDER``, which settles the modality.
    - ``FILE.parquet``, a manifest; its rows are taken as they are.

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
    found: list[Found] = []
    for source in sources:
        modality, location = split_source(source)
        if location.suffix.lower() == ".parquet":
            if modality is not None:
                raise UnipError(f"{source}: a manifest tells the modality itself", f"Give just {location}.")
            rows += (Row(**row) for row in read_manifest(location).to_pylist())
        else:
            found += list_source(location, modality)
    found = list({entry.path: entry for entry in reversed(found)}.values())
    found.sort(key=lambda entry: os.fsencode(entry.path))
    read = _read_all(found, workers)
    by_content = _modalities(found, read)
    for entry, facts in zip(found, read, strict=True):
        chosen = entry.modality or by_content[entry.path.parent]
        rows.append(Row(str(entry.path), chosen, entry.source, facts.width, facts.height, facts.bytes, facts.sha256))
    unique: dict[str, Row] = {}
    for row in rows:
        other = unique.setdefault(row.path, row)
        if other.modality != row.modality:
            raise UnipError(
                f"two sources list {row.path}, once as {other.modality} and once as {row.modality}",
                "Leave one of the sources out.",
            )
    ordered = sorted(unique.values(), key=lambda row: (row.source, os.fsencode(row.path)))
    names = {entry.path.parent: entry.source for entry in found}
    said = [f"{names[folder]}: {folder} taken for {kind} by its pixels" for folder, kind in by_content.items()]
    return _table(ordered).replace_schema_metadata({"unip.notes": json.dumps(said)})


def write_manifest(table: Any, path: Path | str) -> None:
    """Write a manifest as Parquet; images inside its folder get relative paths, so that both can move together.

    Raises:
        UnipError: The table has no row, or the file cannot be written.
    """
    path = Path(path)
    if table.num_rows == 0:
        raise UnipError(f"{path} would be an empty manifest", "Give sources that hold images.")
    folder = f"{path.parent.resolve()}{os.sep}"
    paths = [value.removeprefix(folder) for value in table["path"].to_pylist()]
    table = table.set_column(0, SCHEMA.field("path"), pa.array(paths, pa.string()))
    with writing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_manifest(path: Path | str) -> Any:
    """Read a manifest.

    Args:
        path: The Parquet file; relative paths in it start at its folder.

    Returns:
        A ``pyarrow.Table`` as :func:`scan_sources` returns it, in the order of the file.

    Raises:
        UnipError: The file is missing, not Parquet, has other columns, is empty, or lists files that do not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise UnipError(f"no such manifest: {path}", "Make one with `unip data build`.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UnipError(f"{path} is not a Parquet file that can be read: {error}", "Build it again.") from error
    missing = [name for name in FIELDS if name not in table.column_names]
    if missing:
        raise UnipError(
            f"{path} is not a manifest: no column {', '.join(missing)}", f"Its columns must be {', '.join(FIELDS)}."
        )
    try:
        table = table.select(list(FIELDS)).cast(SCHEMA.with_metadata(table.schema.metadata))
    except (pa.ArrowException, ValueError) as error:
        raise UnipError(f"{path} has a column of the wrong type: {error}", "Build it again.") from error
    if table.num_rows == 0:
        raise UnipError(f"the manifest {path} is empty", "Build it from a folder that holds images.")
    if any(column.null_count for column in table.columns):
        raise UnipError(f"{path} has empty cells", "Build it again.")
    unknown = sorted(set(table["modality"].to_pylist()) - set(MODALITIES))
    if unknown:
        raise UnipError(f"{path} holds the modality {unknown[0]!r}", f"Known: {', '.join(MODALITIES)}.")
    folder = path.parent.resolve()
    paths = [os.path.join(folder, value) for value in table["path"].to_pylist()]
    gone = [value for value in paths if not os.path.isfile(value)]
    if gone:
        raise UnipError(
            f"{len(gone)} of {len(paths)} images of {path} do not exist:\n" + _first(gone),
            "Put them back or build the manifest again.",
        )
    return table.set_column(0, SCHEMA.field("path"), pa.array(paths, pa.string()))


def open_images(sources: Sequence[str], *, workers: int = 0) -> Any:
    """Return the manifest of some sources: a single Parquet file is read, all else is scanned."""
    if len(sources) == 1 and sources[0].lower().endswith(".parquet"):
        return read_manifest(sources[0])
    return scan_sources(sources, workers=workers)


def notes(table: Any) -> list[str]:
    """Return what a scan had to guess, one sentence a folder."""
    said: list[str] = json.loads((table.schema.metadata or {}).get(b"unip.notes", b"[]"))
    return said


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
    for modality in MODALITIES:
        chosen = [row for row in rows if row.modality == modality]
        total = f"{sum(row.images for row in chosen):,}"
        table.add_row("all", modality, total, "", f"{sum(row.bytes for row in chosen) / 1e6:.1f}")
    return table


def _read_all(found: Sequence[Found], workers: int) -> list[_Read]:
    def read(entry: Found) -> _Read | str:
        try:
            data = entry.path.read_bytes()
            image = decode_image(data, entry.path)
        except OSError as error:
            return f"cannot read image {entry.path}: {error.strerror or error}"
        except UnipError as error:
            return error.what
        height, width = image.shape[:2]
        return _Read(width, height, len(data), hashlib.sha256(data).hexdigest(), is_grey(image))

    good: list[_Read] = []
    bad: list[str] = []
    for result in threaded(read, found, "scanning images", workers=workers):
        if isinstance(result, str):
            bad.append(result)
        else:
            good.append(result)
    if bad:
        raise UnipError(
            f"{len(bad)} of {len(found)} images cannot be used:\n{_first(bad)}", "Copy them again or remove them."
        )
    return good


def _modalities(found: Sequence[Found], read: Sequence[_Read]) -> dict[Path, str]:
    """Tell the modality of the folders whose names did not: mostly grey files are infrared."""
    grey: dict[Path, list[bool]] = {}
    for entry, facts in zip(found, read, strict=True):
        if entry.modality is None:
            grey.setdefault(entry.path.parent, []).append(facts.grey)
    return {folder: "infrared" if 2 * sum(files) > len(files) else "rgb" for folder, files in grey.items()}


def _table(rows: Sequence[Row]) -> Any:
    return pa.table({name: [getattr(row, name) for row in rows] for name in FIELDS}, schema=SCHEMA)


def _first(lines: Sequence[str]) -> str:
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([f"  {line}" for line in lines[:SHOWN]] + more)
