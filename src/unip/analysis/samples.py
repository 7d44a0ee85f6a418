"""Which images an analysis looks at: a seeded draw from folders or manifests, unreadable ones skipped and listed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unip.data.images.decoding import read_image
from unip.data.manifests.manifest import paths_of, read_manifest
from unip.data.manifests.sources import is_manifest, list_source, split_source
from unip.errors import UnipError
from unip.runtime.seeds import seed_for
from unip.runtime.workers import map_threads


@dataclass(frozen=True)
class UnreadableImage:
    """An image that cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """The images of an analysis.

    Attributes:
        paths: Files, in the order of their sources and names.
        partners: The visible image of each, where pairs were asked for; else empty.
        of: How many there were to draw from.
        unpaired: How many images had no partner.
        skipped: Images that were drawn and could not be read (or whose partner could not); others took their place.
    """

    paths: list[str]
    partners: list[str] = field(default_factory=list)
    of: int = 0
    unpaired: int = 0
    skipped: list[UnreadableImage] = field(default_factory=list)


@dataclass(frozen=True)
class _Listed:
    source: str
    path: str
    key: tuple[int, str]  # what partners have in common: the place of the source, the path inside it without ending


def draw_sample(sources: Sequence[str], *, pair: Sequence[str] = (), count: int, seed: int) -> Sample:
    """Draw images and make sure that they can be read.

    Args:
        sources: Folders, single images, ``infrared=FOLDER``, ``rgb=FOLDER`` or Parquet manifests.
        pair: The same of visible images; a partner has the same path inside its folder, endings aside. As many as
            ``sources`` belong to them one by one.
        count: Maximum number of images, or pairs.
        seed: Seed of the draw.

    Raises:
        UnipError: A source is missing or empty, no image has a partner, or none can be read.
    """
    listed = _list(sources)
    known = len(listed)
    partners: dict[tuple[int, str], str] = {}
    if pair:
        listed, visible = (_list(given, apart=len(pair) == len(sources)) for given in (sources, pair))
        _refuse_shared_partners(visible)
        partners = {entry.key: entry.path for entry in visible}
        listed = [entry for entry in listed if entry.key in partners]
        _refuse_shared_partners(listed)
        if not listed:
            raise UnipError(
                f"none of the {known} images of {', '.join(sources)} has a partner in {', '.join(pair)}",
                "Partners have the same path inside their folders, endings aside: ir/a/1.png and visible/a/1.jpg.",
            )
    order = np.random.default_rng(seed_for(seed, len(listed))).permutation(len(listed)).tolist()
    good: list[int] = []
    skipped: list[UnreadableImage] = []
    while order and len(good) < count:
        drawn, order = order[: count - len(good)], order[count - len(good) :]
        files = [[listed[i].path] + ([partners[listed[i].key]] if pair else []) for i in drawn]
        for index, problem in zip(drawn, map_threads(_problem, files, "reading images"), strict=True):
            if problem is None:
                good.append(index)
            else:
                skipped.append(problem)
    if not good:
        raise UnipError(
            f"none of the {len(listed)} images of {', '.join(sources)} can be read, the first: {skipped[0].reason}",
            "Copy them again or choose others.",
        )
    chosen = [listed[i] for i in sorted(good)]
    chosen_partners = [partners[entry.key] for entry in chosen] if pair else []
    return Sample([entry.path for entry in chosen], chosen_partners, len(listed), known - len(listed), skipped)


def _list(sources: Sequence[str], *, apart: bool = False) -> list[_Listed]:
    """List files once; ``apart``: files of different sources are no partners, whatever their names."""
    found: dict[str, _Listed] = {}
    for place, source in enumerate(sources):
        modality, location = split_source(source)
        if is_manifest(location):
            table = read_manifest(location)
            paths = paths_of(table)
            root = Path(os.path.commonpath([os.path.dirname(path) for path in paths]))
            entries = list(zip(table["source"].to_pylist(), paths, strict=True))
        else:
            root = Path(os.path.abspath(location if location.is_dir() else location.parent))
            entries = [(entry.source, os.fsdecode(entry.path)) for entry in list_source(location, modality)]
        for name, path in entries:
            inside = str(Path(path).relative_to(root).with_suffix(""))
            found.setdefault(path, _Listed(name, path, (place if apart else 0, inside)))
    return sorted(found.values(), key=lambda entry: (entry.source, os.fsencode(entry.path)))


def _refuse_shared_partners(listed: Sequence[_Listed]) -> None:
    seen: dict[tuple[int, str], str] = {}
    for entry in listed:
        if (other := seen.setdefault(entry.key, entry.path)) != entry.path:
            raise UnipError(
                f"{other} and {entry.path} would have the same partner",
                "Give as many --pair folders as --images folders, in the same order, or rename one of the files.",
            )


def _problem(paths: list[str]) -> UnreadableImage | None:
    for path in paths:
        try:
            read_image(path)
        except UnipError as error:
            return UnreadableImage(path, error.what)
    return None
