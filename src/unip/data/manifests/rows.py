"""The row of an image in a manifest, and the columns that many of them make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pyarrow as pa

from unip.data.manifests.facts import FileFacts

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
        ("modified", pa.int64()),
    ]
)
FIELDS = tuple(SCHEMA.names)
REQUIRED = ("path", "modality", "source", "width", "height", "bytes", "sha256")  # all that older manifests hold

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
        modified: When the file was last changed, ns since 1970; None where that is not kept.
        facts: What was found by reading the file; no column of a manifest.
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
    modified: int | None = None
    facts: FileFacts | None = field(default=None, compare=False, repr=False)


DEFAULTS = {each.name: each.default for each in fields(Row) if each.name in FIELDS and each.name not in REQUIRED}
MAY_BE_EMPTY = ("path", "image", "frame", "conversion", "modified")


def with_facts(row: Row, facts: FileFacts) -> Row:
    """Return the row of a file that was read; one with a problem is not kept."""
    if facts.problem:
        return replace(row, facts=facts, kept=False, reason=f"unreadable: {facts.problem}")
    measured = {name: getattr(facts, name) for name in ("width", "height", "bits", "bytes", "sha256", "phash")}
    return replace(row, facts=facts, **measured)


def table_of(rows: Sequence[Row], note_lines: Sequence[str] = ()) -> Any:
    """Make a table of rows; ``note_lines`` are its :func:`~unip.data.manifests.manifest.notes`."""
    columns = {name: [getattr(row, name) for row in rows] for name in FIELDS}
    return pa.table(columns, schema=SCHEMA.with_metadata({"unip.notes": json.dumps(list(note_lines))}))
