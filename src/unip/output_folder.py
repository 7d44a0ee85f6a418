"""The class behind output folders: which files in one are ours, and how they are replaced. See :mod:`unip.outputs`."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from unip.documents import try_json
from unip.errors import UnipError
from unip.files import advice
from unip.opening import read_regular, regular
from unip.paths import exists, is_dir, is_file, is_link, lexists, status
from unip.written import (
    HIDDEN,
    Written,
    apply_line,
    as_json,
    is_inside,
    matches,
    read_list,
    size_of,
    stamp_of,
    walk,
    written_state,
)

FILES_NAMED = 5  # in a message
BYTES_A_FILE = 2000  # of the list; a longer one is shortened
TEMPORARY = ".unip-"  # how names in OUT/.unip/tmp begin

State = Literal["absent", "ours", "edited", "foreign"]


class OutputFolder:
    """A folder and the list of the files that were written there; see :func:`output_folder`.

    Attributes:
        path: The folder, absolute.
        overwrite: Whether a listed file may be replaced although it was changed since.
        overwrite_means: What that option does, for messages.
        lock: The descriptor of the lock, for child processes that go on working there; None in a dry run.
        made: The folder and those above it, as far as they were made for this call.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.given = path
        self.path = Path(os.path.abspath(path))
        self.overwrite = overwrite
        self.overwrite_means = "replaces those that were changed"
        self.lock: int | None = None
        self.made: list[Path] = []
        self.hidden = self.path / HIDDEN
        self.list = self.hidden / "files.jsonl"
        self.known = read_list(self.list)  # by name; of several entries, the file is as one of them says
        self._listed = size_of(self.list)  # bytes of the list that are known
        self._fresh: dict[str, tuple[int, int, int]] = {}  # written by this process: size, time, inode
        self._growing: set[str] = set()

    def is_empty(self) -> bool:
        """Say whether there is nothing in the folder that a user could miss."""
        try:
            return all(entry.name == HIDDEN for entry in os.scandir(self.path))
        except FileNotFoundError:
            return True

    def state(self, name: str) -> State:
        """Say whether a file exists, was written by unip, and is unchanged since. Files behind a link never count.

        Raises:
            UnipError: It cannot be read.
        """
        try:
            return self._state(name)
        except OSError as error:
            what = f"cannot read {self.path / name}, to see whether unip wrote it: {error.strerror}"
            raise UnipError(what, "Make it readable, move it away, or choose another output folder.") from error

    def _state(self, name: str) -> State:
        found = self._entry_kind(name)
        if found == "nothing":
            return "absent"
        path = self.path / name
        for _ in range(2):
            if found == "file" and name in self.known:
                info = status(path, links=False)
                if self._fresh.get(name) == stamp_of(info):
                    return "ours"
                if any(matches(path, info, entry) for entry in self.known[name]):
                    return "ours"
            if not self._read_again():  # another process may have written it
                break
        return "edited" if found == "file" and name in self.known else "foreign"

    def _entry_kind(self, name: str) -> Literal["nothing", "file", "other"]:
        """Say what lies at a name: a file or a link, or something that unip does not write."""
        for parent in list(Path(name).parents)[:-1]:
            above = self.path / parent
            if is_link(above) or (lexists(above) and not is_dir(above)):
                return "other"
        path = self.path / name
        if not lexists(path):
            return "nothing"
        return "file" if is_link(path) or is_file(path) else "other"

    def _read_again(self) -> bool:
        """Read the list if it has grown by other hands; say whether it had."""
        size = size_of(self.list)
        if size == self._listed:
            return False
        self.known, self._listed = read_list(self.list), size
        return True

    def wrote(self, name: str) -> bool:
        """Say whether a file is there that we wrote, changed since or not."""
        return name in self.known and self._entry_kind(name) == "file"

    def check(self, *files: str, folders: tuple[str, ...] = ()) -> None:
        """Refuse to continue if a file in the way was changed or not written by unip; called before any work.

        Args:
            files: Names that will be written.
            folders: Names of folders that will be rewritten as a whole. With ``overwrite``, other files in them may
                stay.

        Raises:
            UnipError: It names them.
        """
        states = [(file, self.state(file)) for file in files]
        inside = [(file, self.state(file)) for file in self.files(*folders)]
        wrong = [f"{file} (not written by unip)" for file, state in states if state == "foreign"]
        edited: list[str] = []
        if not self.overwrite:
            wrong += [f"{file} (not written by unip)" for file, state in inside if state == "foreign"]
            edited = [f"{file} (changed since unip wrote it)" for file, state in states + inside if state == "edited"]
        lines = list(dict.fromkeys(wrong + edited))
        if not lines:
            return
        more = f" and {len(lines) - FILES_NAMED} more" if len(lines) > FILES_NAMED else ""
        change = f" --overwrite {self.overwrite_means}." if edited else ""
        raise UnipError(
            f"{self.given} holds files that are in the way: {', '.join(lines[:FILES_NAMED])}{more}",
            f"Move them away, or choose another output folder.{change}",
        )

    def remove(self, *names: str) -> list[str]:
        """Delete what we wrote of some files and folders; return what stays: changed files and those of others.

        Raises:
            UnipError: Something cannot be deleted.
        """
        try:
            return self._remove(names)
        except OSError as error:
            what = f"cannot delete {error.filename or self.given}: {error.strerror or error}"
            raise UnipError(what, "Choose another output folder.") from error

    def _remove(self, names: tuple[str, ...]) -> list[str]:
        kept: list[str] = []
        for name in names:
            states = {file: self.state(file) for file in self.files(name)}
            gone = [file for file, state in states.items() if state == "ours" or (state == "edited" and self.overwrite)]
            path = self.path / name
            if len(gone) == len(states) and is_dir(path) and not any(path.rglob(HIDDEN)):
                self._remove_folder(path)  # at once, so that a kill leaves no half of it
            else:
                for file in gone:
                    (self.path / file).unlink()
                _prune(path)
            for file in [*gone, *(file for file, state in states.items() if state == "absent" and file in self.known)]:
                self.note(file, None)
            kept += [file for file, state in states.items() if file not in gone and state != "absent"]
        return kept

    def recover(self) -> None:
        """Delete what a call that was killed leaves in the hidden folder; a folder that it was replacing comes back.

        Raises:
            UnipError: That folder cannot be moved back.
        """
        place = self.hidden / "tmp"
        for temporary in place.glob(f"{TEMPORARY}*"):
            name = ""
            with suppress(OSError):
                name = try_json(read_regular(temporary / "replaced.json"), str) or ""
            try:
                if is_inside(name) and is_dir(temporary / "replaced") and self.state(name) == "absent":
                    os.replace(temporary / "replaced", self.path / name)
            except OSError as error:
                what = f"cannot move {temporary / 'replaced'} back to {self.path / name}: {error.strerror}"
                raise UnipError(what, "Move it there, then run again.") from error
            shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            place.rmdir()

    def _remove_folder(self, path: Path) -> None:
        place = self.hidden / "tmp"
        place.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=place))
        os.replace(path, temporary / path.name)
        shutil.rmtree(temporary, ignore_errors=True)

    def set_aside(self, name: str) -> Path:
        """Rename a damaged file or folder that unip wrote to ``damaged-NAME``, so that its name is free.

        Raises:
            UnipError: It cannot be renamed.
        """
        path = self.path / name
        names = itertools.chain([f"damaged-{path.name}"], (f"damaged-{path.name}-{n}" for n in itertools.count(2)))
        aside = next(path.with_name(new) for new in names if not lexists(path.with_name(new)))
        files = [file for file in self.files(name) if self.wrote(file)]
        try:
            for file in files:  # before the files are there, so that a kill leaves none unlisted
                new = (aside / (self.path / file).relative_to(path)).relative_to(self.path).as_posix()
                self.note(new, written_state(self.path / file), only=True)
            os.rename(path, aside)
        except OSError as error:
            what = f"cannot rename {path}, which is damaged: {error.strerror or error}"
            raise UnipError(what, f"{advice(error)}.") from error
        for file in files:
            self.note(file, None)
        return aside

    def clear(self, *spared: str) -> list[str]:
        """Delete all that we wrote, less some names at the top; return what else stays, being changed or not ours."""
        self.remove(*sorted({name.split("/")[0] for name in self.known} - set(spared)))
        return [name for name in self.files("") if name not in spared]

    def grow(self, name: str) -> None:
        """List a file that this process has made or may change, and appends to; its end is listed by :meth:`close`."""
        path = self.path / name
        self.note(name, replace(written_state(path) if exists(path) else Written(), growing=True), only=True)
        self._growing.add(name)

    def note(self, name: str, written: Written | None, *, only: bool = False) -> None:
        """Add a line to the list.

        Args:
            name: Of the file.
            written: What it is now, or will be in a moment; None: it is deleted.
            only: It can be nothing else; otherwise it may still be what the line before says.

        Raises:
            UnipError: The list cannot be written.
        """
        record = {"deleted": True} if written is None else as_json(written) | ({"only": True} if only else {})
        line = f"\n{json.dumps({'file': name, **record})}\n".encode()
        try:  # one call and a line of its own, whatever other processes write and however a kill has cut the last one
            self.hidden.mkdir(parents=True, exist_ok=True)
            descriptor = regular(self.list, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnipError(f"cannot write {self.list}: {error.strerror}", f"{advice(error)}.") from error
        self._listed += len(line)
        apply_line(self.known, name, record)

    def place(self, target: Path, name: str) -> None:
        """Move a new file or folder to its name. The list is ahead of the files, so that a kill leaves none unlisted.

        Args:
            target: What was written, alone in a folder of its own on the same disk.
            name: Where it belongs; :meth:`check` has found nothing in the way.

        Raises:
            OSError: It cannot be moved; what was there before is there again.
        """
        path = self.path / name
        fresh = list(walk(target, name))
        self.check(*fresh)
        for file in fresh:
            self._settle(file)
        before = {file: self.known.get(file, []) for file in fresh}
        old = self.files(name) if is_dir(path) else []
        for file in fresh:
            self.note(file, written_state(target / Path(file).relative_to(name)))
        try:
            self._move(target, name)
        except BaseException:  # Ctrl-C too
            if lexists(target):  # it was not moved
                for file, entries in before.items():
                    for number, written in enumerate(entries or [None]):
                        self.note(file, written, only=number == 0)
            raise
        for file in set(old) - set(fresh):
            if file in self.known:
                self.note(file, None)
        for file in fresh:
            self._fresh[file] = stamp_of(status(self.path / file, links=False))

    def _move(self, target: Path, name: str) -> None:
        """Move a file or folder to its name, or leave all as it was."""
        path, away = self.path / name, target.parent / "replaced"
        try:
            if is_dir(target) and is_dir(path):
                self._carry(path, target)
                (target.parent / "replaced.json").write_text(json.dumps(name), encoding="utf-8")  # for recover()
                os.replace(path, away)  # a folder cannot be renamed onto a full one
            os.replace(target, path)
        except BaseException:
            if lexists(target) and exists(away):
                os.replace(away, path)
            raise

    def renew(self) -> None:
        """Drop from the list what a user has deleted, since a new file there is the user's; shorten a long list."""
        for name in [name for name in self.known if not lexists(self.path / name)]:
            self.note(name, None)
        if self._listed > BYTES_A_FILE * (len(self.known) + 10):
            lines = (json.dumps({"file": n, **as_json(w)}) for n, entries in self.known.items() for w in entries)
            (self.hidden / "tmp").mkdir(exist_ok=True)
            shorter = self.hidden / "tmp" / f"{TEMPORARY}{self.list.name}"
            shorter.write_text("\n".join(lines) + "\n", encoding="utf-8")
            os.replace(shorter, self.list)
            self._listed = size_of(self.list)

    def _settle(self, name: str) -> None:
        """After a kill, list which of two entries a file is, so that another kill does not make it three."""
        entries = self.known.get(name, [])
        path = self.path / name
        if len(entries) > 1 and name not in self._fresh and lexists(path):
            for entry in entries:
                if matches(path, status(path, links=False), entry):
                    self.note(name, entry, only=True)
                    return

    def close(self) -> None:
        """List what growing files have become."""
        self._read_again()  # child processes may have written too
        with suppress(OSError, UnipError):  # a full disk: they stay listed as growing
            for name in self._growing:
                if is_file(self.path / name):
                    self.note(name, written_state(self.path / name), only=True)
        self._growing.clear()

    def files(self, *names: str) -> list[str]:
        """Return files, and those in folders, by their names here; folders that other calls write to are left out."""
        return [file for name in names for file in self._files(name)]

    def _files(self, name: str) -> Iterator[str]:
        top = self.path / name
        if is_link(top) or not is_dir(top):
            yield name
            return

        def nested_in(folder: Path) -> bool:
            above = (folder, *folder.parents)
            return any(lexists(each / HIDDEN) for each in above[: above.index(self.path)])

        for folder, folders, files in os.walk(top):
            here = Path(folder)
            nested = nested_in(here)  # a folder of another call: only what this one has written there too
            links = [each for each in folders if is_link(here / each)]
            folders[:] = sorted(each for each in folders if each not in links and each != HIDDEN)
            for each in sorted([*files, *links]):
                name = (here / each).relative_to(self.path).as_posix()
                if not nested or name in self.known:
                    yield name

    def _carry(self, path: Path, target: Path) -> None:
        """Copy the files of others from a folder to the one that replaces it; :meth:`check` let no names meet."""
        for file in walk(path, ""):
            copy = target / file
            if (path / file).relative_to(self.path).as_posix() not in self.known:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path / file, copy, follow_symlinks=False)


def _prune(path: Path) -> None:
    """Delete a folder, and those in it, if they are empty."""
    if is_dir(path) and not is_link(path):
        for folder, _, _ in os.walk(path, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
