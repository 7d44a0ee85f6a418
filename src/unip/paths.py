"""Looking at paths: the only module that asks the system what lies at one.

Python's own functions differ by version and name: some raise on a name that is too long or holds a NUL, some say that a
file behind a closed folder does not exist. Here nothing is there only if nothing can be there, and a path that cannot
be looked at is refused.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unip.errors import UnipError

AnyPath = str | bytes | os.PathLike[str]

#: What the system says where nothing is, or can be: a name that is too long, a link that leads to itself.
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
#: Errors of paths and their disks that are never a mistake of the program, wherever they come.
_OF_PATHS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, getattr(errno, "ESTALE", errno.EIO))


def status(path: AnyPath, *, links: bool = True) -> os.stat_result:
    """Return the status of a file or folder, for callers with words of their own for errors.

    Args:
        path: The file.
        links: Whether to look behind a link, or at the link itself.

    Raises:
        OSError: There is none, or it cannot be looked at.
    """
    return os.stat(nameable(path), follow_symlinks=links)


def is_nameable(path: AnyPath) -> bool:
    """Say whether a path can be that of a file: it holds no NUL, and no text that is in no name."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def nameable(path: AnyPath) -> AnyPath:
    """Return a path that can be that of a file; for others Python raises ValueError, which no reader expects.

    Raises:
        FileNotFoundError: It cannot.
    """
    if not is_nameable(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), _text(path))
    return path


def look(path: AnyPath, *, links: bool = True) -> os.stat_result | None:
    """Return the status of a file or folder, None if there is none.

    Args:
        path: The file.
        links: Whether to look behind a link, or at the link itself.

    Raises:
        UnipError: It cannot be looked at: a folder above is closed to this user, or its disk is damaged.
    """
    try:
        return status(path, links=links)
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise cannot_read(path, error) from error


def cannot_read(path: AnyPath, error: OSError) -> UnipError:
    """Return what a user reads of a path that cannot be looked at."""
    return UnipError(f"cannot read {_text(path)}: {error.strerror or error}", _advice(error))


@contextmanager
def refusing_paths() -> Iterator[None]:
    """Turn errors of paths and their disks, wherever they come from, into problems that the user can fix.

    Raises:
        UnipError: The body met such an error.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.filename is None and not _has_working_folder():
            what = "the folder that this command was started in has been deleted"
            raise UnipError(what, "Change to a folder that is there: relative paths begin at it.") from error
        if error.errno not in _OF_PATHS:
            raise
        what = f"cannot read or write {_text(error.filename or 'a file')}: {error.strerror}"
        raise UnipError(what, _advice(error)) from error


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Change the rights of the file and of its folders."
    return "Check the path, and the disk that it is on."


def exists(path: AnyPath) -> bool:
    """Say whether there is something, behind links. Raises: see :func:`look`."""
    return look(path) is not None


def lexists(path: AnyPath) -> bool:
    """Say whether there is something, be it a link to nothing. Raises: see :func:`look`."""
    return look(path, links=False) is not None


def is_file(path: AnyPath) -> bool:
    """Say whether there is a regular file, behind links. Raises: see :func:`look`."""
    found = look(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_dir(path: AnyPath) -> bool:
    """Say whether there is a folder, behind links. Raises: see :func:`look`."""
    found = look(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_link(path: AnyPath) -> bool:
    """Say whether there is a symbolic link. Raises: see :func:`look`."""
    found = look(path, links=False)
    return found is not None and stat.S_ISLNK(found.st_mode)


def is_writable(path: AnyPath) -> bool:
    """Say whether this user may write to a file or folder."""
    return is_nameable(path) and os.access(path, os.W_OK)


def list_folder(folder: AnyPath) -> list[Path]:
    """Return what a folder holds, sorted.

    Raises:
        UnipError: It cannot be read.
    """
    try:
        return sorted(map(Path(_text(folder)).joinpath, os.listdir(_text(nameable(folder)))))
    except OSError as error:
        raise cannot_read(folder, error) from error


def expand(path: AnyPath) -> Path:
    """Return a path with the home folder in place of ``~``; without such a user, the path as it is."""
    try:
        return Path(os.path.expanduser(_text(path)))
    except ValueError:  # a NUL
        return Path(_text(path))


def resolve(path: AnyPath) -> Path:
    """Return the absolute path without links, as far as there is one; of a link to itself, the link."""
    try:
        return Path(os.path.realpath(_text(nameable(path))))
    except FileNotFoundError:
        return Path(os.path.abspath(_text(path)))


def _text(path: AnyPath) -> str:
    return path if isinstance(path, str) else os.fsdecode(path)
