"""`unip data build`: from a recipe or folders to a manifest that anyone can rebuild."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from unip.data.building_stats import SourceStats, print_stats, stats_json, stats_of
from unip.data.config import BuildConfig
from unip.data.manifests.entries import Listing
from unip.data.manifests.manifest import SourceSummary, summary, write_manifest
from unip.data.manifests.recipe import Recipe
from unip.data.manifests.rows import Row, table_of
from unip.data.manifests.scan import JOURNAL, read_files, scan
from unip.data.manifests.sources import printable
from unip.errors import UnipError
from unip.outputs import OutputFolder, write_json, write_text

log = logging.getLogger(__name__)

NOTES_SHOWN = 5


@dataclass(frozen=True)
class BuildResult:
    """What was found and written.

    Attributes:
        manifest: Where the manifest is, or would be after a dry run.
        sources: Counts of each source and modality, of the kept images.
        copies: Kept images whose file has the same bytes as another one.
        stats: Counts of each source, with what was dropped and why.
        dropped: Images that were listed and not kept, and why, by the first word of the reason.
    """

    manifest: Path
    sources: tuple[SourceSummary, ...]
    copies: int
    stats: tuple[SourceStats, ...]
    dropped: dict[str, int]


def build_manifest(config: BuildConfig, recipe: Recipe, outputs: OutputFolder, listings: list[Listing]) -> BuildResult:
    """Do what is left of :func:`unip.data.verbs.build` once the sources are listed."""
    manifest = config.out / "manifest.parquet"
    journal = None if config.dry_run else outputs.hidden / JOURNAL
    read = partial(read_files, journal=journal, workers=config.workers)
    rows, note_lines = scan(listings, read, seed=recipe.seed)
    if recipe.copies == "drop":
        rows = _drop_copies(rows)
    if not any(row.kept for row in rows):
        raise UnipError("no image of the sources can be used", _first_reasons(rows))
    table = table_of(rows, note_lines)
    kept = table.filter(table["kept"])
    hashes = kept["sha256"].to_pylist()
    stats = tuple(stats_of(rows))
    dropped: dict[str, int] = {}
    for part in stats:
        for reason, count in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    result = BuildResult(manifest, tuple(summary(kept)), len(hashes) - len(set(hashes)), stats, dropped)
    if not config.dry_run:
        write_json(config.out / "stats.json", stats_json(stats, recipe.seed, result.copies, note_lines))
        write_text(config.out / "recipe.yaml", recipe.to_yaml())
        write_manifest(table, manifest)
    _print(result, rows, note_lines, config.dry_run)
    return result


def _drop_copies(rows: list[Row]) -> list[Row]:
    """Keep the first of the files with the same bytes."""
    first: dict[str, Row] = {}
    out = []
    for row in rows:
        if row.kept and first.setdefault(row.sha256, row) is not row:
            row = replace(row, kept=False, reason=f"copy: of {printable(first[row.sha256].path or b'')}")
        out.append(row)
    return out


def _first_reasons(rows: Sequence[Row]) -> str:
    shown = [f"{printable(row.path or b'')}: {row.reason}" for row in rows[:NOTES_SHOWN]]
    return "\n".join(shown)


def _print(result: BuildResult, rows: Sequence[Row], note_lines: Sequence[str], dry_run: bool) -> None:
    print_stats(result.stats)
    bad = [row for row in rows if row.reason.startswith("unreadable")]
    for row in bad[:NOTES_SHOWN]:
        log.warning(f"left out: {printable(row.path or b'')} {row.reason}")
    if len(bad) > NOTES_SHOWN:
        log.warning(f"and {len(bad) - NOTES_SHOWN} more files that cannot be used; the manifest lists them")
    for line in note_lines[:NOTES_SHOWN]:
        log.info(line)
    if len(note_lines) > NOTES_SHOWN:
        log.info(f"and {len(note_lines) - NOTES_SHOWN} more folders")
    if any("by its pixels" in line for line in note_lines):
        log.info("Write infrared=FOLDER or rgb=FOLDER to set a modality yourself.")
    if result.copies:
        log.info(f"{result.copies} images are exact copies of others.")
    log.info(f"{'dry run, not written:' if dry_run else 'written:'} {result.manifest}")
