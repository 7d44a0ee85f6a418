"""Packed sets: shards of encoded images in Parquet, any of which is read as fast as a file of its own.

The images of a shard are stored plain: uncompressed, and each row group's in one page. So every encoded image lies in
the shard as it was on disk, and its place follows from the footer and the sizes alone. Its *address*,
``SHARD.parquet#OFFSET+SIZE``, takes the place of a path wherever images are read. Nothing is kept open: forked workers,
spawned workers and threads read without knowing of each other, and the system's page cache does the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from unip.data.images.addresses import PREFIX
from unip.data.manifests.sources import INDEX, find_index
from unip.documents import fit
from unip.errors import UnipError
from unip.files import read_json
from unip.opening import open_regular
from unip.paths import resolve

VERSION = 1
IMAGE = "image.bytes"  # the Parquet column, as `datasets` names it


@dataclass(frozen=True)
class ShardEntry:
    """A shard that an index lists."""

    file: str
    rows: int


@dataclass(frozen=True)
class PackIndex:
    """What is read of an index."""

    shards: list[ShardEntry]


def open_packed(location: Path | str) -> Any:
    """Open a packed set: read the columns beside the images, and find where each image lies.

    Args:
        location: The folder, or the index file in it.

    Returns:
        A ``pyarrow.Table`` with the columns of a manifest in the order of the shards; ``path`` holds addresses for
        :func:`read_bytes`, ``image`` is left out. A row's number is its place in the whole set.

    Raises:
        UnipError: It is no packed set, a newer one, or a shard is missing or damaged.
    """
    index = find_index(location)
    if index is None:
        raise UnipError(f"{location} is not a packed set: it has no {INDEX}", "Make one with `unip data pack`.")
    facts = read_json(index)
    if not isinstance(facts, dict) or facts.get("version") != VERSION or not facts.get("shards"):
        raise UnipError(f"{index} is not the index of a packed set that this version reads", "Pack it again.")
    shards = fit(facts, PackIndex, str(index), "Pack it again.").shards
    folder = resolve(index.parent)
    return pa.concat_tables([_open_shard(folder / shard.file, shard.rows) for shard in shards])


def addresses(shard: Path, footer: Any, sizes: npt.NDArray[np.int64]) -> list[bytes]:
    """Return the address of every image of a shard.

    A page's values come last in it, each behind its size, so they are counted backwards from the page's end.

    Args:
        shard: The file.
        footer: Its ``pyarrow.parquet.FileMetaData``.
        sizes: ``(rows,)`` int64, bytes of each image.
    """
    group = footer.row_group(0)
    column = next(i for i in range(footer.num_columns) if group.column(i).path_in_schema == IMAGE)
    offsets = np.empty(len(sizes), dtype=np.int64)
    first = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        chunk = group.column(column)
        part = slice(first, first + group.num_rows)
        room = sizes[part] + PREFIX
        end = chunk.data_page_offset + chunk.total_compressed_size
        offsets[part] = end - np.cumsum(room[::-1])[::-1] + PREFIX
        first += group.num_rows
    name = os.fsencode(shard)
    return [b"%b#%d+%d" % (name, *place) for place in zip(offsets.tolist(), sizes.tolist(), strict=True)]


def _open_shard(path: Path, rows: int) -> Any:
    again = "Copy it again, or remove it and run the same `unip data pack` again."
    try:
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            footer = file.metadata
            _check_columns(file, path, again)
            names = [name for name in file.schema_arrow.names if name != "image"]
            table = file.read(columns=names, use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of names of columns
        raise UnipError(f"the shard {path} cannot be read: {error}", again) from error
    if table.num_rows != rows:
        raise UnipError(f"the shard {path} holds {table.num_rows} images, but the index says {rows}", again)
    if table["bytes"].null_count:
        raise UnipError(f"the shard {path} does not say how many bytes each image has", again)
    found = addresses(path, footer, table["bytes"].to_numpy())
    return table.set_column(table.schema.get_field_index("path"), "path", pa.array(found, pa.binary()))


def _check_columns(file: Any, path: Path, fix: str) -> None:
    """Refuse a shard without row groups, or without the columns from which the places of its images follow."""
    names, columns = file.schema_arrow.names, [each.path for each in file.schema]
    bad = [name for name in ("path", "bytes", "image") if names.count(name) != 1]
    bad += [IMAGE] * (columns.count(IMAGE) != 1)
    if bad or file.metadata.num_row_groups == 0:
        raise UnipError(f"the shard {path} has not one column {bad[0]}" if bad else f"the shard {path} is empty", fix)
    kind = file.schema_arrow.field("bytes").type
    if not pa.types.is_integer(kind):
        raise UnipError(f"the column bytes of the shard {path} holds values of type {kind}, not whole numbers", fix)
