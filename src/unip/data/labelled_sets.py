"""The labelled data among what `unip data check` is given: named as data, or found in the folders of its sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unip.data.config import CheckConfig
from unip.data.labelled.datasets import list_splits, open_segmentation, split_kind
from unip.data.labelled.mask_facts import in_words
from unip.data.labelled.pairs import SegmentationData, Unpaired
from unip.data.labelled.readers.places import candidates
from unip.data.labelled.settings import FOUND, Places
from unip.data.manifests.entries import Listing
from unip.data.manifests.recipe import SourceConfig
from unip.data.manifests.sources import Entry, entry_of, is_manifest, name_source, split_source
from unip.errors import UnipError
from unip.paths import is_dir, list_folder


@dataclass(frozen=True)
class LabelledSet:
    """A split of labelled data.

    Attributes:
        root: Its folder.
        split: Its name; empty for data without splits.
        source: The name of the data set, as sources of images are called.
        data: The pairs.
        unpaired: What belongs to no pair; known of plain folders alone.
    """

    root: Path
    split: str
    source: str
    data: SegmentationData
    unpaired: Unpaired = field(default_factory=Unpaired)

    @property
    def title(self) -> str:
        """What it is called for people."""
        return f"{self.source} {self.split}" if self.split else self.source

    @property
    def images(self) -> list[bytes]:
        """The absolute paths of its images, in the order of the pairs."""
        return [absolute(path) for path in self.data.images]


@dataclass(frozen=True)
class UnreadLabels:
    """Labels that are there, as it seems, but cannot be opened: their folder, its data set, and why."""

    root: Path
    source: str
    reason: str


def absolute(path: Path | str) -> bytes:
    """Return a path as rows of images have it."""
    return os.fsencode(os.path.abspath(path))


def open_data(config: CheckConfig) -> list[LabelledSet]:
    """Open the labelled data that was named.

    Raises:
        UnipError: It cannot be opened.
    """
    assert config.data is not None
    places = Places.of(config)
    splits = config.splits or tuple(list_splits(config.data, places)) or ("",)
    return [_open(config.data, split, config.remap, places) for split in splits]


def find_labels(sources: Sequence[str], remap: Sequence[str]) -> tuple[list[LabelledSet], list[UnreadLabels]]:
    """Open the labelled data of the plain layout in folders of images, or in the folders in them."""
    found: list[LabelledSet] = []
    unread: list[UnreadLabels] = []
    for source in sources:
        _, place = split_source(source)
        if is_manifest(place) or not is_dir(place):
            continue
        inner = [path for path in list_folder(place) if is_dir(path) and not path.name.startswith(".")]
        for root in (place, *inner):
            opened, failed = _open_found(root, remap)
            found += opened
            unread += failed
            if root == place and (opened or failed):
                break
    return found, unread


def listing_of(sets: Sequence[LabelledSet]) -> Listing:
    """List the images of labelled data, those without a mask too."""
    entries: dict[bytes, Entry] = {}
    for each in sets:
        modality = "infrared" if each.data.is_infrared else None
        root = Path(os.path.abspath(each.root))
        for path in map(Path, map(os.path.abspath, (*each.data.images, *each.unpaired.images))):
            entry = entry_of(path, root if path.is_relative_to(root) else path.parent, modality)
            entry.source = each.source
            entries.setdefault(entry.path, entry)
    return Listing(SourceConfig(folder=str(sets[0].root)), sorted(entries.values(), key=lambda entry: entry.key))


def _open_found(root: Path, remap: Sequence[str]) -> tuple[list[LabelledSet], list[UnreadLabels]]:
    found: list[LabelledSet] = []
    unread: list[UnreadLabels] = []
    folder = Path(os.path.abspath(root))  # so that no name is taken for that of a layout
    try:
        splits = list_splits(folder) or [""]
    except OSError:  # a folder that cannot be opened is named by who lists the images
        return found, unread
    for split in splits:
        try:
            found.append(_open(folder, split, remap, FOUND))
        except UnipError as error:
            if any(folders.images != folders.masks for folders in candidates(root, split or None, FOUND)):
                unread.append(UnreadLabels(root / split, name_source(folder / "frame", folder)[0], in_words(error)))
    return found, unread


def _open(source: Path, split: str, remap: Sequence[str], places: Places) -> LabelledSet:
    unpaired, root = Unpaired(), split_kind(source)[1]
    data = open_segmentation(source, split or None, remap=remap, places=places, unpaired=unpaired)
    return LabelledSet(root, split, _source_of(data, root), data, unpaired)


def _source_of(data: SegmentationData, root: Path) -> str:
    root, first = Path(os.path.abspath(root)), Path(os.path.abspath(data.images[0]))
    return name_source(first, root if first.is_relative_to(root) else first.parent)[0]
