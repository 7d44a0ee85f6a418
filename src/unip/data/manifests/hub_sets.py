"""Images of Hugging Face datasets: a folder, a saved dataset or a hub id."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unip.data.manifests.entries import Listing
from unip.data.manifests.recipe import SourceConfig
from unip.data.manifests.sources import Entry, printable
from unip.errors import UnipError
from unip.files import advice
from unip.opening import read_regular
from unip.outputs import writing
from unip.paths import exists, expand, is_dir, list_folder
from unip.progress import meter

# First bytes of the formats that are read; the name of a file matters to nothing but people.
_SUFFIX_BY_MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8": ".jpg",
    b"RIFF": ".webp",
    b"II": ".tif",
    b"MM": ".tif",
    b"BM": ".bmp",
}


def list_dataset(config: SourceConfig, root: Path, store: Path) -> Listing:
    """List the rows of a dataset; images stay encoded as they are.

    Args:
        config: The source; its ``dataset`` is a local path, or an id of the hub, which is then downloaded.
        root: Where a relative path starts.
        store: Folder that gets ``00000012.jpg`` for the rows that are fetched.

    Raises:
        UnipError: ``datasets`` is missing, the dataset cannot be opened, or a column is missing.
    """
    table = _open(config, root)
    for column in (config.image_column, config.label_column):
        if column is not None and column not in table.column_names:
            known = ", ".join(table.column_names)
            raise UnipError(f"dataset {config.place} has no column {column}", f"Its columns: {known}.")
    labels = table[config.label_column] if config.label_column else [""] * len(table)
    entries = [
        Entry(b"%08d" % row, str(config.name), config.modality, str(label).encode(), os.fsencode(store / f"{row:08d}"))
        for row, label in enumerate(labels)
    ]

    def fetch(chosen: Sequence[Entry]) -> None:
        with meter(f"reading {config.name}", len(chosen), "images") as progress:
            for entry in chosen:
                _fetch_row(table[int(entry.key)][config.image_column], entry, store)
                progress.advance()

    return Listing(config, entries, fetch)


def _open(config: SourceConfig, root: Path) -> Any:
    try:
        import datasets  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise UnipError("reading datasets needs the package datasets", "pip install 'unip[data]'") from None
    local = os.path.join(root, expand(config.place))
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if is_dir(local) and {"state.json", "dataset_dict.json"} & {path.name for path in list_folder(local)}:
            loaded = datasets.load_from_disk(local)
            table = loaded[config.split] if isinstance(loaded, datasets.DatasetDict) else loaded
        else:
            place = os.path.abspath(local) if exists(local) else config.place
            table = datasets.load_dataset(place, config.subset, split=config.split)
        if config.image_column in table.column_names:
            table = table.cast_column(config.image_column, datasets.Image(decode=False))
    except Exception as error:  # it raises nearly anything, network errors too
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnipError(
            f"dataset {config.place} (split {config.split}) cannot be opened: {first}",
            "Give a local path or an id of the hub, its split, and its subset where it has several.",
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    return table


def _fetch_row(value: dict[str, Any] | None, entry: Entry, store: Path) -> None:
    """Write the encoded image of a row, whole or not at all; a file that the dataset only names is used in place."""
    data = value.get("bytes") if value else None
    if not value or (data is None and not value.get("path")):
        entry.reason = "unreadable: empty cell"
        return
    if data is None:
        entry.path = os.fsencode(os.path.abspath(value["path"]))
        return
    suffix = next((suffix for start, suffix in _SUFFIX_BY_MAGIC.items() if data.startswith(start)), ".bin")
    path = store / f"{os.fsdecode(entry.key)}{suffix}"
    entry.path = os.fsencode(path)
    try:
        if exists(path) and read_regular(path) == data:
            return
        with writing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise UnipError(
            f"cannot write {printable(str(path))}: {error.strerror}",
            f"{advice(error)}; files that are already written are kept.",
        ) from error
