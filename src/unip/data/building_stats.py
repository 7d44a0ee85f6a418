"""What a built data set holds, source by source: a table for people and values for ``stats.json``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.table import Table

from unip.data.manifests.rows import Row
from unip.data.manifests.sources import MODALITIES
from unip.log import TableMessage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceStats:
    """Counts of one source and modality.

    Attributes:
        source: Its name.
        modality: ``infrared``, ``rgb`` or ``depth``.
        listed: Images it offered.
        kept: Images in the set; all that follows is about these, but ``dropped``.
        dropped: Why the others are not, by the first word of the reason.
        groups: Videos or flights.
        width: Median, pixels.
        height: Median, pixels.
        bits: How many images have samples of 8 and of 16 bits.
        bytes: Of the files.
        weight: How often an image is shown, relative to others (mean).
    """

    source: str
    modality: str
    listed: int
    kept: int
    dropped: dict[str, int]
    groups: int
    width: int
    height: int
    bits: dict[str, int]
    bytes: int
    weight: float


def stats_of(rows: Sequence[Row]) -> list[SourceStats]:
    """Count the rows of each source and modality, sorted by both."""
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((row.source, row.modality), []).append(row)
    return [_count(source, modality, members) for (source, modality), members in sorted(parts.items())]


def _count(source: str, modality: str, rows: Sequence[Row]) -> SourceStats:
    kept = [row for row in rows if row.kept]
    reasons = Counter(row.reason.split(":")[0] for row in rows if not row.kept)
    bits = Counter(str(row.bits) for row in kept)
    return SourceStats(
        source=source,
        modality=modality,
        listed=len(rows),
        kept=len(kept),
        dropped=dict(sorted(reasons.items())),
        groups=len({row.group for row in kept if row.group}),
        width=int(np.median([row.width for row in kept])) if kept else 0,
        height=int(np.median([row.height for row in kept])) if kept else 0,
        bits=dict(sorted(bits.items())),
        bytes=sum(row.bytes for row in kept),
        weight=sum(row.weight for row in kept) / len(kept) if kept else 0.0,
    )


def stats_json(stats: Sequence[SourceStats], seed: int, copies: int, note_lines: Sequence[str]) -> dict[str, Any]:
    """Put the counts into JSON values; nothing in them depends on the run, only on the data and the recipe."""
    totals = {
        modality: {
            "listed": sum(part.listed for part in stats if part.modality == modality),
            "kept": sum(part.kept for part in stats if part.modality == modality),
            "bytes": sum(part.bytes for part in stats if part.modality == modality),
        }
        for modality in MODALITIES
        if any(part.modality == modality for part in stats)
    }
    return {
        "seed": seed,
        "sources": [asdict(part) for part in stats],
        "totals": totals,
        "copies": copies,
        "notes": list(note_lines),
    }


def print_stats(stats: Sequence[SourceStats]) -> None:
    """Print the counts as a table, with a last line for each modality; columns that would say nothing are left out."""
    reasons = sorted({reason for part in stats for reason in part.dropped})
    columns: dict[str, Callable[[SourceStats], str]] = {
        "listed": lambda part: f"{part.listed:,}",
        "kept": lambda part: f"{part.kept:,}",
        **{reason: partial(_dropped, reason) for reason in reasons},
    }
    summed = len(columns)
    if any(part.groups for part in stats):
        columns["groups"] = lambda part: f"{part.groups:,}"
    if any("16" in part.bits for part in stats):
        columns["16 bit"] = lambda part: f"{part.bits.get('16', 0):,}"
    columns["median size"] = lambda part: f"{part.width}x{part.height}" if part.kept else ""
    columns["MB"] = lambda part: f"{part.bytes / 1e6:.1f}"
    if any(part.weight not in (0.0, 1.0) for part in stats):
        columns["weight"] = lambda part: f"{part.weight:g}"
    table = Table(title="Images")
    table.add_column("source", overflow="fold")
    table.add_column("modality", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for part in stats:
        table.add_row(part.source, part.modality, *(cell(part) for cell in columns.values()))
    table.add_section()
    for modality in (m for m in MODALITIES if any(part.modality == m for part in stats)):
        chosen = [part for part in stats if part.modality == modality]
        cells = [f"{sum(part.listed for part in chosen):,}", f"{sum(part.kept for part in chosen):,}"]
        cells += [f"{sum(part.dropped.get(reason, 0) for part in chosen):,}" for reason in reasons]
        cells += [""] * (len(columns) - summed)
        cells[list(columns).index("MB")] = f"{sum(part.bytes for part in chosen) / 1e6:.1f}"
        table.add_row("all", modality, *cells)
    log.info(TableMessage(table))


def _dropped(reason: str, part: SourceStats) -> str:
    return f"{part.dropped.get(reason, 0):,}"
