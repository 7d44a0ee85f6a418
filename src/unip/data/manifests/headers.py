"""What headers tell of image files, which is all that pre-training has to know before it starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from unip.data.images.decoding import decode_image, is_grey
from unip.data.images.formats import open_image
from unip.data.manifests.facts import FileFacts, problem_of
from unip.data.manifests.manifest import SHOWN, read_manifest
from unip.data.manifests.rows import Row
from unip.data.manifests.sources import Entry, printable
from unip.errors import UnipError
from unip.limits import check_claim
from unip.opening import open_regular
from unip.paths import status
from unip.runtime.workers import map_processes, map_threads

log = logging.getLogger(__name__)

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
JPEG_END = b"\xff\xd9"
WIDE_MODES = ("I;16", "I;16L", "I;16B", "I", "F")  # of Pillow: samples that are read as 16 bits
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TIFF_COMPRESSIONS = (1, 5, 8, 32946)  # none, LZW and deflate, which are read whatever is installed

Header = tuple[int, int, int]  # width, height, bits


class HeaderReader:
    """Opens each file once for what its header says; files that a manifest knows are not opened.

    Args:
        known: A manifest that was made of such files before.
        workers: Threads or processes; 0 means one for each core.

    Attributes:
        modified: When each file was last changed, ns since 1970.
    """

    def __init__(self, known: Path | None, workers: int) -> None:
        self._place, self._workers = known, workers
        self._known = _known_rows(known) if known else {}
        self.modified: dict[bytes, int] = {}

    def __call__(self, entries: Sequence[Entry]) -> Iterator[FileFacts]:
        """Yield what is known of each file; where its modality is not told, also whether it is grey."""
        paths = [entry.path for entry in entries]
        same = self._unchanged(paths)
        # By pixels, all files of a folder tell its modality together: all of them are read again or none.
        mixed = {os.path.dirname(path) for path in (self._known.keys() | paths) - same}

        def is_known(entry: Entry) -> bool:
            path = entry.path
            return path in same and (entry.modality is not None or os.path.dirname(path) not in mixed)

        unknown = [entry for entry in entries if not is_known(entry)]
        fresh = map_processes(_read_entry, unknown, "scanning images", workers=self._workers)
        for entry, path in zip(entries, paths, strict=True):
            if is_known(entry):
                row = self._known[path]
                facts, modified = _facts_of(row), row.modified
            else:
                facts, modified = next(fresh)
            if modified is not None:
                self.modified[path] = modified
            yield facts

    def _unchanged(self, paths: Sequence[bytes]) -> set[bytes]:
        """Find the files that are as the manifest says, and warn of those that are not."""
        listed = [path for path in paths if path in self._known]
        stamps = map_threads(_stamp, listed, "looking at images", workers=self._workers, quiet=True)
        rows = [self._known[path] for path in listed]
        same = {row.path or b"" for row, stamp in zip(rows, stamps, strict=True) if (row.bytes, row.modified) == stamp}
        if changed := [path for path in listed if path not in same]:
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            names = ", ".join(printable(path) for path in changed[:SHOWN]) + more
            what = f"{len(changed)} of {len(paths)} images have changed since {self._place} was written"
            log.warning(f"{what}, and are read again: {names}")
        return same


def read_header(path: bytes, *, pixels: bool = False) -> tuple[FileFacts, int | None]:
    """Open a file once, and decode it only if asked to or if its header leaves doubts: it may be cut off, say.

    Args:
        path: The file.
        pixels: Tell whether it is grey.

    Returns:
        Its size, width, height, bits and if asked ``grey``, or what is wrong with it; and its time of change.
    """
    modified = None
    try:
        with open_regular(os.fsdecode(path)) as file:
            state = os.fstat(file.fileno())
            modified = state.st_mtime_ns
            header = None if pixels else _header(file, state.st_size)
            if header is not None:
                return FileFacts(path, state.st_size, width=header[0], height=header[1], bits=header[2]), modified
            file.seek(0)
            image = decode_image(file.read(), "file")
    except (UnipError, OSError) as error:
        return FileFacts(path, problem=problem_of(error)), modified
    height, width = image.shape[:2]
    bits = 8 * image.dtype.itemsize
    return FileFacts(path, state.st_size, width=width, height=height, bits=bits, grey=is_grey(image)), modified


def _read_entry(entry: Entry) -> tuple[FileFacts, int | None]:
    return read_header(entry.path, pixels=entry.modality is None)


def _header(file: BinaryIO, size: int) -> Header | None:
    """Read width, height and bits; None where only decoding tells them, or whether there is an image at all."""
    try:
        start = file.read(32)
        if start.startswith(TIFF_STARTS):
            return _tiff_header(file, size)
        with open_image(file) as image:
            if image.format == "PNG" and start[24] == 16 and image.mode not in WIDE_MODES:
                return None  # colours whose counts may be lost
            file.seek(-len(PNG_END), os.SEEK_END)
            end = file.read()
            whole = {
                "PNG": end == PNG_END,
                "JPEG": end.endswith(JPEG_END),
                "WEBP": int.from_bytes(start[4:8], "little") + 8 <= size,
                "BMP": int.from_bytes(start[2:6], "little") == size,
            }
            bits = 16 if image.mode in WIDE_MODES else 8
            return (image.width, image.height, bits) if whole.get(image.format or "") else None
    except Exception:  # on broken bytes the decoders raise nearly anything; decoding says what is wrong
        return None


def _tiff_header(file: BinaryIO, size: int) -> Header | None:
    import tifffile  # here: it takes as long to import as all else that reads images

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        if len(tiff.pages) > 1:
            return None  # smaller copies of the first, or pictures that would be lost
        page: Any = tiff.pages[0]
        check_claim(page.imagelength, page.imagewidth, size, jpeg=False)
        plain = page.compression in TIFF_COMPRESSIONS and page.tags.valueof("Orientation", 1) == 1
        grey, colour = page.axes == "YX" and page.photometric in (0, 1), page.axes == "YXS" and page.photometric == 2
        bits = 8 * page.dtype.itemsize if page.dtype is not None and page.dtype.kind == "u" else 0
        end = max(start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
        if not plain or end > size:
            return None
        known = (bits == 8 and (grey or colour)) or (bits == 16 and grey)
        return (page.imagewidth, page.imagelength, bits) if known else None


def _known_rows(manifest: Path) -> dict[bytes, Row]:
    try:
        rows = (Row(**values) for values in read_manifest(manifest, may_miss=True).to_pylist())
        return {row.path: row for row in rows if row.path and row.modified is not None}
    except UnipError:  # it is damaged, or of another version: all is read
        return {}


def _facts_of(row: Row) -> FileFacts:
    return FileFacts(
        row.path or b"",
        row.bytes,
        row.sha256,
        row.width,
        row.height,
        row.bits,
        grey=row.modality == "infrared",  # so that a folder that is told by pixels is told the same again
        phash=row.phash,
    )


def _stamp(path: bytes) -> tuple[int, int] | None:
    try:
        state = status(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns
