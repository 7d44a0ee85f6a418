"""Output folders: files appear whole or not at all, and nothing is replaced that this program did not write.

A folder that a verb writes to holds a hidden one:

```
OUT/.unip/files.jsonl   a line for each file written: its name in OUT, size and SHA-256
OUT/.unip/lock          which process is at work here
OUT/.unip/tmp/          files being written; the next call deletes what a kill leaves here
```

A verb opens its folder with :func:`output_folder`. Then :func:`writing`, and all that is built on it, replaces a file
only if the list has it and it is unchanged since, or, with ``--overwrite``, if the list has it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from unip.errors import UnipError
from unip.files import advice, refuse_unwritable
from unip.lock import locked
from unip.output_folder import FILES_NAMED as FILES_NAMED
from unip.output_folder import TEMPORARY
from unip.output_folder import OutputFolder as OutputFolder
from unip.paths import exists, is_dir, lexists, status
from unip.written import (
    HIDDEN,
)

_open: list[OutputFolder] = []  # of this process
_shared: ContextVar[tuple[OutputFolder, Path] | None] = ContextVar("_shared", default=None)


@contextmanager
def output_folder(
    path: Path, *, overwrite: bool = False, dry_run: bool = False, exclusive: bool = True
) -> Iterator[OutputFolder]:
    """Open the folder that a verb writes to: see that it can be written, and that no other process is at work there.

    Args:
        path: The folder; it is made, and deleted again if nothing was written.
        overwrite: Whether listed files may be replaced although they were changed since.
        dry_run: Make, lock and write nothing; the folder can only be asked, then.
        exclusive: Hold the lock; without, files are written beside those of the process that holds it.

    Raises:
        UnipError: It cannot be written, or another process holds it.
    """
    _refuse_strange(OutputFolder(path))
    refuse_unwritable(path)
    if dry_run:
        yield OutputFolder(path, overwrite=overwrite)
        return
    there = Path(os.path.abspath(path))
    made = [each for each in (there, *there.parents) if not exists(each)]
    with locked(there / HIDDEN / "lock", path) if exclusive else nullcontext() as lock:
        folder = OutputFolder(path, overwrite=overwrite)
        folder.lock, folder.made = lock, made
        if exclusive:
            folder.recover()
        _open.append(folder)
        try:
            if exclusive:
                folder.renew()
            yield folder
        finally:
            _open.remove(folder)
            if exclusive:
                folder.close()
                _tidy(folder)


def _refuse_strange(folder: OutputFolder) -> None:
    """See that the hidden folder is a real one and holds nothing that leads elsewhere or is waited for.

    Raises:
        UnipError: It is a link, or holds links, pipes or the like; or its list or lock is no file.
    """
    files, hidden = (folder.list.name, "lock"), folder.hidden
    try:
        wrong = [] if not lexists(hidden) or stat.S_ISDIR(status(hidden, links=False).st_mode) else [HIDDEN]
        for entry in [] if wrong or not exists(hidden) else os.scandir(hidden):
            fits = entry.is_file(follow_symlinks=False) or (
                entry.is_dir(follow_symlinks=False) and entry.name not in files
            )
            wrong += [] if fits and (entry.name != "tmp" or entry.is_dir()) else [f"{HIDDEN}/{entry.name}"]
    except OSError as error:
        raise UnipError(f"cannot read {hidden}: {error.strerror}", "Choose another output folder.") from error
    if wrong:
        raise UnipError(
            f"{folder.given} holds {', '.join(sorted(wrong))}, which unip did not write: it keeps its own files there",
            "Move it away, or choose another output folder.",
        )


def remove(path: Path) -> None:
    """Delete a file or folder of an open output folder, as far as we wrote it; see :meth:`OutputFolder.remove`."""
    folder, name = _open_folder(path)
    folder.remove(name)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder of an open output folder; see :meth:`OutputFolder.set_aside`."""
    folder, name = _open_folder(path)
    return folder.set_aside(name)


def write_for_parent(path: Path) -> None:
    """Let this worker process write in the output folder that its parent holds."""
    if _folder_of(path / "file") is None:  # a forked one knows it already
        _open.append(OutputFolder(path))


@contextmanager
def written_together(path: Path) -> Iterator[None]:
    """Let files that are written one after the other, into an open output folder, use one temporary folder.

    Making and deleting one for each may take longer than the files.
    """
    folder = _folder_of(path / "file")
    try:
        temporary = None if folder is None else _temporary_folder(folder.hidden / "tmp")
    except OSError:  # it is told of the file that cannot be written
        temporary = None
    if folder is None or temporary is None:
        yield
        return
    before = _shared.set((folder, temporary))
    try:
        yield
    finally:
        _shared.reset(before)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path; move it to ``path`` if the body succeeds, else delete it.

    Args:
        path: The final file or folder. Parents are made. Within an open output folder, what is there is replaced if
            unip wrote it; outside of one, the path must be free.

    Yields:
        A path that does not exist yet; write a file or make a folder there.

    Raises:
        UnipError: The disk is full, read-only or the path cannot be written; or what is there must not be replaced.
    """
    folder = _folder_of(path)
    name = "" if folder is None else _name_in(folder, path)
    private = name.startswith(f"{HIDDEN}/")
    if folder is None and lexists(path):
        raise UnipError(f"{path} exists", "Move it away, or choose another place.")
    temporary: Path | None = None
    shared = _shared.get()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shared is not None and shared[0] is folder:
            temporary = shared[1]
        else:
            shared = None
            temporary = _temporary_folder(path.parent if folder is None else folder.hidden / "tmp")
        target = temporary / path.name
        if folder is not None and not private:
            folder.check(*([name] if not is_dir(path) else []), folders=(name,))
        yield target
        if folder is None or private:
            os.replace(target, path)
        else:
            folder.place(target, name)
    except OSError as error:
        # of a copy, the first name is the file that is read, whichever of both was the problem
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        if temporary is not None and named and not any(str(temporary) in name for name in named):
            if str(path) not in named:
                raise  # some other file that the body read
        raise UnipError(
            f"cannot write {path}: {error.strerror or error}", f"{advice(error)}; what was there before is untouched."
        ) from error
    finally:
        if temporary is not None and shared is None:
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary is not None:
            _delete(temporary / path.name)


def _temporary_folder(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=place))


def _delete(path: Path) -> None:
    """Delete what may be left of a file or folder."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _folder_of(path: Path) -> OutputFolder | None:
    """Return the innermost open output folder that a path is in."""
    where = Path(os.path.abspath(path))
    inside = [folder for folder in _open if where.is_relative_to(folder.path) and where != folder.path]
    return max(inside, key=lambda folder: len(folder.path.parts), default=None)


def _open_folder(path: Path) -> tuple[OutputFolder, str]:
    folder = _folder_of(path)
    assert folder is not None, f"{path} is in no open output folder"
    return folder, _name_in(folder, path)


def _name_in(folder: OutputFolder, path: Path) -> str:
    return Path(os.path.abspath(path)).relative_to(folder.path).as_posix()


def leave_folders() -> None:
    """Leave all folders that are open, for a process that ends at once."""
    for folder in reversed(_open):
        if folder.lock is not None:
            folder.recover()
            folder.close()
            _tidy(folder)


def _tidy(folder: OutputFolder) -> None:
    """Delete the hidden folder if it tells nothing, and the folders that were made for nothing."""
    with suppress(OSError):
        (folder.hidden / "tmp").rmdir()
    with suppress(OSError):
        if folder.known or {entry.name for entry in os.scandir(folder.hidden)} - {"lock", folder.list.name}:
            return
        folder.list.unlink(missing_ok=True)
        (folder.hidden / "lock").unlink()
        for empty in (folder.hidden, *folder.made):
            empty.rmdir()
