"""`unip data build`: from a recipe or folders to a manifest that anyone can rebuild."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unip.data.building_stats import SourceStats, print_stats, stats_json, stats_of
from unip.data.config import BuildConfig
from unip.data.images.conversion import DEFAULT
from unip.data.manifests.caps import Draw
from unip.data.manifests.entries import Entry, Listing
from unip.data.manifests.facts import facts_of
from unip.data.manifests.inventory import JOURNAL
from unip.data.manifests.manifest import Row, SourceSummary, row_of, summary, table_of, write_manifest
from unip.data.manifests.recipe import Recipe
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
    _assign_files(listings)
    _read(recipe, listings, None if config.dry_run else outputs.hidden / JOURNAL, config.workers)
    note_lines = [problem for listing in listings for problem in listing.problems] + _set_modalities(listings)
    rows = _rows(listings)
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


def _assign_files(listings: Sequence[Listing]) -> None:
    """Assign each file to the first source that lists it: a recipe may list a part of a folder first, then the rest."""
    owners: dict[bytes, Entry] = {}
    for listing in listings:
        own: list[Entry] = []
        for entry in listing.entries:
            owner = owners.setdefault(entry.path or entry.key, entry)
            if owner is entry:
                own.append(entry)
            elif owner.modality and entry.modality and owner.modality != entry.modality:
                path = printable(entry.path or b"")
                raise UnipError(
                    f"two sources list {path}, once as {owner.modality} and once as {entry.modality}",
                    "Leave one of the sources out.",
                )
        listing.entries = own


def _read(recipe: Recipe, listings: Sequence[Listing], journal: Path | None, workers: int) -> None:
    """Fetch and read what the caps draw, and draw again in place of what cannot be used."""
    draws = [
        Draw(
            listing.entries,
            _name(listing),
            recipe.seed,
            cap=listing.config.cap,
            cap_per_class=listing.config.cap_per_class,
        )
        for listing in listings
    ]
    while True:
        drawn = [draw.next() for draw in draws]
        if not any(drawn):
            break
        for listing, entries in zip(listings, drawn, strict=True):
            if listing.fetch and entries:
                listing.fetch(entries)
        unread = [entry for entries in drawn for entry in entries if entry.row is None and not entry.reason]
        unread.sort(key=lambda entry: entry.path or b"")  # neighbours on the disk
        paths = [entry.path for entry in unread if entry.path is not None]
        for entry, facts in zip(unread, facts_of(paths, journal, workers=workers), strict=True):
            entry.facts = facts
            if facts.problem:
                entry.reason = f"unreadable: {facts.problem}"
    for draw in draws:
        draw.close()


def _name(listing: Listing) -> str:
    return listing.config.name or ",".join(sorted({entry.source for entry in listing.entries}))


def _set_modalities(listings: Sequence[Listing]) -> list[str]:
    """Tell the modality of folders whose names did not by their pixels: mostly grey files are infrared."""
    note_lines = []
    for listing in listings:
        folders: dict[bytes, list[Entry]] = {}
        for entry in listing.entries:
            if entry.modality is None:
                folders.setdefault(os.path.dirname(entry.path or b""), []).append(entry)
        for folder, entries in sorted(folders.items()):
            grey = _greys(entries) or _greys(listing.entries)  # a cap may leave a folder unread
            kind = "infrared" if 2 * sum(grey) > len(grey) else "rgb"
            for entry in entries:
                entry.modality = kind
            note_lines.append(f"{entries[0].source}: {printable(folder)} taken for {kind} by its pixels")
    return note_lines


def _greys(entries: Sequence[Entry]) -> list[bool]:
    return [entry.facts.grey for entry in entries if entry.facts and not entry.facts.problem]


def _rows(listings: Sequence[Listing]) -> list[Row]:
    rows = []
    for listing in listings:
        config = listing.config
        conversion = config.conversion.as_json() if config.conversion and config.conversion != DEFAULT else None
        for entry in listing.entries:
            modality = entry.modality or "infrared"
            if entry.row:
                row = replace(entry.row, source=entry.source, weight=entry.row.weight * config.weight)
                row = replace(row, conversion=conversion or row.conversion, grey=row.grey and config.grey)
            elif entry.facts:
                row = row_of(entry.facts, modality, entry.source)
                row = replace(row, weight=config.weight, conversion=conversion, grey=config.grey)
            else:
                row = Row(
                    entry.path or entry.key, modality, entry.source, bits=0, weight=config.weight, grey=config.grey
                )
            rows.append(replace(row, group=entry.group, frame=entry.frame, kept=not entry.reason, reason=entry.reason))
    return sorted(rows, key=lambda row: (row.source, row.path or b"", row.sha256))


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
