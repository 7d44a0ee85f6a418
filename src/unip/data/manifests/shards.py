"""Writing one shard of a packed set: Parquet that `datasets` reads as images, laid out for reading one image alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unip.data.images.addresses import read_bytes
from unip.data.images.encoding import Encoded
from unip.data.manifests.packed import IMAGE, addresses
from unip.data.manifests.rows import Row
from unip.data.manifests.sources import printable
from unip.documents import try_fit, try_json
from unip.opening import open_regular
from unip.outputs import writing

NOTE = b"unip.pack"
GROUP_ROWS = 100  # what `datasets` and the hub's viewer like for images
GROUP_BYTES = 64_000_000
PAGE = 1 << 30  # no row group reaches it, so that its images lie in one page

IMAGE_TYPE: Any = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TYPE_NAMES = {"float": "float32", "double": "float64"}  # arrow -> datasets, where they differ


@dataclass(frozen=True)
class PackIdentity:
    """What must agree for shards to belong together: the manifest and the settings of `data pack`."""

    version: int
    manifest_sha256: str
    images: int
    short_side: int | None
    shard_mb: float
    seed: int
    format: str
    quality: int


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be packed, and why.

    Attributes:
        row: Its place in the manifest.
        path: As Python decodes file names.
        reason: Why.
    """

    row: int
    path: str
    reason: str


@dataclass(frozen=True)
class ShardNote:
    """What the writer of a shard noted in its footer.

    Attributes:
        identity: None of another version's shard.
        shard: Its number.
        shards: How many there are.
        rows: Images in it.
        skipped: Those that should be in it.
    """

    identity: PackIdentity | None = None
    shard: int = 0
    shards: int = 0
    rows: int = 0
    skipped: tuple[SkippedImage, ...] = ()


NO_NOTE = ShardNote()


def shard_schema(manifest: Any) -> Any:
    """Return the columns of a shard: the image, then those of the manifest, with what `datasets` wants to know."""
    fields = [pa.field("image", IMAGE_TYPE)] + [field for field in manifest if field.name != "image"]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    for field in fields[1:]:
        features[field.name] = {"dtype": TYPE_NAMES.get(str(field.type), str(field.type)), "_type": "Value"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def read_note(path: Path) -> ShardNote | None:
    """Return what the writer of a shard noted: ``NO_NOTE`` for other Parquet files, None if it cannot be read."""
    try:
        with open_regular(path) as file:
            metadata = pq.read_metadata(file).metadata or {}
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return None
    if NOTE not in metadata:
        return NO_NOTE
    if (note := try_json(metadata[NOTE], dict[str, Any])) is None:
        return None
    identity = try_fit(note.get("identity"), PackIdentity)
    return try_fit({**note, "identity": identity}, ShardNote)


def write_shard(path: Path, schema: Any, items: Iterable[tuple[Row, Encoded]], note: Callable[[], ShardNote]) -> None:
    """Write one shard, whole or not at all.

    Args:
        path: The file.
        schema: See :func:`shard_schema`.
        items: The rows of the manifest, in order, each with its image; they are taken one after the other.
        note: Called after the last row; what it returns is kept in the footer, see :func:`read_note`.

    Raises:
        UnipError: The disk is full or read-only.
    """
    others = [name for name in schema.names if name != "image"]
    with writing(path) as temporary:
        sizes: list[int] = []
        with pq.ParquetWriter(
            temporary,
            schema,
            compression={IMAGE: "none", **dict.fromkeys(["image.path", *others], "zstd")},
            use_dictionary=["image.path", *others],
            write_statistics=others,
            data_page_size=PAGE,
        ) as writer:
            for rows in _grouped(items, others):
                writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=len(rows))
                sizes += (row["bytes"] for row in rows)
            writer.add_key_value_metadata({NOTE: json.dumps(asdict(note()))})
        for address in addresses(temporary, pq.read_metadata(temporary), np.array(sizes, dtype=np.int64)):
            read_bytes(address)  # raises if an image does not lie where readers will look for it
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a finished shard is not looked at again, so it must outlive a power cut


def _grouped(items: Iterable[tuple[Row, Encoded]], names: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the values of each row group, by column."""
    rows: list[dict[str, Any]] = []
    room = GROUP_BYTES
    for row, image in items:
        name = printable(os.path.basename(row.path or b"")) or image.sha256
        facts = {key: getattr(image, key) for key in ("width", "height", "bits", "sha256", "conversion")}
        stored = {"bytes": image.data, "path": f"{name.removesuffix(f'.{image.ending}')}.{image.ending}"}
        values = {name: getattr(row, name) for name in names}
        rows.append({**values, **facts, "bytes": len(image.data), "image": stored})
        room -= len(image.data)
        if len(rows) == GROUP_ROWS or room <= 0:
            yield rows
            rows, room = [], GROUP_BYTES
    if rows:
        yield rows
