"""What is said of labelled data once: of frames without labels how many, which, and what becomes of them; and more."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

EXAMPLES = 3  # names in a message
_LOCK = threading.Lock()


def say_left_out(title: str, frames: Sequence[Path], total: int, missing: str, root: Path, hint: str = "") -> None:
    """Say which frames are not used because nobody labelled them.

    Args:
        title: What they belong to.
        frames: The frames; if there are none, nothing is said.
        total: How many frames there are, these among them.
        missing: What they lack, such as ``"no mask"``.
        root: Names are shown from here on.
        hint: What to do if they are labelled after all.
    """
    if frames:
        say_once(f"{title}: {_counted(frames, total)} {missing} and are left out: {_shown(frames, root)}{hint}")


def say_background(title: str, frames: Sequence[Path], total: int, missing: str, root: Path, hint: str) -> None:
    """Say which frames count as background everywhere, though they may just not be labelled; see above."""
    if frames:
        counted = f"{_counted(frames, total)} {missing} and count as background everywhere"
        say_once(f"note: {title}: {counted}: {_shown(frames, root)}{hint}", logging.WARNING)


def say_once(message: str, level: int = logging.INFO) -> None:
    """Log a message unless this was done before: a verb may open data several times, and read it in threads."""
    with _LOCK:
        _log(message, level)


@functools.lru_cache(maxsize=1024)
def _log(message: str, level: int) -> None:
    log.log(level, message)


def inside(path: Path, root: Path) -> str:
    """Return a path as seen from a folder, if it is in it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _counted(frames: Sequence[Path], total: int) -> str:
    return f"{len(frames)} of {total} images have"


def _shown(frames: Sequence[Path], root: Path) -> str:
    more = f" and {len(frames) - EXAMPLES} more" if len(frames) > EXAMPLES else ""
    return ", ".join(inside(path, root) for path in frames[:EXAMPLES]) + more
