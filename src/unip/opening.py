"""Opening files that others give: only regular ones, never a pipe, a device or a socket behind a file's name.

A pipe that nobody writes to would be waited for without end, and a link to ``/dev/zero`` would be read until the memory
is full. The file is opened without waiting and looked at through its descriptor, so that nothing can take its place in
between.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from unip.paths import nameable

StrPath = str | os.PathLike[str]
AnyPath = StrPath | bytes

_MODE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # Windows has neither


class NotRegularError(OSError):
    """What lies at a path is a pipe, a device or a socket."""

    def __init__(self, path: AnyPath) -> None:
        super().__init__(errno.EINVAL, "not a regular file", os.fsdecode(path))


def regular(path: AnyPath, flags: int) -> int:
    """Open a regular file, as ``opener`` of the built-in ``open``.

    Args:
        path: The file; links are followed.
        flags: Of ``os.open``.

    Returns:
        The descriptor.

    Raises:
        NotRegularError: It is a pipe, a device or a socket.
        OSError: It cannot be opened, or is a folder.
    """
    return _open_checked(path, flags)


def _open_checked(path: AnyPath, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _MODE, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise NotRegularError(path) from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(path))
        if not stat.S_ISREG(mode):
            raise NotRegularError(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: AnyPath, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading bytes.

    Args:
        path: The file.
        buffering: As of ``open``.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    return open(nameable(path), "rb", buffering=buffering, opener=regular)


def open_header(path: AnyPath) -> BinaryIO:
    """Open a regular file to look at its first bytes: a twentieth of a millisecond, where reading an image takes many.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    return open(nameable(path), "rb", buffering=512, opener=_open_checked)


def read_regular(path: AnyPath) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        return file.read()


def read_regular_text(path: AnyPath, encoding: str = "utf-8", newline: str | None = None) -> str:
    """Return the text of a regular file.

    Args:
        path: The file.
        encoding: Of its bytes.
        newline: As of ``open``; ``""`` keeps the ends of lines, as :mod:`csv` wants them.

    Raises:
        OSError: It cannot be read, or is no regular file.
        UnicodeDecodeError: Its bytes are not in this encoding.
    """
    with open(nameable(path), encoding=encoding, newline=newline, opener=regular) as file:
        return file.read()


def check_regular(path: AnyPath) -> None:
    """See that a path can be opened and is a regular file, for libraries that open it by themselves.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    open_regular(path).close()
