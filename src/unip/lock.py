"""One process at a time in a folder, named to those who find the folder in use."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unip.documents import try_json
from unip.errors import UnipError
from unip.paths import status

log = logging.getLogger(__name__)

SETTLE_SECONDS = 15.0  # that worker processes have to end after the one that started them was killed
LOOK_EVERY_SECONDS = 0.2

_held: set[int] = set()  # descriptors of this process


@contextmanager
def locked(lock: Path, folder: Path) -> Iterator[int]:
    """Hold a lock file. The system releases it when the process ends in whatever way, so no stale lock holds anyone up.

    Args:
        lock: The file; it is made, with its folders.
        folder: What it stands for, for messages.

    Yields:
        The descriptor; a program that inherits it holds the lock too. Forked processes do not.

    Raises:
        UnipError: Another process holds it (the message names it), or the file cannot be made.
    """
    try:
        descriptor = _take(lock, folder)
    except OSError as error:
        raise UnipError(f"cannot write {lock}: {error.strerror}", "Choose another output folder.") from error
    _held.add(descriptor)
    _release_in_forks()
    try:
        yield descriptor
    finally:
        os.ftruncate(descriptor, 0)
        _held.discard(descriptor)
        os.close(descriptor)


def _take(lock: Path, folder: Path) -> int:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _wait(descriptor, folder)
            try:
                current = status(lock).st_ino == os.fstat(descriptor).st_ino
            except FileNotFoundError:
                current = False
            if current:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(_this_process()).encode())
                return descriptor
            os.close(descriptor)  # its holder has just deleted it: what was locked is no longer the file of that name
        except BaseException:
            os.close(descriptor)
            raise


def _wait(descriptor: int, folder: Path) -> None:
    """Take the lock; wait a little if its holder was killed, and only what that has started is still ending."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not _try(descriptor, folder):
        name, gone = _holder(descriptor)
        if not gone or time.monotonic() > deadline:
            holder = f"processes that {name} has started and that are still saving their state" if gone else name
            raise UnipError(f"{folder} is in use by {holder}", "Wait until it ends, or choose another --out.")
        time.sleep(LOOK_EVERY_SECONDS)


def _try(descriptor: int, folder: Path) -> bool:
    """Take the lock if nobody has it; where the system has none, go on without."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        log.warning(f"note: {folder} is on a file system without locks; run only one command at a time in it")
    return True


@dataclass(frozen=True)
class _Holder:
    """The process that has a lock, as :func:`_this_process` describes it."""

    pid: int
    host: str
    since: str
    command: str


def _this_process() -> dict[str, str | int]:
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:300]
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T"), "command": command}


def _holder(descriptor: int) -> tuple[str, bool]:
    """Say which process has the lock, and whether it is gone."""
    try:
        about = try_json(os.pread(descriptor, 4096, 0), _Holder)
    except OSError:
        about = None
    if about is None or not 0 < about.pid < 2**31:
        return "another process", False
    name = f"process {about.pid} on {about.host} since {about.since} ({about.command})"
    return name, about.host == socket.gethostname() and not _is_alive(about.pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@functools.cache
def _release_in_forks() -> None:
    """Let forked workers, which may outlive this process for a moment, not hold its locks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
