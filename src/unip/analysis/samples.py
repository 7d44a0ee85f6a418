"""Which images an analysis looks at: a seeded draw from folders or manifests, unreadable ones skipped and listed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from unip.analysis.config import AnalyzeConfig
from unip.data.manifests.manifest import paths_of
from unip.data.manifests.rows import table_of
from unip.data.manifests.scan import list_rows
from unip.data.manifests.sources import is_manifest, split_source
from unip.data.sampling.pretraining_crops import read_squares
from unip.errors import UnipError
from unip.paths import is_dir
from unip.runtime.seeds import seed_for
from unip.runtime.workers import map_threads

Key = tuple[int, str]  # what partners have in common: the place of the source, the path inside it without ending


class Source(NamedTuple):
    """An image file, or an address in a packed set, and how it becomes 8-bit grey (JSON; None: by default)."""

    path: str
    conversion: str | None = None


@dataclass(frozen=True)
class UnreadableImage:
    """An image that cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """The images of an analysis, each of which was opened once.

    Attributes:
        paths: Files in the order of their sources and names, by the name of their set: ``images``, or ``infrared`` and
            ``visible`` of pairs.
        squares: Of each file, by set and side in pixels: uint8 ``(1, side, side)``, in colour ``(3, side, side)``.
        of: How many there were to draw from.
        skipped: Images that were drawn and could not be read (or whose partner could not); others took their place.
    """

    paths: dict[str, list[str]]
    squares: dict[str, dict[int, list[Tensor]]]
    of: int
    skipped: list[UnreadableImage]

    @property
    def names(self) -> list[str]:
        """The files, those of the infrared images of pairs."""
        return next(iter(self.paths.values()))


def list_files(config: AnalyzeConfig) -> tuple[list[tuple[Source, ...]], int]:
    """List the images, of which none is opened.

    A partner has the same path inside its folder, endings aside. As many folders of partners as of images belong to
    them one by one.

    Returns:
        Each file, with its partner where pairs are asked for, and how many images have none. Those of a manifest are
        converted as it says.

    Raises:
        UnipError: A source is missing or empty, or no image has a partner.
    """
    sources, pair = config.images, config.pair
    if not pair:
        return [(source,) for source in _list(sources)], 0
    listed, visible = (_list(given, apart=len(pair) == len(sources)) for given in (sources, pair))
    _refuse_shared_partners(visible)
    partners = {key: source for source, key in visible.items()}
    paired = {source: key for source, key in listed.items() if key in partners}
    _refuse_shared_partners(paired)
    if not paired:
        raise UnipError(
            f"none of the {len(listed)} images of {', '.join(sources)} has a partner in {', '.join(pair)}",
            "Partners have the same path inside their folders, endings aside: ir/a/1.png and visible/a/1.jpg.",
        )
    return [(source, partners[key]) for source, key in paired.items()], len(listed) - len(paired)


def draw_sample(config: AnalyzeConfig, files: Sequence[tuple[Source, ...]], sides: Sequence[int]) -> Sample:
    """Draw images and read them, others in place of those that cannot be read.

    Args:
        config: How many, and the seed of the draw.
        files: As of :func:`list_files`.
        sides: Of the squares to keep, in pixels.

    Raises:
        UnipError: None can be read.
    """

    def read(index: int) -> list[list[Tensor]] | UnreadableImage:
        squares: list[list[Tensor]] = []
        for path, conversion in files[index]:
            in_colour = config.pair_colour and bool(squares)
            try:
                squares.append(read_squares(path, sides, colour=in_colour, conversion=conversion))
            except UnipError as error:
                return UnreadableImage(path, error.what)
        return squares

    order = np.random.default_rng(seed_for(config.seed, len(files))).permutation(len(files)).tolist()
    good: dict[int, list[list[Tensor]]] = {}
    skipped: list[UnreadableImage] = []
    while order and (missing := config.max_images - len(good)):
        drawn, order = order[:missing], order[missing:]
        for index, found in zip(drawn, map_threads(read, drawn, "reading images"), strict=True):
            if isinstance(found, UnreadableImage):
                skipped.append(found)
            else:
                good[index] = found
    if not good:
        sources = ", ".join(config.images)
        raise UnipError(
            f"none of the {len(files)} images of {sources} can be read, the first: {skipped[0].reason}",
            "Copy them again or choose others.",
        )
    chosen = sorted(good)
    sets = list(enumerate(("infrared", "visible") if len(files[0]) > 1 else ("images",)))
    return Sample(
        {name: [files[i][place].path for i in chosen] for place, name in sets},
        {name: {side: [good[i][place][n] for i in chosen] for n, side in enumerate(sides)} for place, name in sets},
        len(files),
        skipped,
    )


def _list(sources: Sequence[str], *, apart: bool = False) -> dict[Source, Key]:
    """List files once; ``apart``: files of different sources are no partners, whatever their names."""
    found: dict[str, tuple[str, Source, Key]] = {}
    for place, source in enumerate(sources):
        location, rows = split_source(source)[1], list_rows(source)
        paths = paths_of(table_of(rows))
        if is_manifest(location):
            root = os.path.commonpath([os.path.dirname(path) for path in paths])
        else:
            root = os.path.abspath(location if is_dir(location) else location.parent)
        for row, path in zip(rows, paths, strict=True):
            inside = str(Path(path).relative_to(root).with_suffix(""))
            found.setdefault(path, (row.source, Source(path, row.conversion), (place if apart else 0, inside)))
    order = sorted(found, key=lambda path: (found[path][0], os.fsencode(path)))
    return dict(found[path][1:] for path in order)


def _refuse_shared_partners(listed: Mapping[Source, Key]) -> None:
    seen: dict[Key, str] = {}
    for (path, _), key in listed.items():
        if (other := seen.setdefault(key, path)) != path:
            raise UnipError(
                f"{other} and {path} would have the same partner",
                "Give as many --pair folders as --images folders, in the same order, or rename one of the files.",
            )
