"""Mask files of images with an EXIF orientation: drawn on the picture as viewers turn it, or on the pixels as stored?

Images are read as stored. Nothing in most mask files says which of the two somebody drew on, so only this decides, in
this order:

1. an EXIF orientation of the mask file itself: as viewers show them, image and mask lie on each other;
2. the size, where a quarter turn of an image that is not square leaves one possibility;
3. what the user says (``mask_orientation``);
4. what the sizes say of the other images of the same data.

Everything else is refused.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unip.data.images.decoding import Pixels
from unip.data.images.orientation import as_shown, as_stored, may_be_turned
from unip.data.labelled.binary_masks import ClassFiles, JpegMask
from unip.data.labelled.masks import ColourFile, MaskFile, MaskSource
from unip.data.labelled.outlines import StoredPicture, look_at_picture
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.saying import say_once
from unip.data.labelled.settings import MaskOrientation
from unip.errors import UnipError
from unip.opening import open_header
from unip.runtime.workers import map_threads

FILES = (MaskFile, JpegMask, ColourFile, ClassFiles)  # sources that are files of pixels; outlines are turned as drawn
MANY = 2000  # pairs from which reading their headers may take seconds
Drawn = Literal["tag", "size", "unknown"]  # what tells how a mask lies


@dataclass(frozen=True)
class TurnedMask:
    """A mask file that fits its image as stored once it is turned.

    Attributes:
        source: The mask as its file stores it.
        own: The orientation of its file, by which viewers turn it.
        image: The orientation of its image.
    """

    source: MaskSource
    own: int
    image: int

    @property
    def path(self) -> Path:
        """The file."""
        return self.source.path

    def read(self) -> Pixels:
        """Return the ids on the pixels of the image as stored, ``(H, W)`` uint8 or uint16."""
        return as_stored(as_shown(self.source.read(), self.own), self.image)


@dataclass(frozen=True)
class _Pair:
    """What the headers of an image and its mask say, of which one at least has an orientation."""

    index: int
    image: StoredPicture
    mask: StoredPicture

    def told(self) -> tuple[Drawn, MaskOrientation]:
        """Say how the mask lies, and what tells it."""
        drawn, stored, shown = self.mask.size, self.image.size, self.image.shown
        if self.mask.orientation != 1 and self.mask.shown == shown:
            return "tag", "shown"
        if stored != shown and drawn in (stored, shown):
            return "size", "stored" if drawn == stored else "shown"
        return ("size", "stored") if self.image.orientation == 1 else ("unknown", "shown")


def turn_masks(data: SegmentationData, given: MaskOrientation | None, name: str) -> SegmentationData:
    """Return data whose mask files fit their images as stored, and say what was turned.

    Args:
        data: The pairs; only headers are read.
        given: What masks were drawn on, where nothing else tells; None: it is found, or refused.
        name: Of the data, for messages.

    Raises:
        UnipError: Nothing tells how some masks lie.
    """
    chosen = [index for index, mask in enumerate(data.masks) if isinstance(mask, FILES)]
    quiet = len(chosen) < MANY
    looked = map_threads(lambda index: _look(data, index), chosen, "reading headers", unit="pairs", quiet=quiet)
    pairs = [pair for pair in looked if pair is not None]
    if not pairs:
        return data
    told = {pair.index: pair.told() for pair in pairs}
    sizes = {lies for how, lies in told.values() if how == "size"}
    unknown = [pair for pair in pairs if told[pair.index][0] == "unknown"]
    rest = given or (next(iter(sizes)) if len(sizes) == 1 else None)
    if unknown and rest is None:
        raise _refusal(data, unknown)
    masks = list(data.masks)
    for pair in pairs:
        how, lies = told[pair.index]
        own = pair.mask.orientation if how == "tag" else 1
        lies = lies if how != "unknown" or rest is None else rest
        if lies == "shown" and own != pair.image.orientation:
            masks[pair.index] = TurnedMask(data.masks[pair.index], own, pair.image.orientation)
    say_once(_summary(name, told.values(), rest, given is not None, len(data)))
    return dataclasses.replace(data, masks=tuple(masks))


def mask_files(mask: MaskSource) -> tuple[Path, ...]:
    """Return all files that a mask is read from."""
    source = mask.source if isinstance(mask, TurnedMask) else mask
    return tuple(path for path, _ in source.files) if isinstance(source, ClassFiles) else (source.path,)


def _look(data: SegmentationData, index: int) -> _Pair | None:
    """Return what the headers of a pair say if an orientation is stated; a file that cannot be read is told of later.

    Raises:
        UnipError: The masks of several classes have different orientations.
    """
    files = mask_files(data.masks[index])
    try:
        if not any(map(_may_be_turned, (data.images[index], *files))):
            return None
        image, *masks = (look_at_picture(path) for path in (data.images[index], *files))
    except (OSError, UnipError):
        return None
    if len({mask.orientation for mask in masks}) > 1:
        raise UnipError(
            f"the masks {files[0]} and those of other classes of the same image have different EXIF orientations",
            "Save the masks of all classes in the same way, without an orientation.",
        )
    return None if image.orientation == masks[0].orientation == 1 else _Pair(index, image, masks[0])


def _may_be_turned(path: Path) -> bool:
    with open_header(path) as file:
        return may_be_turned(file)


def _refusal(data: SegmentationData, unknown: list[_Pair]) -> UnipError:
    first = unknown[0]
    count = f"{len(unknown)} of {len(data)} images have an EXIF orientation (a rotation or mirroring by viewers)"
    return UnipError(
        f"{count}, and neither size nor tags say whether their masks fit the turned picture or the pixels as stored. "
        f"The first: {data.images[first.index]} (orientation {first.image.orientation}) with the mask "
        f"{data.masks[first.index].path}",
        "Open both in a viewer. If they lie on each other, because masks were drawn on the turned picture: "
        "--mask-orientation shown. If the mask fits only the image without its rotation: --mask-orientation stored. "
        "Where a command has no such option: unip data split has it, and writes masks that say how they lie.",
    )


def _summary(
    name: str, told: Iterable[tuple[Drawn, MaskOrientation]], rest: MaskOrientation | None, given: bool, images: int
) -> str:
    counts = Counter(told)
    lies = {"shown": "on the turned picture, and are turned to fit", "stored": "on the pixels as stored"}
    found = [
        (counts["tag", "shown"], "masks have an orientation of their own, which is followed"),
        (counts["size", "shown"], f"masks lie by their size {lies['shown']}"),
        (counts["size", "stored"], f"masks lie by their size {lies['stored']}"),
        (
            counts["unknown", "shown"],
            f"masks are taken to lie {lies[rest or 'shown']} "
            + ("(--mask-orientation)" if given else "as the others do (--mask-orientation changes that)"),
        ),
    ]
    parts = "; ".join(f"{count} {text}" for count, text in found if count)
    return (
        f"{name}: {sum(counts.values())} of {images} pairs have an EXIF orientation; images are read as stored. {parts}"
    )
