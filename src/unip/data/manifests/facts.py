"""Facts of an image file from one decode: size, hashes, brightness. A journal keeps them for an interrupted run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from unip.data.images.addresses import file_of, read_bytes
from unip.data.images.decoding import Pixels, Pixels8, decode_image, is_grey, to_grey8
from unip.data.images.palettes import recognise
from unip.data.images.quality import colour_spread, sharpness, tilt
from unip.documents import try_json
from unip.errors import UnipError
from unip.opening import NotRegularError, read_regular, regular
from unip.paths import status
from unip.runtime.workers import map_processes

PERCENTILES = (0.5, 99.5)
DEPTHS = (8, 10, 12, 14, 16)  # bits that sensors count in; the smallest that holds a frame is taken for its range
SYNC_EVERY_SECONDS = 2.0  # of work that a power cut may lose
VERSION = 3  # of the journal's lines

T = TypeVar("T")

Bytes = bytes  # a field of Facts has the name of the type
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FileFacts:
    """What was read from one image file; counts are those of the grey image (luma, where it has colour).

    Attributes:
        path: The file, as given.
        bytes: Its size.
        sha256: Of the file's bytes.
        width: Pixels.
        height: Pixels.
        bits: Of a sample as read, 8 or 16.
        channels: 1 or 3.
        grey: One channel, or three equal ones.
        phash: Perceptual hash, 64 bits, see :func:`perceptual_hash`.
        low: 0.5 % of the pixels are darker, in stored counts.
        high: 99.5 % of the pixels are darker, in stored counts.
        mean: Of the stored counts.
        std: Of the stored counts.
        saturated: Share of the pixels at 0 or at the top of the range, see ``DEPTHS``.
        sharpness: Mean difference of neighbouring pixels of the 8-bit image, see :mod:`unip.data.images.quality`.
        tilt: How much brighter the top is than the bottom, in standard deviations.
        colours: How far the colours are from lying on one curve, as a colour map's do; 1 for grey images.
        palette: Name of the palette in whose colours it is; empty if it is grey, or of none that is known.
        problem: Why the file cannot be used, None if it can; every number is 0 then.
    """

    path: Bytes
    bytes: int = 0
    sha256: str = ""
    width: int = 0
    height: int = 0
    bits: int = 0
    channels: int = 0
    grey: bool = False
    phash: int = 0
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    saturated: float = 0.0
    sharpness: float = 0.0
    tilt: float = 0.0
    colours: float = 0.0
    palette: str = ""
    problem: str | None = None


def read_facts(path: bytes | str) -> FileFacts:
    """Read and decode a file once; what is wrong with it comes as ``problem``, never as an exception."""
    return read_with_facts(path)[0]


def read_with_facts(path: bytes | str) -> tuple[FileFacts, Pixels | None]:
    """Do the same, and return the pixels too, as :func:`unip.data.images.decoding.decode_image` gives them."""
    raw = os.fsencode(path)
    try:
        data = read_bytes(raw)
        image = decode_image(data, "file")
        return _facts_from(data, image, raw), image
    except (UnipError, OSError) as error:
        return FileFacts(raw, problem=problem_of(error)), None


def problem_of(error: UnipError | OSError) -> str:
    """Say why a file cannot be used, in the same words in every run."""
    if isinstance(error, UnipError):
        return re.sub(r" at 0x[0-9a-fA-F]+", "", error.what)
    if isinstance(error, NotRegularError | IsADirectoryError):
        return "not a regular file"
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _facts_from(data: bytes, image: Pixels, path: bytes) -> FileFacts:
    grey8, grey = to_grey8(image), is_grey(image)
    palette = None if grey else recognise(image)
    counts = histogram(image, grey8)
    low, high = percentiles(counts, PERCENTILES)
    levels = np.arange(len(counts))
    pixels = image.shape[0] * image.shape[1]
    mean = float(counts @ levels) / pixels
    variance = float(counts @ (levels - mean) ** 2) / pixels
    used = int(np.flatnonzero(counts)[-1])
    top = next(2**bits - 1 for bits in DEPTHS if used < 2**bits)
    return FileFacts(
        path=path,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        width=image.shape[1],
        height=image.shape[0],
        bits=8 * image.dtype.itemsize,
        channels=1 if image.ndim == 2 else 3,
        grey=grey,
        phash=perceptual_hash(grey8),
        low=low,
        high=high,
        mean=mean,
        std=float(np.sqrt(variance)),
        saturated=float(counts[0] + counts[top]) / pixels,
        sharpness=sharpness(grey8),
        tilt=tilt(grey8),
        colours=1.0 if grey else colour_spread(image),
        palette=palette.name if palette else "",
        problem=None,
    )


def histogram(image: Pixels, grey8: Pixels8) -> Counts:
    """Count the pixels at each stored level of the grey image: 256 numbers, or 65,536 of a 16-bit image."""
    if image.dtype == np.uint8:
        return np.array(Image.fromarray(grey8).histogram(), dtype=np.int64)  # lets other threads run, unlike bincount
    if image.ndim == 3:
        image = np.rint(image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).astype(np.uint16)
    return np.bincount(image.ravel(), minlength=65536)


def percentiles(counts: Counts, shares: Sequence[float]) -> list[float]:
    """Return percentiles (0 .. 100) of counted levels, interpolated linearly as ``numpy.percentile`` does."""
    ends = np.cumsum(counts)
    values = []
    for share in shares:
        position = share / 100 * (int(ends[-1]) - 1)
        before, after = (int(np.searchsorted(ends, int(n), side="right")) for n in (position, np.ceil(position)))
        values.append(float(before + (after - before) * (position % 1)))
    return values


def _cosines(outputs: int, inputs: int) -> npt.NDArray[np.float64]:
    frequency, place = np.arange(outputs)[:, None], np.arange(inputs)[None]
    return 2 * np.cos(np.pi * frequency * (2 * place + 1) / (2 * inputs))


_DCT = _cosines(8, 32)


def perceptual_hash(grey: Pixels8) -> int:
    """Hash an image so that similar ones differ in few bits: the DCT hash as ``imagehash.phash`` defines it.

    The image is reduced to 32 x 32 (Lanczos); of its two-dimensional DCT-II, the 8 x 8 lowest frequencies each give
    a bit: above their median or not. Source: C. Zauner, "Implementation and benchmarking of perceptual image hash
    functions", 2010, section 3.2.1.

    Args:
        grey: ``(H, W)`` uint8.

    Returns:
        64 bits, row by row, the first one highest.
    """
    small = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    low = np.round(_DCT @ small @ _DCT.T, 6)  # so that rounding errors do not decide
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def facts_of(paths: Sequence[bytes], journal: Path | None = None, *, workers: int = 0) -> Iterator[FileFacts]:
    """Read many files with threads or processes.

    Args:
        paths: The files.
        journal: A file that keeps what was read, for the next run: a file of the same path, size and time of change is
            not read again. It is only ever appended to. If it cannot be written, the work goes on without it.
        workers: Threads or processes; 0 means one for each core.

    Yields:
        The facts of each file, in the order of ``paths``.
    """
    for facts, _ in look_at_files(paths, lambda path, known: (known or read_facts(path), None), journal, workers):
        yield facts


def look_at_files(
    paths: Sequence[bytes],
    look: Callable[[bytes, FileFacts | None], tuple[FileFacts, T]],
    journal: Path | None = None,
    workers: int = 0,
) -> Iterator[tuple[FileFacts, T]]:
    """Look at many files as :func:`facts_of` reads them.

    Args:
        paths: The files.
        look: Called with a file and what the journal knows of it; returns its facts, and what else was seen, which
            travels between processes and is not kept.
        journal: See above.
        workers: See above.

    Yields:
        What ``look`` returned, in the order of ``paths``.
    """
    known = _read_journal(journal) if journal else {}
    log = _Journal(journal) if journal else None

    def read(path: bytes) -> tuple[tuple[FileFacts, T], tuple[int, int] | None]:
        try:
            state = status(file_of(path))
        except OSError:
            return look(path, None), None
        stamp = (state.st_size, state.st_mtime_ns)
        old = known.get((path, *stamp))
        return look(path, old), None if old else stamp

    try:
        for seen, stamp in map_processes(read, paths, "reading images", workers=workers):
            if log and stamp:
                log.add(seen[0], stamp)
            yield seen
    finally:
        if log:
            log.close()


class _Journal:
    """Lines of JSON, appended; written at once and synced to disk now and then."""

    def __init__(self, path: Path) -> None:
        self._lines: list[str] = []
        self._file: int | None = None
        self._synced = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            self._lines.append("")  # ends a line that a kill has cut
        except OSError:
            pass  # a journal saves time, nothing else

    def add(self, facts: FileFacts, stamp: tuple[int, int]) -> None:
        values: list[Any] = list(dataclasses.astuple(facts))
        values[0] = facts.path.decode("latin-1")  # any bytes, one character each
        self._lines.append(json.dumps([VERSION, *stamp, *values]))
        if time.monotonic() - self._synced > SYNC_EVERY_SECONDS:
            self._sync()

    def close(self) -> None:
        self._sync()
        if self._file is not None:
            os.close(self._file)

    def _sync(self) -> None:
        if self._file is None or not self._lines:
            return
        try:
            os.write(self._file, ("\n".join(self._lines) + "\n").encode())
            os.fsync(self._file)
        except OSError:  # a full disk: what was written before still counts
            os.close(self._file)
            self._file = None
        self._lines.clear()
        self._synced = time.monotonic()


def _read_journal(path: Path) -> dict[tuple[bytes, int, int], FileFacts]:
    known: dict[tuple[bytes, int, int], FileFacts] = {}
    try:
        lines = read_regular(path).splitlines()
    except OSError:
        return known
    for line in lines:
        try:
            version, size, changed, name, *values = try_json(line, list) or []
            if version == VERSION and type(size) is type(changed) is int:
                facts = FileFacts(name.encode("latin-1"), *values)
                if _is_possible(facts):
                    known[facts.path, size, changed] = facts
        except (ValueError, TypeError, AttributeError):
            continue  # a line that a kill has cut, or that someone has changed
    return known


def _is_possible(facts: FileFacts) -> bool:
    """Say whether all values are of the types and ranges that reading a file gives."""
    for name, kinds in _KINDS.items():
        value = getattr(facts, name)
        if type(value) not in kinds or (type(value) is int and not 0 <= value < 2**64):
            return False
        if type(value) is float and not math.isfinite(value):
            return False
    return True


_TYPES = {"int": (int,), "float": (float,), "bool": (bool,), "str": (str,), "str | None": (str, type(None))}
_KINDS = {field.name: _TYPES[str(field.type)] for field in dataclasses.fields(FileFacts)[1:]}
