"""One look at each file of a check: the facts of the frame, those of its mask, and pictures of a few of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.decoding import Pixels, Pixels8, read_image, to_grey8, to_rgb8
from unip.data.labelled.classes import IGNORE, Classes
from unip.data.labelled.mask_facts import MaskFacts, in_words, look_at_mask
from unip.data.labelled.overlay import draw_overlay
from unip.data.labelled_sets import LabelledSet
from unip.data.manifests.facts import FileFacts, histogram, look_at_files, read_with_facts
from unip.data.manifests.sources import Entry
from unip.errors import UnipError
from unip.pages import data_uri

DRAWN = 48  # frames of a source whose levels are counted
SHOWN = 12  # of these, on the page
DRAWN_IN_ALL, SHOWN_IN_ALL = 480, 120  # shared by the sources, if there are many
WIDTH = 220  # pixels of a picture
OVERLAY_WIDTH = 320  # of one with its labels
TINT = 0.4  # strength of the classes' colours


@dataclass(frozen=True)
class Sample:
    """What the page shows of a frame.

    Attributes:
        path: The file.
        picture: The frame with its labels if it has some, as a data URI; empty if it is only counted.
        levels: Pixels at each stored level, int64 ``(256,)`` or ``(65536,)``.
    """

    path: bytes
    picture: str
    levels: npt.NDArray[np.int64]


@dataclass
class Seen:
    """What was seen beside the facts of the frames.

    Attributes:
        masks: Facts of each mask, by the path of its frame.
        samples: Frames drawn evenly from each source, by its name.
    """

    masks: dict[bytes, MaskFacts] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)


class Looker:
    """Reads files, as :data:`unip.data.manifests.scan.Read` does, and keeps what else it sees on the way."""

    def __init__(self, sets: Sequence[LabelledSet], journal: Path | None, workers: int) -> None:
        self.seen = Seen()
        self._labelled = {path: (each, i) for each in sets for i, path in enumerate(each.images)}
        self._journal, self._workers = journal, workers

    def __call__(self, entries: Sequence[Entry]) -> Iterator[FileFacts]:
        """Yield the facts of the files of entries, in their order."""
        drawn = _draw(entries)

        def look(path: bytes, known: FileFacts | None) -> tuple[FileFacts, tuple[MaskFacts | None, Sample | None]]:
            if known and (known.problem or (path not in self._labelled and path not in drawn)):
                return known, (None, None)
            facts, image = (known, _image(path)) if known else read_with_facts(path)
            return facts, (None, None) if image is None else self._measure(path, image, drawn.get(path))

        paths = [entry.path for entry in entries]
        found = look_at_files(paths, look, self._journal, self._workers)
        for entry, (facts, (mask, sample)) in zip(entries, found, strict=True):
            if mask:
                self.seen.masks[entry.path] = mask
            if sample:
                self.seen.samples.setdefault(entry.source, []).append(sample)
            yield facts

    def _measure(self, path: bytes, image: Pixels, shown: bool | None) -> tuple[MaskFacts | None, Sample | None]:
        facts, mask, classes = None, None, None
        if path in self._labelled:
            labels, index = self._labelled[path]
            classes = labels.data.classes
            try:
                grey = to_grey8(image if labels.data.channel is None else labels.data.read_image(index))
            except UnipError as error:
                return MaskFacts(problem="bad mask", detail=in_words(error)), None
            facts, mask = look_at_mask(labels.data, index, grey)
        if shown is None:
            return facts, None
        picture = draw_picture(image, mask, classes) if shown else ""
        return facts, Sample(path, picture, histogram(image, to_grey8(image)))


def draw_picture(image: Pixels, mask: Pixels8 | None = None, classes: Classes | None = None) -> str:
    """Draw a frame, tinted by its labels if there are some, as a data URI.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16.
        mask: Class ids ``(H, W)``; areas without a label (255) are darkened.
        classes: What they mean.
    """
    rgb = np.ascontiguousarray(to_rgb8(image))
    if mask is None or classes is None:
        return data_uri(rgb, WIDTH)
    small = Image.fromarray(rgb)
    small.thumbnail((OVERLAY_WIDTH, 4 * OVERLAY_WIDTH))
    labels = np.asarray(Image.fromarray(mask).resize(small.size, Image.Resampling.NEAREST))
    pixels = np.array(small)
    pixels[labels == IGNORE] //= 2
    return data_uri(draw_overlay(pixels, labels, classes, alpha=TINT), OVERLAY_WIDTH)


def read_picture(path: bytes, labels: LabelledSet | None) -> str:
    """Read a file again and draw it; empty if it can no longer be read, without labels if these cannot."""
    image = _image(path)
    if image is None or labels is None:
        return "" if image is None else draw_picture(image)
    index = labels.images.index(path)
    _, mask = look_at_mask(labels.data, index, to_grey8(image))
    return draw_picture(image, mask, labels.data.classes)


def _image(path: bytes) -> Pixels | None:
    try:
        return read_image(os.fsdecode(path))
    except UnipError:
        return None  # it is gone by now


def _draw(entries: Sequence[Entry]) -> dict[bytes, bool]:
    """Draw files evenly from each source, and say which of them are shown."""
    by_source: dict[str, list[bytes]] = {}
    for entry in entries:
        by_source.setdefault(entry.source, []).append(entry.path)
    most = min(DRAWN, DRAWN_IN_ALL // max(1, len(by_source)))
    pictures = min(SHOWN, SHOWN_IN_ALL // max(1, len(by_source)))
    drawn: dict[bytes, bool] = {}
    for paths in by_source.values():
        chosen = _evenly(paths, most)
        shown = set(_evenly(chosen, pictures))
        drawn |= {path: path in shown for path in chosen}
    return drawn


def _evenly(paths: Sequence[bytes], count: int) -> list[bytes]:
    """Return up to ``count`` of some paths, from the first to the last."""
    return [paths[i] for i in sorted(set(np.linspace(0, len(paths) - 1, count).astype(int).tolist()))] if paths else []
