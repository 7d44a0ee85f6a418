"""What a source of a recipe holds, before anything is read: files, frames of videos, rows of datasets."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from unip.data.images.files import SUFFIXES
from unip.data.manifests.entries import Listing, glob_files, located
from unip.data.manifests.recipe import Recipe, SourceConfig
from unip.data.manifests.sources import Entry, entry_of, list_source, printable
from unip.errors import UnipError
from unip.files import read_table

log = logging.getLogger(__name__)

GROUP_COLUMNS = ("group", "flight", "video", "sequence")


def list_entries(config: SourceConfig, root: Path, store: Path, **reading: bool) -> Listing:
    """List one source.

    Args:
        config: The source.
        root: Where its relative path starts.
        store: Folder for images that are not files of their own yet (frames, rows of a dataset).
        reading: How a manifest is read, see :func:`unip.data.manifests.manifest.read_manifest`; all rows by default.

    Raises:
        UnipError: It is missing or holds no image, or a package is needed to read it.
    """
    if config.kind == "video":
        from unip.data.manifests.videos import list_videos

        return list_videos(config, root, store)
    if config.kind == "dataset":
        from unip.data.manifests.hub_sets import list_dataset

        return list_dataset(config, root, store)
    place = located(config.place, root)
    if config.kind == "manifest":
        return _list_manifest(config, place, **{"all_rows": True, **reading})
    problems: list[str] = []
    entries = _list_folder(config, place, problems) if config.kind == "folder" else _list_glob(config, place)
    for entry in entries:
        entry.source = config.name or entry.source
    _group(config, entries, _read_groups(located(config.groups, root)) if config.groups else None)
    return Listing(config, entries, problems=problems)


def list_all(recipe: Recipe, place: Path, *, skip_missing: bool) -> list[Listing]:
    """List all sources of a recipe.

    Args:
        recipe: The recipe.
        place: Folder of the data set, for images that are not files of their own yet.
        skip_missing: Leave out sources that cannot be listed.

    Raises:
        UnipError: A source is missing or empty; or all are.
    """
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


def natural(key: bytes) -> list[tuple[int, int, bytes]]:
    """Order names as people do: frame 9 before frame 10."""
    parts = re.split(rb"(\d+)", key)
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in parts]


def _list_folder(config: SourceConfig, place: str, problems: list[str]) -> list[Entry]:
    def note(error: OSError) -> None:
        problems.append(f"cannot open {printable(str(error.filename))}: {error.strerror}")

    return list(list_source(Path(place), config.modality, note))


def _list_glob(config: SourceConfig, place: str) -> list[Entry]:
    base, files = glob_files(place, SUFFIXES)
    return [entry_of(Path(path), Path(base), config.modality) for path in files]


def _list_manifest(config: SourceConfig, place: str, **reading: bool) -> Listing:
    from unip.data.manifests.manifest import read_manifest  # here: most sources have no use for pyarrow
    from unip.data.manifests.rows import Row

    entries = []
    folder = os.fsencode(os.path.dirname(place))
    for number, values in enumerate(read_manifest(place, **reading).to_pylist()):
        row = Row(**values)
        key = os.path.relpath(row.path, folder) if row.path else (row.sha256 or f"{place}#{number}").encode()
        entries.append(
            Entry(
                key=key,
                source=config.name or row.source,
                modality=row.modality,
                label=os.path.dirname(key),
                path=row.path or b"",
                group=row.group,
                frame=row.frame,
                row=row,
                reason="" if row.kept else row.reason or "dropped before",
            )
        )
    return Listing(config, entries)


def _read_groups(path: str) -> dict[str, str]:
    """Read which file belongs to which group."""
    needed = f"It needs file, and one of {', '.join(GROUP_COLUMNS)}."
    rows = read_table(Path(path), ("file",), needed)
    columns = list(rows[0]) if rows else []
    name = next((column for column in GROUP_COLUMNS if column in columns), None)
    if name is None:
        raise UnipError(f"{path} has the columns {', '.join(columns) or 'none'}", needed)
    return {row["file"]: row[name] for row in rows}


def _group(config: SourceConfig, entries: list[Entry], listed: dict[str, str] | None) -> None:
    """Fill in groups and places in them, and drop all but every n-th file of a group."""
    if config.group is None and listed is None and config.every == 1:
        return
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if listed is None:
            name = _group_of(config, entry.key)
        else:
            file = os.path.basename(printable(entry.key))
            name = listed.get(file) or listed.get(os.path.splitext(file)[0], "")
        groups.setdefault(name, []).append(entry)
    for name, members in groups.items():
        if not name and (config.group is not None or listed is not None):
            continue  # the pattern or the list does not know it
        for frame, entry in enumerate(sorted(members, key=lambda entry: natural(entry.key))):
            entry.group, entry.frame = name, frame
            if frame % config.every:
                entry.reason = "every"


def _group_of(config: SourceConfig, key: bytes) -> str:
    folders = [printable(part) for part in key.split(b"/")[:-1]]
    if isinstance(config.group, str):
        match = re.search(config.group, printable(key))
        return "" if match is None else match[1] if match.re.groups else match[0]
    return "/".join(folders if config.group is None else folders[: config.group])
