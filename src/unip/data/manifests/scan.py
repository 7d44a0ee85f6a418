"""The one way from sources to rows: what they list is drawn, up to caps, and read; pixels tell what names do not.

`data build` scans the sources of a recipe; `data check` and `dedup` read the files of manifests again; pre-training
needs no more than headers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from unip.data.images.conversion import DEFAULT
from unip.data.manifests.caps import Draw
from unip.data.manifests.entries import Listing
from unip.data.manifests.facts import FileFacts, facts_of
from unip.data.manifests.headers import HeaderReader
from unip.data.manifests.listing import list_entries
from unip.data.manifests.manifest import first_lines, read_manifest
from unip.data.manifests.recipe import SourceConfig, recipe_of
from unip.data.manifests.rows import Row, table_of, with_facts
from unip.data.manifests.sources import Entry, find_index, is_manifest, printable, split_source
from unip.errors import UnipError

log = logging.getLogger(__name__)

JOURNAL = "facts.jsonl"  # in the hidden folder of an output folder

Read = Callable[[Sequence[Entry]], Iterable[FileFacts]]  # reads the files of entries, in their order


def scan(listings: Sequence[Listing], read: Read, *, seed: int = 0, again: bool = False) -> tuple[list[Row], list[str]]:
    """Make a row of every image that some sources list.

    Args:
        listings: The sources. A file that several list belongs to the first: a recipe may list a part of a folder
            first, then the rest; its modality may be told by a later one. Their entries are filled in.
        read: What reads the images that the caps draw. One that cannot be used is replaced by the next.
        seed: Of the order in which caps draw.
        again: Read those of manifests, too.

    Returns:
        The rows by source and bytes of the path, the unused ones with their reason; and what was guessed or could not
        be listed, in sentences.

    Raises:
        UnipError: Two sources contradict each other about a file.
    """
    _assign_files(listings)
    _read_drawn(listings, read, seed, again)
    note_lines = [problem for listing in listings for problem in listing.problems] + _set_modalities(listings)
    rows = [_row(listing.config, entry) for listing in listings for entry in listing.entries]
    return sorted(rows, key=lambda row: (row.source, row.path or b"", row.sha256)), note_lines


def read_images(
    sources: Sequence[str],
    journal: Path | None = None,
    *,
    workers: int = 0,
    also: Sequence[Listing] = (),
    read: Read | None = None,
) -> tuple[list[Row], list[str]]:
    """Read every file of some sources once, those of manifests, too, whose groups and dropped rows stay as they are.

    Args:
        sources: Folders, single images, ``infrared=FOLDER``, ``rgb=FOLDER``, or manifests.
        journal: Keeps what was read, see :func:`unip.data.manifests.facts.facts_of`.
        workers: Threads; 0 means one for each core.
        also: Sources that are listed already.
        read: What reads the files, if not :func:`read_files` with the journal and the workers.

    Returns:
        As :func:`scan`.

    Raises:
        UnipError: A source is missing or empty, contradicts another, or is a packed set.
    """
    listings = [*(_list_given(sources, may_miss=True) if sources else ()), *also]
    for listing in listings:
        place = listing.config.place
        if find_index(place) is not None or any(entry.path is None for entry in listing.entries):
            raise UnipError(f"{place} is a packed set", "Give the manifest or the folders that it was packed from.")
    return scan(listings, read or partial(read_files, journal=journal, workers=workers), again=True)


def list_rows(source: str) -> list[Row]:
    """Return a row of each image of a source, as :func:`scan` does; no file is opened, so they say little.

    Raises:
        UnipError: It is missing or empty.
    """
    return scan(_list_given([source], all_rows=False), lambda entries: [FileFacts(entry.path) for entry in entries])[0]


def open_images(sources: Sequence[str], *, known: Path | None = None, workers: int = 0) -> Any:
    """Return the manifest of some sources, of whose files only headers are read where those say enough.

    A source is one of

    - ``FOLDER`` in the InfMix layout: ``infpre/<dataset>/{thermal,rgb}/*`` and ``rgb/<dataset>/*``. Any folder
      named ``thermal`` holds infrared images, any named ``rgb`` holds RGB images.
    - ``FOLDER`` of another layout: a folder whose files are mostly grey is taken for infrared, else for RGB. This is
      noted in the table's metadata, see :func:`unip.data.manifests.manifest.notes`.
    - ``infrared=FOLDER`` or ``rgb=FOLDER``, which settles the modality.
    - ``FILE.parquet``, a manifest, or the folder of a packed set; its rows are taken as they are.

    The ``masks`` folder beside an ``images`` folder is left out. A file that two sources list is taken once.

    Args:
        sources: The sources.
        known: A manifest that this function has made before: files of the same size and time of change are not opened.
        workers: Threads; 0 means one for each core.

    Returns:
        A ``pyarrow.Table`` with the columns ``FIELDS``, absolute paths, sorted by source and the bytes of the path; of
        a single manifest or packed set, in its order. Hashes of files that were only listed are empty.

    Raises:
        UnipError: A source is missing, empty or contradicts another, or a file is damaged (the first ones are named).
    """
    if len(sources) == 1 and split_source(sources[0])[0] is None and is_manifest(Path(sources[0])):
        return read_manifest(sources[0])
    read = HeaderReader(known, workers)
    rows, note_lines = scan(_list_given(sources, all_rows=False), read)
    found = sorted((row for row in rows if row.facts), key=lambda row: row.path or b"")
    bad = [f"{printable(row.path or b'')}: {row.facts.problem}" for row in found if row.facts and row.facts.problem]
    if bad:
        raise UnipError(
            f"{len(bad)} of {len(found)} images cannot be used:\n{first_lines(bad)}",
            "Copy them again or remove them.",
        )
    return table_of(
        [replace(row, modified=read.modified.get(row.path or b"", row.modified)) for row in rows], note_lines
    )


def read_files(entries: Sequence[Entry], journal: Path | None, workers: int) -> Iterable[FileFacts]:
    """Read all there is to know of some files, see :func:`unip.data.manifests.facts.facts_of`."""
    return facts_of([entry.path for entry in entries], journal, workers=workers)


def _list_given(sources: Sequence[str], **reading: bool) -> list[Listing]:
    """List sources as the command line takes them; manifests come first: they know more of a file than its folder."""
    recipe = recipe_of(tuple(sources))
    listings = [list_entries(source, recipe.root, Path(), **reading) for source in recipe.sources]
    return sorted(listings, key=lambda listing: listing.config.kind != "manifest")


def _assign_files(listings: Sequence[Listing]) -> None:
    owners: dict[bytes, Entry] = {}
    for listing in listings:
        own: list[Entry] = []
        for entry in listing.entries:
            owner = owners.setdefault(entry.path or entry.key, entry)
            if owner is entry:
                own.append(entry)
            elif owner.modality is None:
                owner.modality = entry.modality
            elif entry.modality and owner.modality != entry.modality:
                path = printable(entry.path)
                raise UnipError(
                    f"two sources list {path}, once as {owner.modality} and once as {entry.modality}",
                    "Leave one of the sources out.",
                )
        listing.entries = own


def _read_drawn(listings: Sequence[Listing], read: Read, seed: int, again: bool) -> None:
    """Fetch and read what the caps draw, and draw again in place of what cannot be used."""
    draws = []
    for listing in listings:
        config = listing.config
        name = config.name or ",".join(sorted({entry.source for entry in listing.entries}))
        draws.append(Draw(listing.entries, name, seed, cap=config.cap, cap_per_class=config.cap_per_class))
    while any(drawn := [draw.next() for draw in draws]):
        for listing, entries in zip(listings, drawn, strict=True):
            if listing.fetch and entries:
                listing.fetch(entries)
        unread = [entry for entries in drawn for entry in entries if not entry.reason and (again or not entry.row)]
        unread.sort(key=lambda entry: entry.path)  # neighbours on the disk
        for entry, facts in zip(unread, read(unread), strict=True):
            entry.row = with_facts(entry.row or _unread(entry), facts)
            entry.reason = entry.row.reason
    for draw in draws:
        draw.close()


def _unread(entry: Entry) -> Row:
    return Row(entry.path or entry.key, entry.modality or "infrared", entry.source, bits=0)


def _set_modalities(listings: Sequence[Listing]) -> list[str]:
    """Tell the modality of folders whose names did not by their pixels: mostly grey files are infrared."""
    folders: dict[tuple[int, bytes], list[Entry]] = {}
    first: dict[tuple[int, bytes], int] = {}
    for number, listing in enumerate(listings):
        # single files that are given one by one make one folder; the patterns of a recipe may tell its files apart
        scope = number if listing.config.kind == "glob" else -1
        for entry in listing.entries:
            if entry.modality is None:
                place = scope, os.path.dirname(entry.path)
                folders.setdefault(place, []).append(entry)
                first.setdefault(place, number)
    note_lines = []
    for place, entries in sorted(folders.items(), key=lambda item: (first[item[0]], item[0][1])):
        grey = _greys(entries) or _greys(listings[first[place]].entries)  # a cap may leave a folder unread
        kind = "infrared" if 2 * sum(grey) > len(grey) else "rgb"
        for entry in entries:
            entry.modality = kind
        note_lines.append(f"{entries[0].source}: {printable(place[1])} taken for {kind} by its pixels")
    return note_lines


def _greys(entries: Sequence[Entry]) -> list[bool]:
    read = [entry.row.facts for entry in entries if entry.row and entry.row.facts]
    return [facts.grey for facts in read if not facts.problem]


def _row(config: SourceConfig, entry: Entry) -> Row:
    row = entry.row or _unread(entry)
    given = config.conversion if entry.row and config.conversion != DEFAULT else None  # an unread row shows none
    return replace(
        row,
        modality=entry.modality or row.modality,
        source=entry.source,
        group=entry.group,
        frame=entry.frame,
        weight=row.weight * config.weight,
        grey=row.grey and config.grey,
        conversion=given.as_json() if given else row.conversion,
        kept=not entry.reason,
        reason=entry.reason,
    )
