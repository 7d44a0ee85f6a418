"""`unip data build`: from a recipe, or folders, to the manifest of a data set that anyone can make again."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from unip.config import Config, NameOrPath, verb
from unip.data.building_stats import SourceStats, print_stats, stats_json, stats_of
from unip.data.images.conversion import DEFAULT
from unip.data.manifests.caps import Draw
from unip.data.manifests.entries import Entry, Listing
from unip.data.manifests.facts import facts_of
from unip.data.manifests.inventory import JOURNAL
from unip.data.manifests.listing import list_entries
from unip.data.manifests.manifest import Row, SourceSummary, row_of, summary, table_of, write_manifest
from unip.data.manifests.recipe import Recipe, recipe_of
from unip.data.manifests.sources import printable
from unip.errors import UnipError
from unip.outputs import OutputFolder, output_folder, write_json, write_text
from unip.runtime.signals import stoppable

log = logging.getLogger(__name__)

NOTES_SHOWN = 5


class BuildConfig(Config):
    """Settings of ``unip data build``."""

    sources: tuple[NameOrPath, ...] = Field(
        description="A recipe (FILE.yaml), or folders, infrared=FOLDER, rgb=FOLDER, or manifests."
    )
    out: Path = Field(description="Folder that gets manifest.parquet, stats.json and recipe.yaml.")
    root: Path | None = Field(None, description="Where relative paths of a recipe start; default: its folder.")
    seed: int | None = Field(None, description="Of the caps' draws; default: the recipe's.")
    skip_missing: bool = Field(False, description="Go on without sources that are not there.")
    workers: int = Field(0, ge=0, description="Threads; 0: one for each core.")
    overwrite: bool = Field(False, description="Replace a manifest that is there.")
    dry_run: bool = Field(False, description="Read and check everything, write nothing.")


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


@verb(BuildConfig)
def build(config: BuildConfig) -> BuildResult:
    """Read the images of the sources, write ``OUT/manifest.parquet`` and print what the mix holds.

    A file that cannot be used is listed with its reason and stops nothing. An interrupted call, made again, goes on:
    what was read is in ``OUT/.unip``, frames of videos are in ``OUT/images``; the manifest comes last, whole.

    Raises:
        UnipError: A source is missing or empty, nothing can be used, ``OUT`` cannot be written, or a manifest is there
            and must not be replaced.
    """
    recipe = recipe_of(config.sources)
    given = {"root": config.root, "seed": config.seed}
    recipe = recipe.model_copy(update={key: value for key, value in given.items() if value is not None})
    manifest = config.out / "manifest.parquet"
    if manifest.exists() and not config.overwrite:
        raise UnipError(f"{manifest} exists", "Choose another --out, or add --overwrite to replace it.")
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("manifest.parquet", "stats.json", "recipe.yaml")
        return _build(config, recipe, outputs)


def _build(config: BuildConfig, recipe: Recipe, outputs: OutputFolder) -> BuildResult:
    manifest = config.out / "manifest.parquet"
    with stoppable("Run the same command again: it goes on where it was."), _workplace(config) as place:
        listings = _list_all(recipe, place, config.skip_missing)
        _claim(listings)
        _read(recipe, listings, None if config.dry_run else outputs.hidden / JOURNAL, config.workers)
        said = [problem for listing in listings for problem in listing.problems] + _settle_modalities(listings)
        rows = _rows(listings)
        if recipe.copies == "drop":
            rows = _drop_copies(rows)
        if not any(row.kept for row in rows):
            raise UnipError("no image of the sources can be used", _first_reasons(rows))
        table = table_of(rows, said)
        kept = table.filter(table["kept"])
        hashes = kept["sha256"].to_pylist()
        stats = tuple(stats_of(rows))
        dropped: dict[str, int] = {}
        for part in stats:
            for reason, count in part.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        result = BuildResult(manifest, tuple(summary(kept)), len(hashes) - len(set(hashes)), stats, dropped)
        if not config.dry_run:
            write_json(config.out / "stats.json", stats_json(stats, recipe.seed, result.copies, said))
            write_text(config.out / "recipe.yaml", recipe.to_yaml())
            write_manifest(table, manifest)
    _print(result, rows, said, config.dry_run)
    return result


@contextmanager
def _workplace(config: BuildConfig) -> Iterator[Path]:
    """Give the folder for frames of videos: OUT, or a temporary one for a dry run."""
    if config.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    yield config.out.absolute()


def _list_all(recipe: Recipe, place: Path, skip_missing: bool) -> list[Listing]:
    listings: list[Listing] = []
    missing: list[UnipError] = []
    for source in recipe.sources:
        try:
            listings.append(list_entries(source, recipe.root, place / "images" / (source.name or "")))
        except UnipError as error:
            missing.append(error)
    if missing and not (skip_missing and listings):
        if len(missing) == 1:
            raise missing[0]
        what = "\n".join(problem.what for problem in missing)
        raise UnipError(what, missing[0].fix if listings else "Check the paths; a recipe takes --root FOLDER.")
    for problem in missing:
        log.warning(f"left out: {problem.what}")
    return listings


def _claim(listings: Sequence[Listing]) -> None:
    """Let the first source that lists a file have it; a recipe may take part of a folder apart, and then the rest."""
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


def _settle_modalities(listings: Sequence[Listing]) -> list[str]:
    """Tell the modality of folders whose names did not by their pixels: mostly grey files are infrared."""
    said = []
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
            said.append(f"{entries[0].source}: {printable(folder)} taken for {kind} by its pixels")
    return said


def _greys(entries: Sequence[Entry]) -> list[bool]:
    return [entry.facts.grey for entry in entries if entry.facts and not entry.facts.problem]


def _rows(listings: Sequence[Listing]) -> list[Row]:
    rows = []
    for listing in listings:
        config = listing.config
        reading = config.reading.as_json() if config.reading and config.reading != DEFAULT else None
        for entry in listing.entries:
            modality = entry.modality or "infrared"
            if entry.row:
                row = replace(entry.row, source=entry.source, weight=entry.row.weight * config.weight)
                row = replace(row, reading=reading or row.reading, grey=row.grey and config.grey)
            elif entry.facts:
                row = row_of(entry.facts, modality, entry.source)
                row = replace(row, weight=config.weight, reading=reading, grey=config.grey)
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


def _print(result: BuildResult, rows: Sequence[Row], said: Sequence[str], dry_run: bool) -> None:
    print_stats(result.stats)
    bad = [row for row in rows if row.reason.startswith("unreadable")]
    for row in bad[:NOTES_SHOWN]:
        log.warning(f"left out: {printable(row.path or b'')} {row.reason}")
    if len(bad) > NOTES_SHOWN:
        log.warning(f"and {len(bad) - NOTES_SHOWN} more files that cannot be used; the manifest lists them")
    for line in said[:NOTES_SHOWN]:
        log.info(line)
    if len(said) > NOTES_SHOWN:
        log.info(f"and {len(said) - NOTES_SHOWN} more folders")
    if any("by its pixels" in line for line in said):
        log.info("Write infrared=FOLDER or rgb=FOLDER to settle a modality yourself.")
    if result.copies:
        log.info(f"{result.copies} images are exact copies of others.")
    log.info(f"{'dry run, not written:' if dry_run else 'written:'} {result.manifest}")
