from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from unip.errors import UnipError
from unip.files import advice, read_json, refuse_unwritable, sha256, write_json, write_text, writing


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), writing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_message(tmp_path):
    path = tmp_path / "value.txt"
    write_text(path, "old")
    with pytest.raises(UnipError, match=r"cannot write .*value.txt: No space left on device") as caught, writing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "untouched" in caught.value.fix
    assert path.read_text() == "old"


@pytest.mark.parametrize(("number", "frees"), [(errno.ENOSPC, True), (errno.EROFS, False), (errno.EACCES, False)])
def test_space_is_no_cure_for_a_read_only_disk(tmp_path, number, frees):
    error = OSError(number, os.strerror(number))
    assert ("Free some space" in advice(error)) is frees and "another output folder" in advice(error)
    with pytest.raises(UnipError) as caught, writing(tmp_path / "value.txt"):
        raise error
    assert ("Free some space" in caught.value.fix) is frees


def test_an_output_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path, monkeypatch):
    refuse_unwritable(tmp_path)
    refuse_unwritable(tmp_path / "new" / "folder")
    monkeypatch.chdir(tmp_path)
    refuse_unwritable(Path("new/folder"))
    assert list(tmp_path.iterdir()) == []
    write_text(tmp_path / "file", "")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UnipError, match=r"cannot write to .* is a file") as caught:
            refuse_unwritable(path)
        assert str(path) in caught.value.what and caught.value.fix == "Choose another output folder."
    with pytest.raises(UnipError, match=r"cannot write to .*: File name too long"):
        refuse_unwritable(tmp_path / ("long" * 100))

    def read_only(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(UnipError, match="Read-only file system") as caught:
        refuse_unwritable(tmp_path)
    assert caught.value.fix == "Choose another output folder."


def test_a_folder_replaces_a_folder_whole(tmp_path):
    for text in ("one", "two"):
        with writing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / f"{text}.txt").write_text(text)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    """The old folder was moved away already when the new one cannot take its place."""
    path = tmp_path / "folder"
    with writing(path) as temporary:
        temporary.mkdir()
        (temporary / "old.txt").write_text("old")
    replace, calls = os.replace, []

    def fails_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_second)
    with pytest.raises(UnipError, match=r"cannot write .*folder: Input/output error"), writing(path) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
    assert len(calls) == 3
    assert [p.name for p in path.iterdir()] == ["old.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


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


def test_reading(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(UnipError, match=r"a.json is not valid JSON"):
        read_json(path)
    with pytest.raises(UnipError, match="cannot read"):
        read_json(tmp_path / "none.json")
    path.write_text(json.dumps([1]))
    assert sha256(path) == hashlib.sha256(b"[1]").hexdigest()
