"""`unip data stats`: mean and deviation of the pixels of each source, and how often each class occurs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.table import Table

from unip.config import NameOrPath, verb
from unip.data.config import StatsConfig
from unip.data.images.config import Conversion
from unip.data.images.conversion import grey8
from unip.data.images.decoding import Pixels8, decode_samples, is_grey, read_image8, to_image8
from unip.data.images.nodata import describe_suspected
from unip.data.labelled.binary import refuse_doubtful
from unip.data.labelled.classes import IGNORE
from unip.data.labelled.datasets import list_splits, open_segmentation
from unip.data.labelled.pairs import SegmentationData
from unip.data.labelled.settings import Places
from unip.data.manifests.sources import check_sources
from unip.errors import UnipError
from unip.log import TableMessage
from unip.outputs import output_folder, write_json
from unip.runtime.workers import map_threads

if TYPE_CHECKING:
    from unip.data.manifests.rows import Row

log = logging.getLogger(__name__)

SHOWN = 5  # problems that are printed

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PixelStats:
    """Pixels of one source, in 0..1 of 8 bits; every pixel has the same weight.

    Attributes:
        source: Its name.
        images: How many were read.
        pixels: How many pixels they have.
        mean: Of the grey levels.
        std: Of the grey levels.
        colour: How many of the images are not grey.
        rgb_mean: Of each channel over all images (grey ones count in all three channels); None if all are grey.
        rgb_std: As rgb_mean.
    """

    source: str
    images: int
    pixels: int
    mean: float
    std: float
    colour: int = 0
    rgb_mean: tuple[float, ...] | None = None
    rgb_std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ClassStats:
    """One class in one split: its pixels, their share of all labelled pixels, the images that show it, their share."""

    split: str
    name: str
    pixels: int
    share: float
    images: int
    image_share: float


@dataclass(frozen=True)
class StatsResult:
    """What was measured; ``problems`` are the images and pairs that were left out, and why."""

    pixels: tuple[PixelStats, ...]
    classes: tuple[ClassStats, ...]
    problems: tuple[str, ...]


@verb(StatsConfig)
def stats(config: StatsConfig) -> StatsResult | None:
    """Read every image (and mask) once, print both tables, and write them to ``out``.

    Images are taken as models see them: 8 bits by their conversion, not cropped. Damaged files and bad pairs are
    listed.

    Returns:
        The numbers, or None for a dry run.

    Raises:
        UnipError: Nothing was given, a source is missing, or no file of a source can be read.
    """
    if not config.sources and config.data is None:
        raise UnipError("nothing to measure", "Give --sources FOLDER, or --data for segmentation data.")
    if config.out is None:
        return _stats(config)
    with output_folder(
        config.out.parent, overwrite=config.overwrite, dry_run=config.dry_run, exclusive=False
    ) as outputs:
        outputs.check(config.out.name)
        return _stats(config)


def _stats(config: StatsConfig) -> StatsResult | None:
    check_sources(config.sources)
    opened: dict[str, SegmentationData] = {}
    if config.data is not None:
        places = Places.of(config)
        names = config.splits or tuple(list_splits(config.data, places)) or ("",)
        opened = {n: open_segmentation(config.data, n or None, remap=config.remap, places=places) for n in names}
    sources = _list_sources(config.sources)
    if config.dry_run:
        for name, readers in sources.items():
            log.info(f"{name}: {len(readers)} images")
        for name, data in opened.items():
            log.info(f"{config.data} {name}: {len(data)} pairs, {len(data.classes.names)} classes")
        log.info("dry run: nothing was read or written")
        return None
    problems: list[str] = []
    pixels = [measure_pixels(name, readers, problems, config.workers) for name, readers in sources.items()]
    classes: list[ClassStats] = []
    for name, data in opened.items():
        assert config.data is not None
        title = f"{config.data.name}{' ' + name if name else ''}"
        found, rows = measure_pairs(title, name, data, problems, config.workers)
        pixels.append(found)
        classes += rows
    _check_classes(list(opened.values()), classes)
    result = StatsResult(tuple(pixels), tuple(classes), tuple(problems))
    log.info(TableMessage(pixel_table(result.pixels)))
    if classes:
        log.info(TableMessage(class_table(result.classes)))
    for line in problems[:SHOWN]:
        log.warning(f"left out: {line}")
    if len(problems) > SHOWN:
        log.warning(f"and {len(problems) - SHOWN} more were left out")
    if config.out is not None:
        write_json(config.out, asdict(result))
        log.info(f"written: {config.out}")
    return result


def _check_classes(opened: Sequence[SegmentationData], rows: Sequence[ClassStats]) -> None:
    """Refuse masks of doubtful meaning, by what all splits hold together."""
    if opened:
        width = len(rows) // len(opened)  # the classes of a split, then what has no label
        refuse_doubtful(opened[0], [sum(row.pixels for row in rows[i::width]) for i in range(width)])


def measure_pixels(
    name: str, readers: list[Callable[[], Pixels8]], problems: list[str], workers: int = 0
) -> PixelStats:
    """Measure the pixels of images; what cannot be read is added to ``problems``.

    Args:
        name: Of the source.
        readers: Each reads one image, ``(H, W)`` or ``(H, W, 3)`` uint8.
        problems: Gets a line for each image that cannot be read.
        workers: Threads; 0 means one for each core.
    """

    def read(index: int) -> Counts | UnipError:
        try:
            return levels_of(readers[index]())
        except UnipError as error:
            return error

    found = list(map_threads(read, range(len(readers)), f"reading {name}", workers=workers))
    problems += [error.what for error in found if isinstance(error, UnipError)]
    return _pixel_stats(name, [levels for levels in found if not isinstance(levels, UnipError)])


def measure_pairs(
    title: str, split: str, data: SegmentationData, problems: list[str], workers: int = 0
) -> tuple[PixelStats, list[ClassStats]]:
    """Measure the pixels and the classes of pairs; bad pairs are added to ``problems``."""

    def read(index: int) -> tuple[Counts, Counts, float | None] | UnipError:
        try:
            pair = data.read(index)
        except UnipError as error:
            return error
        return levels_of(pair.image), np.bincount(pair.mask.ravel(), minlength=256), pair.nodata

    found = list(map_threads(read, range(len(data)), f"reading {title}", workers=workers, unit="pairs"))
    problems += [error.what for error in found if isinstance(error, UnipError)]
    good = [pair for pair in found if not isinstance(pair, UnipError)]
    if not good:
        raise next(pair for pair in found if isinstance(pair, UnipError))
    pixels = _pixel_stats(title, [levels for levels, *_ in good])
    counts = np.stack([masks for _, masks, _ in good])
    if suspected := [nodata for *_, nodata in good if nodata is not None]:
        subject = f"{title}: {len(suspected)} of {len(good)} images have"
        log.warning(f"note: {describe_suspected(subject, suspected, 'fine-tune with --nodata')}")
    total, shown = counts.sum(axis=0), (counts > 0).sum(axis=0)
    every = int(total.sum())
    labelled = every - int(total[IGNORE])
    rows = []
    for i, name in [*enumerate(data.classes.names), (IGNORE, "ignore")]:
        share = int(total[i]) / max(1, every if i == IGNORE else labelled)  # what has no label: of all pixels
        rows.append(ClassStats(split, name, int(total[i]), share, int(shown[i]), int(shown[i]) / len(good)))
    return pixels, rows


def levels_of(image: Pixels8) -> Counts:
    """Count levels: ``(4, 256)`` for grey, red, green and blue; only the first row is filled for a grey image."""
    levels = np.zeros((4, 256), np.int64)
    levels[0] = np.bincount(grey8(image).ravel(), minlength=256)
    if not is_grey(image):
        for channel in range(3):
            levels[channel + 1] = np.bincount(image[..., channel].ravel(), minlength=256)
    return levels


def pixel_table(rows: tuple[PixelStats, ...]) -> Table:
    """Lay the pixels of the sources out for a terminal."""
    table = Table("source", title="Pixels, 0..1")
    for name in ("images", "colour", "mean", "std", "mean r g b", "std r g b"):
        table.add_column(name, justify="right")
    for row in rows:
        rgb = [" ".join(f"{value:.4f}" for value in part or ()) for part in (row.rgb_mean, row.rgb_std)]
        table.add_row(row.source, f"{row.images:,}", f"{row.colour:,}", f"{row.mean:.4f}", f"{row.std:.4f}", *rgb)
    return table


def class_table(rows: tuple[ClassStats, ...]) -> Table:
    """Lay the classes out for a terminal, a section for each split."""
    table = Table("split", "class", title="Classes: share of labelled pixels, images that show them")
    for name in ("pixels", "share %", "images", "images %"):
        table.add_column(name, justify="right")
    for i, row in enumerate(rows):
        if i and rows[i - 1].split != row.split:
            table.add_section()
        table.add_row(
            row.split,
            row.name,
            f"{row.pixels:,}",
            f"{100 * row.share:.3f}",
            f"{row.images:,}",
            f"{100 * row.image_share:.1f}",
        )
    return table


def _pixel_stats(name: str, levels: list[Counts]) -> PixelStats:
    if not levels:
        raise UnipError(f"no image of {name} can be read", "Run `unip data check` to see why.")
    colour = sum(bool(part[1:].any()) for part in levels)
    total = np.sum(levels, axis=0)
    mean, std = _moments(total[0])
    if not colour:
        return PixelStats(name, len(levels), int(total[0].sum()), mean, std)
    grey = np.sum([part[0] for part in levels if not part[1:].any()], axis=0, dtype=np.int64)
    moments = [_moments(channel + grey) for channel in total[1:]]
    means, deviations = (tuple(pair[k] for pair in moments) for k in (0, 1))
    return PixelStats(name, len(levels), int(total[0].sum()), mean, std, colour, means, deviations)


def _moments(levels: Counts) -> tuple[float, float]:
    """Return mean and standard deviation, in 0..1, of counted levels; integers until the end, so exact."""
    values = [int(count) for count in levels]
    count = sum(values)
    first = sum(level * times for level, times in enumerate(values))
    second = sum(level * level * times for level, times in enumerate(values))
    return first / count / 255, float(np.sqrt((count * second - first * first) / count**2)) / 255


def _list_sources(sources: tuple[NameOrPath, ...]) -> dict[str, list[Callable[[], Pixels8]]]:
    """Return what reads each image, by source."""
    from unip.data.manifests.scan import list_rows  # here: it needs pyarrow, which is slow to import

    found: dict[str, list[Callable[[], Pixels8]]] = {}
    for source in sources:
        for row in list_rows(source):
            found.setdefault(row.source, []).append(partial(_read_row, row))
    return found


def _read_row(row: Row) -> Pixels8:
    conversion = Conversion.from_json(row.conversion)
    if row.image is None:
        return read_image8(os.fsdecode(row.path or b""), conversion)
    return to_image8(decode_samples(row.image, row.source, conversion), conversion)
