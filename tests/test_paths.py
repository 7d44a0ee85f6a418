"""Paths that cannot be looked at, and names that no file can have: one message each, and exit 2."""

from __future__ import annotations

import ast
import errno
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unip
from unip import cli, paths
from unip.config import Config
from unip.data.verbs import build, check
from unip.deployment.verbs import predict
from unip.errors import UnipError
from unip.files import read_json, read_lines, read_yaml, sha256
from unip.opening import open_header, read_regular, read_regular_text
from unip.outputs import output_folder, writing
from unip.paths import (
    exists,
    expand,
    is_dir,
    is_file,
    is_link,
    is_writable,
    lexists,
    list_folder,
    look,
    resolve,
    status,
)

QUESTIONS: tuple[Callable[[Path], bool], ...] = (exists, lexists, is_file, is_dir, is_link)
NO_NAMES = ["a\0b", "\ud800", "n" * 300, "x/" * 3000]


def link_to_itself(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


def closed(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int = errno.EACCES) -> None:
    """Let nothing below a folder be looked at: rights alone do not stop a superuser."""
    real = os.stat

    def stat(path: paths.AnyPath, *rest: object, **options: bool) -> os.stat_result:
        if os.fsdecode(path).startswith(f"{folder}{os.sep}"):
            raise OSError(number, os.strerror(number), os.fsdecode(path))
        return real(path, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("unip.paths.os.stat", stat)


def test_what_is_there(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_bytes(b"abc")
    folder.mkdir()
    (tmp_path / "to file").symlink_to(file)
    (tmp_path / "to folder").symlink_to(folder)
    (tmp_path / "to nothing").symlink_to("nothing")
    answers = {name: [ask(tmp_path / name) for ask in QUESTIONS] for name in (*os.listdir(tmp_path), "file/in", "none")}
    yes, no = True, False
    assert answers == {
        "file": [yes, yes, yes, no, no],
        "folder": [yes, yes, no, yes, no],
        "to file": [yes, yes, yes, no, yes],
        "to folder": [yes, yes, no, yes, yes],
        "to nothing": [no, yes, no, no, yes],
        "file/in": [no] * 5,
        "none": [no] * 5,
    }
    assert [ask(os.fsencode(file)) for ask in QUESTIONS] == answers["file"]  # type: ignore[arg-type]
    assert status(file).st_size == 3
    assert [path.name for path in list_folder(tmp_path)] == ["file", "folder", "to file", "to folder", "to nothing"]
    assert resolve(tmp_path / "to folder" / ".." / "to file") == file.resolve()


@pytest.mark.parametrize("name", NO_NAMES, ids=["NUL", "surrogate", "long name", "long path"])
def test_nothing_is_at_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    path = Path(os.path.join(tmp_path, name))
    assert [ask(path) for ask in QUESTIONS] == [False] * 5
    assert look(path) is None
    resolve(path), expand(path)
    with pytest.raises(OSError):
        status(path)
    with pytest.raises(UnipError, match="cannot read"):
        list_folder(path)
    for read in (read_regular, read_regular_text, open_header, sha256):
        with pytest.raises(OSError):
            read(path)
    for read in (read_json, read_yaml, read_lines):
        with pytest.raises(UnipError, match="cannot read"):
            read(path)


def test_where_this_user_may_write(tmp_path: Path) -> None:
    assert is_writable(tmp_path)
    assert not is_writable(tmp_path / "missing") and not is_writable("a\0b")


def test_a_link_to_itself_is_a_link_to_nothing(tmp_path: Path) -> None:
    loop = link_to_itself(tmp_path)
    assert [ask(loop) for ask in QUESTIONS] == [False, True, False, False, True]
    assert resolve(loop) == loop and resolve(loop / "inside") == loop / "inside"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO], ids=["closed", "damaged"])
def test_what_cannot_be_looked_at_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    closed(monkeypatch, tmp_path, number)
    for ask in QUESTIONS:
        with pytest.raises(UnipError, match=f"cannot read .*/file: {os.strerror(number)}"):
            ask(tmp_path / "file")
    with pytest.raises(OSError):
        status(tmp_path / "file")


def test_home_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert expand("~/data") == Path("/home/someone/data") and expand("data/~") == Path("data/~")
    home = pwd.getpwuid(os.getuid())
    assert expand(f"~{home.pw_name}/data") == Path(home.pw_dir) / "data"
    assert expand("~nosuchuser/data") == Path("~nosuchuser/data")  # a file may be called so: ~$frames.png
    assert expand("~a\0b") == Path("~a\0b")


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(path)
    return path


#: A line of the command line: which words of it are the path, as PATH, and the folder, as OUT.
LINES = (
    "doctor PATH",
    "analyze timm:vit_tiny_patch16_224 --images PATH --out OUT",
    "analyze PATH --images FRAMES --out OUT",
    "pretrain --teacher PATH --data FRAMES --out OUT",
    "pretrain --teacher timm:vit_tiny_patch16_224@PATH --data FRAMES --out OUT",
    "pretrain --objective mae --data PATH --student unip_micro --out OUT",
    "pretrain --objective mae --data infrared=PATH --student unip_micro --out OUT",
    "finetune --model unip_micro --data PATH --out OUT",
    "finetune --data coco:PATH --out OUT",
    "finetune --model PATH --data FRAMES --out OUT",
    "evaluate PATH --data FRAMES --out OUT",
    "predict PATH FRAMES --out OUT",
    "bench PATH --out OUT",
    "models PATH",
    "data build PATH --out OUT",
    "data build --config PATH --out OUT",
    "data check PATH --out OUT",
    "data check --data PATH --out OUT",
    "data stats PATH",
    "data stats --data PATH",
    "data split --data PATH --out OUT",
    "data dedup PATH --out OUT",
    "data pack PATH --out OUT",
    "data thermal-sdk PATH",
    "predict --config PATH",
    "data build FRAMES --out PATH",
    "data check FRAMES --out PATH",
    "data dedup FRAMES --out PATH",
    "data scenes --out PATH",
    "pretrain --objective mae --data FRAMES --out PATH",
    "demo --out PATH",
)


@pytest.mark.parametrize("line", LINES)
def test_bad_paths_have_one_message(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "frames/1.png")
    link_to_itself(tmp_path)
    for bad in ("loop", "loop/inside", "n" * 300, "~nosuchuser/frames", "frames/1.png/in", "y/" * 3000):
        if line.endswith("--out PATH") and bad.startswith("~"):
            continue  # a folder may be called so
        words = [word.replace("PATH", bad).replace("FRAMES", "frames").replace("OUT", "out") for word in line.split()]
        monkeypatch.setattr("sys.argv", ["unip", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2, (bad, capsys.readouterr())
        assert bad[:50] in capsys.readouterr().err


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = image(tmp_path / "frames/1.png").parent
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UnipError, match="the folder that this command was started in has been deleted"):
        check(sources=("frames",), out=Path("out"))
    assert check(sources=(str(frames),), out=tmp_path / "out").images == 1


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "surrogate"])
def test_settings_hold_no_names_that_no_file_can_have(tmp_path: Path, text: str) -> None:
    class Settings(Config):
        place: Path = Path()
        places: tuple[str, ...] = ()

    for values in ({"place": text}, {"place": Path(text)}, {"places": text}, {"places": ["a", text]}):
        with pytest.raises(UnipError, match="holds characters that no name can hold"):
            Settings.make(**values)
    assert Settings.make(place=os.fsdecode(b"\xff")).place == Path(os.fsdecode(b"\xff"))  # bytes of another encoding
    for call in (
        lambda: build(sources=(text,), out=tmp_path / "out"),
        lambda: check(sources=(str(tmp_path),), out=tmp_path / text),
        lambda: predict(text, tmp_path, out=tmp_path / "out"),  # type: ignore[arg-type]
    ):
        with pytest.raises((UnipError, TypeError)):
            call()


@pytest.mark.parametrize("length", [247, 250, 255])
def test_files_have_names_as_long_as_the_system_takes(tmp_path: Path, length: int) -> None:
    name = "n" * (length - 4) + ".png"
    with output_folder(tmp_path / "out"):
        with writing(tmp_path / "out" / name) as file:
            file.write_bytes(b"abc")
        with pytest.raises(UnipError, match=r"File name too long\nRename what it is named after"):
            with writing(tmp_path / "out" / ("n" * 256)) as file:
                file.write_bytes(b"abc")
    assert (tmp_path / "out" / name).read_bytes() == b"abc"


METHODS = ("exists", "is_file", "is_dir", "is_symlink", "stat", "lstat", "expanduser", "iterdir", "resolve", "samefile")
FUNCTIONS = {
    *(f"os.path.{name}" for name in ("exists", "lexists", "isfile", "isdir", "islink", "getsize", "getmtime")),
    *("os.path.samefile", "os.path.expanduser", "os.stat", "os.lstat", "os.listdir", "os.access"),
}


def test_nothing_else_looks_at_paths() -> None:
    """Whoever looks at a path in another way ends in a traceback on one that cannot be looked at."""
    source = Path(unip.__file__).parent
    found = []
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        if name == "paths.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func)
            method = isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
            if function in FUNCTIONS or (method and not function.startswith("entry.")):  # of os.scandir
                found.append(f"{name}:{node.lineno}: {function}")
    assert found == []
