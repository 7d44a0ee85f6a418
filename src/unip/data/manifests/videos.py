"""Frames of videos as lossless PNG files, decoded once by PyAV."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unip.data.images.decoding import Pixels
from unip.data.manifests.entries import Listing, glob_files, located
from unip.data.manifests.recipe import SourceConfig
from unip.data.manifests.sources import Entry, printable
from unip.errors import UnipError
from unip.files import advice
from unip.limits import check_pixels, max_pixels
from unip.opening import check_regular
from unip.outputs import remove, write_text, writing
from unip.paths import exists, is_dir, is_file, status
from unip.progress import meter
from unip.runtime.workers import usable_cores

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".webm", ".wmv", ".mj2")
#: FFmpeg's names of what these files may hold. It goes by content, and would follow playlists and scripts (concat,
#: SDP) behind a video's name to other files and to the network.
FORMATS = ("mov", "avi", "matroska", "webm", "mpeg", "mpegts", "mpegvideo", "m4v", "h264", "hevc", "asf")
AHEAD = 4  # decoded frames that wait for each thread which saves them


def list_videos(config: SourceConfig, root: Path, store: Path) -> Listing:
    """List every n-th frame of some videos; a video that cannot be opened is one entry with a reason.

    Args:
        config: The source; its ``video`` is a file, a folder or a pattern.
        root: Where a relative path starts.
        store: Folder that gets ``VIDEO/000012.png`` for the frames that are fetched.

    Raises:
        UnipError: PyAV is missing, or there is no video.
    """
    av = _import_av()
    place = located(config.place, root)
    if is_dir(place):
        base, videos = place, glob_files(os.path.join(glob.escape(place), "**", "*"), VIDEO_SUFFIXES)[1]
    else:
        base, videos = glob_files(place, VIDEO_SUFFIXES) if not is_file(place) else ("", [place])
        base = base or os.path.dirname(place)
    entries = []
    for video in videos:
        name = os.path.relpath(video, base)
        key, label, shared = os.fsencode(name), os.path.dirname(os.fsencode(name)), printable(name)
        try:
            count = _count_frames(av, video)
        except (av.error.FFmpegError, OSError, UnipError) as error:
            entry = Entry(key, str(config.name), config.modality, label, os.fsencode(video), shared)
            entry.reason = f"unreadable: {_why(error)}"
            entries.append(entry)
            continue
        for frame in range(0, count, config.every):
            file = os.fsencode(store / name / f"{frame:06d}.png")
            entries.append(Entry(key + b"#%06d" % frame, str(config.name), config.modality, label, file, shared, frame))
    grey = config.grey or config.modality in ("infrared", "depth")

    def fetch(chosen: Sequence[Entry]) -> None:
        by_video: dict[str, list[Entry]] = {}
        for entry in chosen:
            by_video.setdefault(os.fsdecode(entry.key.rpartition(b"#")[0]), []).append(entry)
        with meter("reading videos", len(by_video), "videos") as progress:
            for name, members in by_video.items():
                _save_frames(av, os.path.join(base, name), members, store / name, grey=grey)
                progress.advance()

    return Listing(config, entries, fetch)


def _import_av() -> Any:
    try:
        import av
    except ImportError:
        raise UnipError("reading videos needs PyAV", "pip install 'unip[video]'") from None
    av.logging.set_level(None)  # a damaged file is reported once, by us
    return av


@contextmanager
def _open(av: Any, path: str) -> Iterator[Any]:
    """Open a regular file of one of the formats; nothing in it leads FFmpeg to another file or address."""
    check_regular(path)
    allowed = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    try:
        container = av.open(os.path.abspath(path), options=allowed)  # absolute: `http:a.mp4` is a file's name, too
    except av.error.ArgumentError:
        raise UnipError(f"not one of the formats {', '.join(FORMATS)}") from None
    with container:
        for stream in container.streams.video:
            check_pixels(stream.height, stream.width)
            stream.codec_context.options = {"max_pixels": str(max_pixels())}  # a frame may have another size
        yield container


def _count_frames(av: Any, path: str) -> int:
    with _open(av, path) as container:
        if not container.streams.video:
            raise UnipError("no video stream")
        return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)


def _save_frames(av: Any, video: str, entries: Sequence[Entry], folder: Path, *, grey: bool) -> None:
    """Write the wanted frames that are not there yet; each file appears whole or not at all."""
    stamp = status(video)
    mark = folder / f".{stamp.st_size}-{stamp.st_mtime_ns}-{'grey' if grey else 'colour'}"
    try:
        other = not exists(mark)
        if other and exists(folder):  # another video lay here
            remove(folder)
        if other:
            write_text(mark, "")
        missing = {entry.frame or 0: entry for entry in entries if other or not exists(_file(entry))}
        if not missing:
            return
        why = "frame could not be decoded"
        try:
            with ThreadPoolExecutor(usable_cores()) as pool:
                waiting: deque[Future[None]] = deque()
                for index, pixels in _decode(av, video, set(missing), grey=grey):
                    waiting.append(pool.submit(_save, pixels, _file(missing.pop(index))))
                    while len(waiting) > AHEAD * usable_cores():
                        waiting.popleft().result()
                for future in waiting:
                    future.result()
        except av.error.FFmpegError as error:
            why = _why(error)
        for entry in missing.values():
            entry.reason = f"unreadable: {why}"
    except OSError as error:
        raise UnipError(
            f"cannot write the frames of {printable(video)} to {printable(str(folder))}: {error.strerror}",
            f"{advice(error)}; files that are already written are kept.",
        ) from error


def _decode(av: Any, video: str, wanted: set[int], *, grey: bool) -> Iterator[tuple[int, Pixels]]:
    last = max(wanted)
    with _open(av, video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                yield index, _pixels(frame, grey=grey)
            if index >= last:
                return


def _pixels(frame: Any, *, grey: bool) -> Pixels:
    """Turn a frame into ``(H, W)`` or ``(H, W, 3)`` uint8; grey frames of more bits stay uint16 with their counts."""
    component = frame.format.components[0]
    if component.bits > 8 and len(frame.format.components) == 1:
        counts: Pixels = frame.to_ndarray(format="gray16le")
        return counts >> np.uint16(16 - component.bits)
    pixels: Pixels = frame.to_ndarray(format="gray" if grey else "rgb24")
    return pixels


def _save(pixels: Pixels, path: Path) -> None:
    with writing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)


def _file(entry: Entry) -> Path:
    return Path(os.fsdecode(entry.path))


def _why(error: Exception) -> str:
    text = error.what if isinstance(error, UnipError) else getattr(error, "strerror", None)
    return f"video: {text or type(error).__name__}"
