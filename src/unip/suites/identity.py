"""What a result depends on, as hashes: settings, the content of the data, the content of the weights."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from unip.config import Config
from unip.data.labelled.datasets import open_segmentation
from unip.data.labelled.settings import FOUND, Places
from unip.data.manifests.listing import list_entries
from unip.data.manifests.recipe import recipe_of
from unip.errors import UnipError
from unip.files import sha256
from unip.paths import is_dir, is_file, status
from unip.runtime.workers import map_threads
from unip.vit.sources import WEIGHTS_NAME, parse_source

VERSION = 6  # raise it when a cell of the same settings would give another result
MANIFEST_COLUMNS = ("sha256", "modality", "source", "weight", "grey", "conversion")  # that a mix depends on


def key_of(**parts: Any) -> str:
    """Return the SHA-256 of JSON values, whatever the order of their keys."""
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def settings_identity(config: Config, *, but: Set[str] = frozenset()) -> dict[str, Any]:
    """Return settings without those of the machine, and with the content of weights in place of their paths.

    Args:
        config: The settings, with their defaults.
        but: Settings that are left out as well.
    """
    exclude = config.names_where(lambda setting: setting.machine) | but
    return {key: _identity(value) for key, value in config.model_dump(mode="json", exclude=exclude).items()}


def weights_identity(source: str) -> str:
    """Return a model source with its file's SHA-256 in place of its path; other texts stay as they are."""
    found = parse_source(source)
    path = found.file
    if path is None:
        return source
    if is_dir(path):
        weights = [place for place in (path / WEIGHTS_NAME, path / "model" / WEIGHTS_NAME) if is_file(place)]
        return _hash(weights[0], status(weights[0]).st_mtime_ns) if weights else source
    before = f"timm:{found.name}@" if found.kind == "timm" else ""
    return f"{before}{_hash(path, status(path).st_mtime_ns)}" if is_file(path) else source


@functools.cache
def data_identity(source: str, split: str, remap: tuple[str, ...], places: Places = FOUND) -> str:
    """Return a hash of a split's images, masks and classes: of their content, not their place."""
    data = open_segmentation(source, split, remap=remap, places=places)
    meaning = [data.classes.to_dict(), repr(data.ids), data.channel, repr(data.conversion), data.is_infrared]
    meaning += [places.mask_orientation] * (places.mask_orientation is not None)
    files = list(dict.fromkeys([*data.images, *(mask.path for mask in data.masks)]))
    content = dict(zip(files, map_threads(_content, files, f"hashing {split}", unit="files"), strict=True))
    pairs = [(content[image], content[mask.path]) for image, mask in zip(data.images, data.masks, strict=True)]
    return key_of(meaning=meaning, pairs=pairs)


@functools.cache
def images_identity(sources: tuple[str, ...]) -> str:
    """Return a hash of the images that pre-training mixes, and of how it mixes them; none is decoded for it.

    Raises:
        UnipError: A source is missing or empty, or a file cannot be read.
    """
    rows: list[tuple[Any, ...]] = []
    found: dict[Path, tuple[str, str, str]] = {}
    for source in recipe_of(sources).sources:
        for entry in list_entries(source, Path(), Path(), all_rows=False).entries:
            path = Path(os.fsdecode(entry.path))
            if entry.row:
                row = entry.row  # one that pre-training has listed has no hash
                row = row if row.sha256 or not row.path else replace(row, sha256=_content(path))
                rows.append(tuple(getattr(row, name) for name in MANIFEST_COLUMNS))
                continue
            # where the pixels of a folder tell the modality, the folder counts
            folder = "" if entry.modality else os.fsdecode(entry.label) or "."
            name, modality, _ = found.setdefault(path, (entry.source, entry.modality or "", folder))
            if entry.modality and not modality:
                found[path] = name, entry.modality, ""
    content = map_threads(_content, list(found), "hashing images", unit="files")
    files = sorted((*about, path.name, digest) for (path, about), digest in zip(found.items(), content, strict=True))
    return key_of(rows=rows, files=files)


def _content(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UnipError(f"{path} cannot be read: {error.strerror or error}", "Remove or replace it.") from error


def _identity(value: Any) -> Any:
    if isinstance(value, str):
        return weights_identity(value)
    return [_identity(item) for item in value] if isinstance(value, list | tuple) else value


@functools.cache
def _hash(path: Path, changed: int) -> str:
    return sha256(path)
