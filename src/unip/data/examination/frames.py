"""The sample of frames: which are read, and each read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unip.data.examination.detail import power_spectrum, smear, smoothness
from unip.data.examination.image_quality import edge_width, noise, second_differences, squares
from unip.data.examination.likeness import features_of
from unip.data.examination.records import FrameMeasures, Sample, Unreadable
from unip.data.examination.sensor_defects import beyond_texture, impulses, stripe_bands, stripe_spread
from unip.data.images.addresses import read_bytes
from unip.data.images.config import Conversion
from unip.data.images.conversion import Values, grey8, luma
from unip.data.images.decoding import Pixels, Pixels8, decode_samples, is_grey
from unip.data.images.palettes import COLOURED, palette_to_grey, recognise
from unip.data.images.quality import tilt
from unip.data.images.radiometric import Maker, radiometric_maker
from unip.data.manifests.facts import PERCENTILES, histogram, percentiles, perceptual_hash, problem_of
from unip.data.manifests.listing import natural
from unip.data.manifests.sources import list_source
from unip.errors import UnipError
from unip.progress import meter
from unip.runtime.workers import map_threads

Image32 = npt.NDArray[np.float32]

RUN = 4  # neighbouring frames that are taken together, so that frozen ones are seen
AT_ONCE = 16  # frames whose pixels are in memory
ENDS = (0.02, 99.98)  # percentiles between which the span of an 8-bit frame lies
MIN_IMPULSE = 24.0  # levels by which a dead pixel differs from all eight neighbours
HOT = 99.9  # percentile that hot objects reach, and single dead pixels do not
NOISE_TIMES = 5.0  # sigmas of noise that a dead pixel stands out by


@dataclass(frozen=True, eq=False)
class Reading:
    """One frame: what it told, and its pixels for adding up.

    Attributes:
        measures: What it told.
        levels: ``(H, W)`` float32 grey levels.
        differences: :func:`.image_quality.second_differences` of it.
        dead: Pixels that stand out from all neighbours, ``(H, W)`` bool.
        columns: :func:`.sensor_defects.stripe_bands`, ``(BANDS, W)``.
        rows: The same of rows, ``(BANDS, H)``.
        used: Which values occur: ``(256,)`` or ``(65536,)`` bool; empty for floats.
    """

    measures: FrameMeasures
    levels: Image32
    differences: Image32
    dead: npt.NDArray[np.bool_]
    columns: Image32
    rows: Image32
    used: npt.NDArray[np.bool_]


def list_frames(folder: Path) -> list[str]:
    """List the image files of a folder in the order of their names (frame 9 before frame 10), masks left out.

    Raises:
        UnipError: It is missing or holds no image.
    """
    paths = {entry.path for entry in list_source(folder, "infrared")}
    return [os.fsdecode(path) for path in sorted(paths, key=natural)]


def choose_sample(paths: Sequence[str], most: int) -> list[str]:
    """Take at most ``most`` paths (0: all): runs of neighbours, evenly over the list."""
    if not most or len(paths) <= most:
        return list(paths)
    runs = max(1, most // RUN)
    starts = np.linspace(0, len(paths) - min(RUN, most), runs).round().astype(int)
    chosen = sorted({int(start) + step for start in starts for step in range(min(RUN, most))})
    return [paths[i] for i in chosen]


def read_frames(paths: Sequence[str], *, radiometric: bool = False, workers: int = 0) -> Iterator[Reading | Unreadable]:
    """Read and measure frames with threads, in their order; a few are in memory at a time.

    Args:
        paths: The files.
        radiometric: Take the temperatures (or counts) of radiometric files, not their picture.
        workers: Threads; 0: one for each core.
    """

    def read(path: str) -> Reading | Unreadable:
        try:
            return read_frame(path, radiometric=radiometric)
        except (UnipError, OSError) as error:
            return Unreadable(path, problem_of(error))

    with meter("examining frames", len(paths), "frames") as progress:
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            yield from map_threads(read, part, "examining frames", workers=workers, quiet=True)
            progress.advance(len(part))


def read_frame(path: str, *, radiometric: bool = False) -> Reading:
    """Read and measure one frame.

    Raises:
        UnipError: It cannot be read.
        OSError: The file cannot be opened.
    """
    data = read_bytes(path)
    samples = decode_samples(data, path, Conversion(radiometric=radiometric))
    return measure_frame(samples, path, radiometric_maker(data))


def measure_frame(samples: Pixels, path: str, maker: Maker | None = None) -> Reading:
    """Measure the samples of a frame.

    Args:
        samples: ``(H, W)`` or ``(H, W, 3)``, uint8, uint16 or float32, as :func:`.decode_samples` gives them.
        path: The file.
        maker: Whose radiometric file it is.
    """
    grey, palette, coloured = _grey_of(samples, path)
    levels = as_levels(grey)
    picture: Pixels8 = grey8(grey)
    ends = (0.0, 255.0) if grey.dtype == np.uint8 else (float(levels.min()), float(levels.max()))
    differences = second_differences(levels)
    sigma = noise(levels, differences, ends)
    dead = impulses(levels, max(MIN_IMPULSE, NOISE_TIMES * sigma if np.isfinite(sigma) else 0.0))
    columns, rows = stripe_bands(levels), stripe_bands(np.ascontiguousarray(levels.T))
    power = power_spectrum(levels)
    blocks, waves = squares(levels)
    counts = histogram(picture, picture)
    minimum, low, median, high, hot, maximum = _percentiles(grey, counts)
    kind: Sample = "uint8" if grey.dtype == np.uint8 else "uint16" if grey.dtype == np.uint16 else "float32"
    measures = FrameMeasures(
        path=path,
        folder=os.path.dirname(path),
        width=grey.shape[1],
        height=grey.shape[0],
        sample=kind,
        maker=maker,
        palette=palette,
        coloured=coloured,
        minimum=minimum,
        maximum=maximum,
        low=low,
        median=median,
        high=high,
        hot=hot,
        span=_span(counts) if kind == "uint8" else 255.0,
        unused=_unused(picture, counts, dead) if kind == "uint8" else 0,
        empty=_empty(counts) if kind == "uint8" else 0.0,
        clipped=_clipped(grey, counts),
        noise=_finite(sigma),
        impulses=beyond_texture(levels, dead) / dead.size,
        stripes=round(max(stripe_spread(columns), stripe_spread(rows)), 3),
        edge_width=_finite(edge_width(levels)),
        smoothness=None if power is None else _finite(smoothness(power)),
        smear=None if power is None else _finite(smear(power)),
        blockiness=round(blocks, 3),
        quantised=round(waves, 3),
        tilt=round(tilt(picture), 3),
        phash=f"{perceptual_hash(picture):016x}",
        digest=hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=8).hexdigest(),
        features=features_of(picture, counts),
    )
    return Reading(measures, levels, differences, dead, columns, rows, _used(grey))


def as_levels(grey: Values) -> Image32:
    """Return grey levels as float32: 8-bit as stored; else the 0.5 and 99.5 percentiles become 0 and 255.

    Values beyond them are not cut off. Samples without a measurement (NaN) become 0.
    """
    if grey.dtype == np.uint8:
        return grey.astype(np.float32)
    values = grey.astype(np.float32)
    finite = np.isfinite(values)
    low, high = np.percentile(values[finite], PERCENTILES) if finite.any() else (0.0, 0.0)
    span = max(float(high - low), 1e-6 * max(1.0, abs(float(high))))
    scaled = (values - np.float32(low)) * np.float32(255 / span)
    return scaled if finite.all() else np.where(finite, scaled, np.float32(0))


def _grey_of(samples: Pixels, path: str) -> tuple[Values, str, float]:
    """Return the grey samples ``(H, W)``, the palette's name, and the share of coloured pixels of a grey frame."""
    if samples.ndim == 2:
        return samples, "", 0.0
    if is_grey(samples):
        return np.ascontiguousarray(samples[..., 1]), "", 0.0  # luma would only add its rounding
    palette = recognise(samples) if samples.dtype.kind == "u" else None
    if palette is not None:
        return palette_to_grey(samples, "invert", path), palette.name, 0.0
    scale = 1 if samples.dtype == np.uint8 else 257
    colour = samples.max(axis=2).astype(np.float32) - samples.min(axis=2) >= COLOURED * scale
    grey = grey8(samples) if samples.dtype == np.uint8 else np.rint(luma(samples)).astype(np.uint16)
    return grey, "", float(colour.mean())


def _percentiles(grey: Values, counts: npt.NDArray[np.int64]) -> list[float]:
    shares = (0, PERCENTILES[0], 50, PERCENTILES[1], HOT, 100)
    if grey.dtype == np.uint8:
        return percentiles(counts, shares)  # a tenth of the time
    values = grey[np.isfinite(grey)] if grey.dtype.kind == "f" else grey
    return [float(value) for value in np.percentile(values, shares)] if values.size else [0.0] * len(shares)


def _finite(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


def _unused(picture: Pixels8, counts: npt.NDArray[np.int64], dead: npt.NDArray[np.bool_]) -> int:
    """Return how many levels are free at the end that the frame comes nearer to; dead pixels do not count."""
    left = np.flatnonzero(counts > np.bincount(picture[dead], minlength=len(counts)))
    return int(min(left[0], len(counts) - 1 - left[-1])) if left.size else 0


def _span(counts: npt.NDArray[np.int64]) -> float:
    low, high = _levels_at(counts, ENDS)
    return float(high - low)


def _empty(counts: npt.NDArray[np.int64]) -> float:
    low, high = _levels_at(counts, PERCENTILES)
    return float((counts[low : high + 1] == 0).mean())


def _levels_at(counts: npt.NDArray[np.int64], shares: tuple[float, float]) -> tuple[int, int]:
    ends = np.cumsum(counts) / max(1, counts.sum())
    low, high = (int(np.searchsorted(ends, share / 100)) for share in shares)
    return low, min(high, len(counts) - 1)


def _clipped(grey: Values, counts: npt.NDArray[np.int64]) -> float:
    """Return the share at 0 and at the top of 8 bits, or at the extremes of a wider frame where they are crowded."""
    if grey.dtype == np.uint8:
        return float(counts[0] + counts[-1]) / grey.size
    if grey.dtype.kind == "f":
        return 0.0
    return float(((grey == grey.min()) | (grey == grey.max())).mean())


def _used(grey: Values) -> npt.NDArray[np.bool_]:
    if grey.dtype.kind == "f":
        return np.zeros(0, dtype=bool)
    return np.bincount(grey.ravel(), minlength=256 if grey.dtype == np.uint8 else 65536) > 0
