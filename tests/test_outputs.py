"""Output folders: whole files, and nothing is replaced that was not written there, or was changed since."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unip.outputs
from unip.errors import UnipError
from unip.files import advice, read_json
from unip.outputs import OutputFolder, output_folder, remove, write_json, write_text, writing, written_together
from unip.written import HIDDEN


@pytest.fixture
def out(tmp_path):
    """An output folder with `a.txt` and `folder/b.txt`, closed."""
    with output_folder(tmp_path / "out"):
        write_text(tmp_path / "out/a.txt", "a")
        with writing(tmp_path / "out/folder") as temporary:
            temporary.mkdir()
            (temporary / "b.txt").write_text("b")
    return tmp_path / "out"


def visible(folder):
    """Return the content of each file outside of the hidden folder, and the targets of links."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if HIDDEN not in path.parts and (path.is_symlink() or path.is_file())
    }


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "value.json"
    with output_folder(tmp_path):
        write_json(path, {"a": 1})
        with pytest.raises(ZeroDivisionError), writing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError
        assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir() if p.name != HIDDEN] == ["value.json"]
    assert not (tmp_path / HIDDEN / "tmp").exists()


def test_files_written_together_share_a_temporary_folder(tmp_path):
    """Of equal names, replaced ones, folders, failures in between; others go on on their own."""
    places = []

    def write(path, text):
        with writing(path) as temporary:
            places.append(temporary.parent)
            temporary.write_text(text)

    with output_folder(tmp_path / "out") as folder, output_folder(tmp_path / "other"):
        with written_together(tmp_path / "out"):
            for name in ("a/1", "b/1", "a/1"):
                write(tmp_path / "out" / name, f"{name} {len(places)}")
            with pytest.raises(ZeroDivisionError), writing(tmp_path / "out/a/1") as temporary:
                temporary.write_text("half")
                raise ZeroDivisionError
            with writing(tmp_path / "out/folder") as temporary:
                temporary.mkdir()
                (temporary / "2").write_text("2")
            with pytest.raises(ZeroDivisionError), writing(tmp_path / "out/folder") as temporary:
                temporary.mkdir()
                (temporary / "2").write_text("half")
                raise ZeroDivisionError
            write(tmp_path / "out/folder/3", "3")
            assert len(set(places)) == 1 and not list(places[0].iterdir())
            write(tmp_path / "other/1", "elsewhere")
            thread = threading.Thread(target=write, args=(tmp_path / "out/c", "c"))
            thread.start()
            thread.join()
        write(tmp_path / "out/d", "d")
        assert len(set(places)) == 4 and not any(place.exists() for place in places)
        assert {folder.state(name) for name in ("a/1", "b/1", "folder/2", "folder/3", "c", "d")} == {"ours"}
    content = {"a/1": "a/1 2", "b/1": "b/1 1", "c": "c", "d": "d", "folder/2": "2", "folder/3": "3"}
    assert visible(tmp_path / "out") == content and not (tmp_path / "out" / HIDDEN / "tmp").exists()


def test_outside_of_an_output_folder_nothing_is_replaced(tmp_path):
    write_text(tmp_path / "a.txt", "a")
    with pytest.raises(UnipError, match=r"a\.txt exists"):
        write_text(tmp_path / "a.txt", "b")
    assert visible(tmp_path) == {"a.txt": "a"}


def test_a_full_disk_is_one_message(tmp_path):
    path = tmp_path / "value.txt"
    message = r"cannot write .*value.txt: No space left on device"
    with output_folder(tmp_path):
        write_text(path, "old")
        with pytest.raises(UnipError, match=message) as caught, writing(path):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert "untouched" in caught.value.fix
    assert path.read_text() == "old"


def test_a_copy_that_cannot_be_written(tmp_path):
    """Such an error names the file that is read first, as those of ``shutil.copyfile`` and ``os.symlink`` do."""
    with pytest.raises(UnipError, match=r"cannot write .*value: No space left") as caught:
        with writing(tmp_path / "value") as new:
            names = str(tmp_path / "source"), None, str(new / "copy")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)
    assert "Free some space" in caught.value.fix
    with pytest.raises(FileNotFoundError), writing(tmp_path / "value"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "source"))


@pytest.mark.parametrize(("number", "frees"), [(errno.ENOSPC, True), (errno.EROFS, False), (errno.EACCES, False)])
def test_space_is_no_cure_for_a_read_only_disk(tmp_path, number, frees):
    error = OSError(number, os.strerror(number))
    assert ("Free some space" in advice(error)) is frees and "another output folder" in advice(error)
    with pytest.raises(UnipError) as caught, writing(tmp_path / "value.txt"):
        raise error
    assert ("Free some space" in caught.value.fix) is frees


def test_a_folder_replaces_a_folder_whole(out):
    with output_folder(out), writing(out / "folder") as temporary:
        temporary.mkdir()
        (temporary / "c.txt").write_text("c")
    assert visible(out) == {"a.txt": "a", "folder/c.txt": "c"}
    assert OutputFolder(out).known.keys() == {"a.txt", "folder/c.txt"}


def test_a_folder_that_cannot_be_replaced_stays(out, monkeypatch):
    """The old folder was moved away already when the new one cannot take its place."""
    replace, calls = os.replace, []

    def fails_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    with output_folder(out):
        monkeypatch.setattr(os, "replace", fails_second)
        with pytest.raises(UnipError, match="Input/output error"), writing(out / "folder") as temporary:
            temporary.mkdir()
            (temporary / "b.txt").write_text("new")
        monkeypatch.undo()
    assert len(calls) == 3
    assert visible(out) == {"a.txt": "a", "folder/b.txt": "b"}
    assert OutputFolder(out).state("folder/b.txt") == "ours"


def test_a_problem_with_another_file_is_not_blamed_on_this_one(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "new.txt"):
        (tmp_path / "other.txt").read_text()


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnipError, match="cannot write"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_what_we_wrote_and_nobody_changed_is_replaced(out):
    with output_folder(out) as outputs:
        outputs.check("a.txt", folders=("folder",))
        write_text(out / "a.txt", "new")
    assert visible(out)["a.txt"] == "new"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("how", ["foreign", "edited", "link", "linked folder", "folder", "list lost", "list cut"])
def test_what_is_not_ours_or_was_changed_is_not_replaced(out, tmp_path, how, overwrite):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.txt").write_text("mine")
    name = "a.txt"
    if how == "foreign":
        name = "c.txt"
        (out / name).write_text("mine")
    elif how == "edited":
        (out / name).write_text("A")
    elif how == "link":
        (out / name).unlink()
        (out / name).symlink_to(elsewhere / "b.txt")
    elif how == "linked folder":
        name = "folder/b.txt"
        shutil.rmtree(out / "folder")
        (out / "folder").symlink_to(elsewhere)
    elif how == "folder":
        (out / name).unlink()
        (out / name).mkdir()
        (out / name / "mine.txt").write_text("mine")
    elif how == "list lost":
        shutil.rmtree(out / HIDDEN)
    else:
        lines = (out / HIDDEN / "files.jsonl").read_text().splitlines()
        (out / HIDDEN / "files.jsonl").write_text("\n".join(line[:40] for line in lines))
    before = visible(out)
    replaced = overwrite and how in ("edited", "link")  # listed files, whatever they have become
    with output_folder(out, overwrite=overwrite) as outputs:
        if replaced:
            outputs.check(name)
            write_text(out / name, "new")
        else:
            with pytest.raises(UnipError, match=rf"are in the way: {name}") as caught:
                outputs.check(name)
            assert ("--overwrite" in caught.value.fix) == (how in ("edited", "link"))
            with pytest.raises(UnipError):
                write_text(out / name, "new")
            outputs.clear()  # deletes what is ours, and no more
            assert visible(out).items() <= before.items()
            assert (out / name).exists()
    assert visible(elsewhere) == {"b.txt": "mine"}
    if replaced:
        assert visible(out) == {**before, name: "new"}


def test_many_files_in_the_way_are_counted(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(UnipError, match=r"4\.txt \(not written by unip\) and 4 more"):
        OutputFolder(tmp_path).check(*(f"{number}.txt" for number in range(9)))


def test_what_is_not_ours_in_a_folder_stays_when_the_folder_is_replaced(out):
    (out / "folder/notes.txt").write_text("mine")
    (out / "folder/inner").mkdir()
    with output_folder(out / "folder/inner"):
        write_text(out / "folder/inner/d.txt", "d")

    def replace(overwrite, name="b.txt"):
        with output_folder(out, overwrite=overwrite), writing(out / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).write_text("new")

    with pytest.raises(UnipError, match=r"folder/notes\.txt \(not written by unip\)"):
        replace(False)
    replace(True)
    kept = {"folder/notes.txt": "mine", "folder/inner/d.txt": "d"}
    assert visible(out) == {"a.txt": "a", "folder/b.txt": "new", **kept}
    with pytest.raises(UnipError, match=r"folder/notes\.txt \(not written by unip\)"):
        replace(True, "notes.txt")
    assert visible(out) == {"a.txt": "a", "folder/b.txt": "new", **kept}
    assert OutputFolder(out / "folder/inner").state("d.txt") == "ours"


def test_only_listed_files_are_deleted(out):
    (out / "mine.txt").write_text("mine")
    (out / "folder/b.txt").write_text("edited")
    with output_folder(out) as outputs:
        assert outputs.remove("a.txt", "none.txt", "mine.txt", "folder") == ["mine.txt", "folder/b.txt"]
    assert visible(out) == {"mine.txt": "mine", "folder/b.txt": "edited"}
    with output_folder(out, overwrite=True) as outputs:
        assert outputs.clear() == ["mine.txt"]
    assert visible(out) == {"mine.txt": "mine"} and not (out / "folder").exists()
    assert not (out / HIDDEN).exists()  # it would say nothing


def test_a_file_in_the_place_of_one_that_was_deleted_is_not_ours(out):
    (out / "a.txt").unlink()
    with output_folder(out):
        pass
    (out / "a.txt").write_text("mine")
    with output_folder(out, overwrite=True), pytest.raises(UnipError, match="not written by unip"):
        write_text(out / "a.txt", "new")


def test_a_damaged_file_is_set_aside(out):
    with output_folder(out) as outputs:
        assert outputs.set_aside("folder").name == "damaged-folder"
        assert outputs.state("folder/b.txt") == "absent"
        write_text(out / "folder/b.txt", "again")
        assert outputs.set_aside("folder").name == "damaged-folder-2"
    assert visible(out) == {"a.txt": "a", "damaged-folder/b.txt": "b", "damaged-folder-2/b.txt": "again"}


def test_a_list_cannot_name_files_elsewhere(out, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    lines = [{"file": name, "size": 4, "sha256": "x"} for name in ("../mine.txt", str(tmp_path / "mine.txt"), 3, None)]
    text = "\n".join(json.dumps(line) for line in [*lines, [], "a", {"file": "x", "size": [], "other": 1}])
    (out / HIDDEN / "files.jsonl").write_text(text + "\n" + "[" * 100_000)
    with output_folder(out, overwrite=True) as outputs:
        assert not outputs.known
        assert outputs.clear() == ["a.txt", "folder/b.txt"]
    assert visible(tmp_path)["mine.txt"] == "mine"


def test_a_log_may_grow_while_it_is_written_and_not_after(out):
    log = out / "log.txt"

    def append(text):
        with log.open("a") as file:
            file.write(text)

    with output_folder(out) as outputs:
        outputs.grow("log.txt")
        append("one\n")
        assert OutputFolder(out).state("log.txt") == "ours"  # what a kill leaves
        append("two\n")
    assert OutputFolder(out).state("log.txt") == "ours"
    append("mine\n")
    assert OutputFolder(out).state("log.txt") == "edited"


def test_links_are_listed_by_their_target(out, tmp_path):
    with output_folder(out), writing(out / "link") as temporary:
        temporary.symlink_to(tmp_path / "target")
    assert OutputFolder(out).state("link") == "ours"
    (out / "link").unlink()
    (out / "link").symlink_to(tmp_path / "other")
    assert OutputFolder(out).state("link") == "edited"


def test_a_call_that_writes_nothing_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "new/out"):
        raise ZeroDivisionError
    with output_folder(tmp_path / "new/out", dry_run=True) as outputs:
        assert outputs.is_empty() and outputs.lock is None
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys
from pathlib import Path
from unip.outputs import output_folder, write_text, writing
out = Path(sys.argv[1])
with output_folder(out):
    write_text(out / "a.txt", "second")
    with writing(out / "b.txt") as temporary:
        temporary.write_text("half")
        if sys.argv[2] == "writing":
            os.kill(os.getpid(), 9)
        real = os.replace
        def replace(source, target):
            if sys.argv[2] == "after":
                real(source, target)
            os.kill(os.getpid(), 9)
        os.replace = replace
"""


@pytest.mark.parametrize("when", ["writing", "before", "after"])
def test_after_a_kill_all_that_is_there_is_ours(tmp_path, when):
    with output_folder(tmp_path / "out"):
        write_text(tmp_path / "out/a.txt", "first")
        write_text(tmp_path / "out/b.txt", "first")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out"), when], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    there = {"a.txt": "second", "b.txt": "half" if when == "after" else "first"}
    assert visible(tmp_path / "out") == there
    with output_folder(tmp_path / "out") as outputs:
        outputs.check("a.txt", "b.txt")
        assert not (tmp_path / "out" / HIDDEN / "tmp").exists()
        write_text(tmp_path / "out/b.txt", "third")
    assert visible(tmp_path / "out") == {"a.txt": "second", "b.txt": "third"}


@pytest.mark.parametrize("calls", ["b", "bb", "bbb"])
def test_killed_again_and_again_before_the_file_is_there(tmp_path, calls):
    with output_folder(tmp_path / "out"):
        write_text(tmp_path / "out/a.txt", "first")
        write_text(tmp_path / "out/b.txt", "first")
    for number, _ in enumerate(calls):
        script = KILLED.replace("half", f"half {number}")
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "out"), "before"], timeout=60)
    with output_folder(tmp_path / "out") as outputs:
        assert outputs.state("b.txt") == "ours"
    assert visible(tmp_path / "out")["b.txt"] == "first"


class Stop(BaseException):
    """Stands for a kill or for Ctrl-C."""


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("call", [1, 2])
def test_stopped_while_a_folder_is_replaced(out, monkeypatch, call, killed):
    """The old folder, with what the user put into it, or the new one: never neither."""
    (out / "folder/mine.txt").write_text("mine")
    replace, calls = os.replace, []

    def stop(source, target):
        replace(source, target)
        calls.append(source)
        if len(calls) == call:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        with output_folder(out, overwrite=True), writing(out / "folder") as temporary:
            temporary.mkdir()
            (temporary / "b.txt").write_text("new")
            patch.setattr(os, "replace", stop)
            if killed:  # then nothing is tidied up or moved back
                patch.setattr(os.path, "lexists", lambda path: False)
                patch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    with output_folder(out) as outputs:
        assert outputs.state("folder/b.txt") == "ours"
    there = visible(out)
    assert there["folder/mine.txt"] == "mine" and there["folder/b.txt"] == ("b" if call == 1 else "new")
    assert not (out / HIDDEN / "tmp").exists()


@pytest.mark.parametrize("where", ["note", "rename"])
def test_a_kill_while_a_damaged_folder_is_set_aside(out, monkeypatch, where):
    def stop(*arguments, **more):
        raise Stop

    with output_folder(out) as outputs, monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(*((outputs, "note") if where == "note" else (os, "rename")), stop)
        outputs.set_aside("folder")
    folder = OutputFolder(out)
    assert [folder.state(file) for file in visible(out)] == ["ours", "ours"]


def test_a_disk_that_is_full_amid_a_line_of_the_list(out, monkeypatch):
    """The system writes what fits and tells so; the file whose line is cut must not be there unlisted."""
    write = os.write
    with output_folder(out), monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:20]))
        for name in ("a.txt", "new.txt"):
            with pytest.raises(UnipError, match="No space left on device"):
                write_text(out / name, "new")
    assert visible(out) == {"a.txt": "a", "folder/b.txt": "b"}
    assert [OutputFolder(out).state(name) for name in visible(out)] == ["ours", "ours"]


STRANGE = {
    HIDDEN: ("file", "link", "pipe"),
    f"{HIDDEN}/files.jsonl": ("folder", "link", "pipe"),
    f"{HIDDEN}/lock": ("folder", "link", "pipe"),
    f"{HIDDEN}/tmp": ("file", "link", "pipe"),
    f"{HIDDEN}/other": ("link", "pipe"),
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in STRANGE.items() for kind in kinds])
def test_a_hidden_folder_that_leads_elsewhere_is_refused(tmp_path, name, kind):
    mine = tmp_path / "mine"
    if name in (HIDDEN, f"{HIDDEN}/tmp"):
        (mine / "tmp").mkdir(parents=True)
        for file in ("lock", "files.jsonl", "tmp/mine.txt"):
            (mine / file).write_text("mine")
    else:
        mine.write_text("mine")
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    make = {"file": path.touch, "folder": path.mkdir, "link": lambda: path.symlink_to(mine)}
    make.get(kind, lambda: os.mkfifo(path))()
    before = visible(mine) if mine.is_dir() else mine.read_text()
    for dry_run in (True, False):
        with pytest.raises(UnipError, match="which unip did not write"):
            with output_folder(tmp_path / "out", overwrite=True, dry_run=dry_run):
                write_text(tmp_path / "out/a.txt", "a")
    assert (visible(mine) if mine.is_dir() else mine.read_text()) == before


def test_only_our_own_temporary_files_are_deleted(out):
    (out / HIDDEN / "tmp").mkdir()
    (out / HIDDEN / "tmp/mine.txt").write_text("mine")
    (out / HIDDEN / "tmp/.unip-killed").mkdir()
    with output_folder(out):
        write_text(out / "new.txt", "")
    assert os.listdir(out / HIDDEN / "tmp") == ["mine.txt"]


def test_a_folder_is_not_put_back_elsewhere(out, tmp_path):
    for number, name in enumerate(["../stolen", str(tmp_path / "stolen"), 3, None, "link/stolen", "a\0b", HIDDEN]):
        place = out / HIDDEN / f"tmp/.unip-{number}"
        (place / "replaced").mkdir(parents=True)
        (place / "replaced.json").write_text(json.dumps(name))
    (tmp_path / "elsewhere").mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    with output_folder(out):
        pass
    assert not list(tmp_path.rglob("stolen")) and not (out / HIDDEN / "tmp").exists()


WRONG = ({"size": "x"}, {"size": 1.0}, {"size": None}, {"size": -1}, {"size": True}, {"sha256": 5}, {"link": 5})
WRONG += ({"growing": "no"}, {"only": 1}, {"deleted": "no"}, {"other": 1}, {"size": float("inf")})  # type: ignore


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_line_of_wrong_values_lists_nothing(out, wrong):
    line = {"file": "mine.txt", "size": 0, "sha256": "", "growing": True} | wrong
    (out / "mine.txt").write_text("mine")
    for name in ("mine.txt", "a.txt"):
        with (out / HIDDEN / "files.jsonl").open("a") as file:
            file.write(json.dumps(line | {"file": name}) + "\n")
    folder = OutputFolder(out)
    assert (folder.state("mine.txt"), folder.state("a.txt")) == ("foreign", "ours")


@pytest.mark.parametrize("name", ["..file.txt", "...", ".hidden", "a b", "\udcff.txt", "-", "a\nb", "..a/b"])
def test_files_of_unusual_names_are_ours_too(tmp_path, name):
    with output_folder(tmp_path):
        write_text(tmp_path / name, "text")
    assert OutputFolder(tmp_path).state(name) == "ours"


@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_file_that_cannot_be_read_is_one_message(out, monkeypatch, call):
    def refuse(*arguments, **more):
        raise PermissionError(errno.EACCES, "Permission denied", "file")

    with output_folder(out) as outputs, monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(UnipError, match=r"cannot read .*a\.txt.*: Permission denied"):
            outputs.check("a.txt")


def test_a_file_that_cannot_be_deleted_is_one_message(out, monkeypatch):
    def refuse(path, *more, **others):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    with output_folder(out) as outputs, monkeypatch.context() as patch:
        patch.setattr(type(out), "unlink", refuse)
        with pytest.raises(UnipError, match=r"cannot delete .*a\.txt: Operation not permitted"):
            outputs.clear()


def test_threads_and_a_long_list(tmp_path):
    with output_folder(tmp_path / "out"), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_text(tmp_path / f"out/{n % 20}/{n % 50}.txt", str(n)), range(100)))
        for number in range(200):
            write_text(tmp_path / "out/0/0.txt", str(number))
    outputs = OutputFolder(tmp_path / "out")
    names = outputs.files("")
    assert len(names) == 100 and {outputs.state(name) for name in names} == {"ours"}
    assert outputs.list.stat().st_size < 100_000


def test_remove_needs_an_open_folder(out):
    with output_folder(out):
        remove(out / "folder")
        remove(out / "none")
    assert visible(out) == {"a.txt": "a"}


def test_a_list_of_another_call_in_a_folder_that_is_written_whole(out):
    """What that call wrote stays, what this one wrote is new."""
    with output_folder(out / "folder"):
        write_text(out / "folder/other.txt", "other")
    for text in ("new", "newer"):
        with output_folder(out), writing(out / "folder") as temporary:
            temporary.mkdir()
            (temporary / "b.txt").write_text(text)
        assert visible(out) == {"a.txt": "a", "folder/b.txt": text, "folder/other.txt": "other"}
        assert OutputFolder(out).state("folder/b.txt") == OutputFolder(out / "folder").state("other.txt") == "ours"
    with output_folder(out) as outputs:
        assert outputs.remove("folder") == []
    assert visible(out) == {"a.txt": "a", "folder/other.txt": "other"}


def test_what_another_process_wrote_meanwhile_is_ours(out):
    with output_folder(out):
        with output_folder(out, exclusive=False):
            write_text(out / "report.txt", "theirs")
        open_folders, unip.outputs._open[:] = unip.outputs._open[:], []
        with output_folder(out, exclusive=False):  # in a process that knows nothing of this one
            write_text(out / "tables.txt", "theirs")
        unip.outputs._open[:] = open_folders
        write_text(out / "tables.txt", "ours")
    assert OutputFolder(out).state("tables.txt") == "ours"


def test_a_list_that_cannot_be_written_leaves_the_file_as_it_was(out, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    with pytest.raises(UnipError, match="No space left on device"), output_folder(out):
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
        write_text(out / "a.txt", "new")
    monkeypatch.undo()
    assert visible(out)["a.txt"] == "a" and OutputFolder(out).state("a.txt") == "ours"


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(["write", "edit", "foreign", "delete", "clear"]),
            st.sampled_from(["a", "b/a", "b/c"]),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_a_users_bytes_are_never_lost_without_overwrite(actions, tmp_path_factory):
    """Whatever happens in whatever order, a file that a user wrote last stays as it is, or `overwrite` was given."""
    out = tmp_path_factory.mktemp("out") / "out"
    out.mkdir()
    theirs: dict[str, str] = {}
    ever_ours: set[str] = set()
    for number, (action, name, overwrite) in enumerate(actions):
        path = out / name
        if action in ("edit", "foreign"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"user {number}")
            theirs[name] = f"user {number}"
        elif action == "delete":
            path.unlink(missing_ok=True)
            theirs.pop(name, None)
        else:
            with output_folder(out, overwrite=overwrite) as outputs:
                if action == "clear":
                    outputs.clear()
                    if overwrite:
                        theirs = {n: text for n, text in theirs.items() if n not in ever_ours}
                    ever_ours -= {n for n in ever_ours if not (out / n).exists()}
                elif name in theirs and not (overwrite and name in ever_ours):
                    with pytest.raises(UnipError):
                        write_text(path, f"ours {number}")
                else:
                    write_text(path, f"ours {number}")
                    theirs.pop(name, None)
                    ever_ours.add(name)
        for each, text in theirs.items():
            assert (out / each).read_text() == text


def test_folders_within_each_other_have_lists_of_their_own(out):
    with output_folder(out), output_folder(out / "inner"):
        write_text(out / "inner/c.txt", "c")
        write_text(out / "d.txt", "d")
    assert OutputFolder(out).known.keys() == {"a.txt", "folder/b.txt", "d.txt"}
    assert OutputFolder(out / "inner").known.keys() == {"c.txt"}
    with output_folder(out) as outputs:
        assert outputs.clear() == []
    assert visible(out) == {"inner/c.txt": "c"}


def test_a_folder_is_open_in_all_threads(out):
    problems: list[Exception] = []

    def work():
        try:
            write_text(out / "a.txt", "from a thread")
        except UnipError as error:
            problems.append(error)

    with output_folder(out):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not problems and visible(out)["a.txt"] == "from a thread"
