"""Python calls are quiet until their caller asks; what a handler gets then is whole, whichever handler it is."""

from __future__ import annotations

import ast
import errno
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.table import Table

import unip
from unip import log
from unip.log import TableMessage

TALK = logging.getLogger("unip.some.module")
UNIP = [sys.executable, "-m", "unip"]


@pytest.fixture
def quiet() -> Iterator[None]:
    """A process in which nobody has asked for messages."""
    log.hide()
    yield
    log.hide()
    log.show()


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """The records that a handler of the caller gets."""
    got: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = got.append  # type: ignore[method-assign]
    logging.getLogger("unip").addHandler(handler)
    yield got
    logging.getLogger("unip").removeHandler(handler)


def wide_table() -> Table:
    table = Table("name", "value", title="Numbers")
    table.add_row("a long name " * 10, "100 %s %d")
    return table


def test_nothing_is_printed_unless_asked(quiet, capfd):
    TALK.info("a line")
    TALK.warning("note: a problem")
    TALK.error("error")
    assert not log.is_shown()
    assert capfd.readouterr() == ("", "")


def test_shown_lines_are_plain_and_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    TALK.info("/a/path/that/is/longer/than/thirty/columns/[x]/:smile:/100 %s %d/file.json")
    TALK.warning("note: [bold]a problem[/]")
    out, err = capsys.readouterr()
    assert out == (
        "/a/path/that/is/longer/than/thirty/columns/[x]/:smile:/100 %s %d/file.json\nnote: [bold]a problem[/]\n"
    )
    assert err == ""


def test_shown_tables_fit_the_terminal_and_other_handlers_get_all_of_them(capsys, monkeypatch, records):
    monkeypatch.setenv("COLUMNS", "40")
    TALK.info(TableMessage(wide_table()))
    out, _ = capsys.readouterr()
    assert "Numbers" in out and max(map(len, out.splitlines())) <= 40
    (record,) = records
    text = logging.Formatter("%(levelname)s %(name)s %(message)s").format(record)
    assert text.startswith("INFO unip.some.module ")
    assert "Numbers" in text and "a long name " * 9 + "a long name" in text and "100 %s %d" in text
    assert "\x1b" not in text


def test_asking_twice_prints_once_and_hiding_undoes_it(quiet, capsys):
    logger = logging.getLogger("unip")
    before = logger.level, logger.propagate, list(logger.handlers)
    log.show()
    log.show()
    TALK.info("a line")
    assert capsys.readouterr() == ("a line\n", "")
    log.hide()
    assert (logger.level, logger.propagate, logger.handlers) == before
    TALK.info("another line")
    assert capsys.readouterr() == ("", "")


def test_the_root_loggers_handlers_do_not_print_a_line_again(quiet, capfd):
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        log.show()
        TALK.warning("a line")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capfd.readouterr() == ("a line\n", "")


def test_characters_that_stdout_lacks_are_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    TALK.info("640×512 pixels of Wärme")
    assert raw.getvalue() == b"640\\xd7512 pixels of W\\xe4rme\n"


class Broken(io.StringIO):
    """A stream whose disk is full, or whose reader is gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_a_stdout_that_cannot_be_written_stops_nothing(monkeypatch, number):
    monkeypatch.setattr(sys, "stdout", Broken(number))
    TALK.info("a line")
    TALK.info(TableMessage(wide_table()))
    lost = log.flush_streams()
    assert lost is not None and lost.errno == number
    assert log.flush_streams() is None  # told once


def test_a_stdout_that_is_closed_stops_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stdout", stream)
        TALK.info("a line")
        assert log.flush_streams() is None


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Labelled frames, of which one more cannot be read."""
    root = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(2):
            frame, mask = rng.integers(0, 256, (32, 40), dtype=np.uint8), np.zeros((32, 40), np.uint8)
            mask[:, 20:] = 1
            Image.fromarray(frame).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["ground", "car"], "ignore_index": 255}))
    (root / "frames").mkdir()
    Image.fromarray(rng.integers(0, 256, (32, 40), dtype=np.uint8)).save(root / "frames" / "0.png")
    (root / "frames" / "1.png").write_bytes(b"no image")
    return root


#: Both verbs in one process: first nobody asks, then a handler is set up, then `unip.log.show()` is called.
CALLS = """
import io, json, logging, sys
import unip
from unip.data.verbs import build

place = sys.argv[1]
text = io.StringIO()
for how in ("nothing", "handler", "show"):
    if how == "handler":
        logging.basicConfig(stream=text, level=logging.INFO)
    if how == "show":
        unip.log.show()
    build(sources=(f"infrared={place}/frames",), out=f"{place}/data-{how}")
    unip.finetune(
        model="unip_micro", data=place, out=f"{place}/training-{how}", steps=1, crop=32, base=(40, 32),
        decoder="light", channels=8, batch_size=2, device="cpu", workers=0, tensorboard=False,
    )
    for stream in (sys.stdout, sys.stderr):
        print("THEN", file=stream, flush=True)
open(f"{place}/logged.txt", "w").write(text.getvalue())
"""


@dataclass(frozen=True)
class Printed:
    """What came out while nobody asked, with a handler, and shown; and what the handler got."""

    out: list[str]
    err: list[str]
    logged: str


@pytest.fixture(scope="module")
def printed(place) -> Printed:
    done = subprocess.run([sys.executable, "-c", CALLS, str(place)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Printed(done.stdout.split("THEN\n"), done.stderr.split("THEN\n"), (place / "logged.txt").read_text())


def test_python_calls_print_nothing(printed):
    assert printed.out[:2] == ["", ""]
    assert printed.err[:2] == ["", ""]


def test_a_handler_of_the_caller_gets_all_lines(printed):
    assert "WARNING:unip.data.building:left out: " in printed.logged
    assert "INFO:unip.segmentation.finetuning:1 steps of training are done; the model is " in printed.logged
    plain = {line.strip() for line in printed.out[2].replace("-show", "-handler").splitlines() if "━" not in line}
    words = [line.split()[0] for line in plain if line]
    assert len(words) > 10 and all(word in printed.logged for word in words)


def test_python_calls_that_ask_show_lines_and_progress(printed):
    assert "left out: " in printed.out[2] and "1 steps of training are done; the model is " in printed.out[2]
    assert "INFO" not in printed.out[2] and "WARNING" not in printed.out[2]
    assert "training: 1/1 steps" in printed.err[2]
    assert "steps of training" not in printed.logged.partition("training-show")[2]  # shown lines come once


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is /dev/full, of Linux")
@pytest.mark.parametrize("words", [["data", "build", "infrared=frames", "--out", "cut"], ["--help"]])
def test_a_full_stdout_is_a_clear_message_after_the_work(place, words):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*UNIP, *words], cwd=place, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 2
    problem = [line for line in done.stderr.splitlines() if not line.startswith("reading")]
    assert problem == [
        "error: stdout cannot be written: No space left on device",
        "Lines are missing there. Free some space, or send stdout elsewhere.",
    ]
    assert "--help" in words or (place / "cut" / "manifest.parquet").exists()


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_is_gone_ends_nothing(place):
    reader, writer = os.pipe()
    os.close(reader)
    words = ["data", "build", "infrared=frames", "--out", "gone"]
    done = subprocess.run([*UNIP, *words], cwd=place, stdout=writer, stderr=writer, timeout=300)
    os.close(writer)
    assert done.returncode == 0
    assert (place / "gone" / "manifest.parquet").exists()


def test_the_module_is_reached_from_the_package():
    assert unip.log is log and "log" in dir(unip)


def test_importing_attaches_a_handler_that_prints_nothing():
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("unip").handlers)


GETTERS = ("logging.getLogger(__name__)", "logging.getLogger('unip')")


class Talk(ast.NodeVisitor):
    """Finds what a module does other than calling its logger with one message."""

    def __init__(self) -> None:
        self.wrong: list[tuple[int, str]] = []

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called in ("logging.basicConfig", "say"):
            self.wrong.append((node.lineno, called))
        elif called == "print" and all(keyword.arg != "file" for keyword in node.keywords):
            self.wrong.append((node.lineno, "print to stdout"))
        elif called in ("log.info", "log.warning", "log.error") and (len(node.args) != 1 or node.keywords):
            self.wrong.append((node.lineno, "arguments, of which % would be interpreted"))
        elif called == "logging.getLogger" and ast.unparse(node) not in GETTERS:
            self.wrong.append((node.lineno, "a logger of another name"))
        self.generic_visit(node)


def test_modules_talk_through_their_logger_alone():
    wrong = []
    for file in sorted(Path(unip.__file__).parent.rglob("*.py")):
        talk = Talk()
        talk.visit(ast.parse(file.read_text(encoding="utf-8")))
        wrong += [f"{file}:{line}: {what}" for line, what in talk.wrong if file.name != "log.py"]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "print('x')",
        "say('x')",
        "log.info('%s', x)",
        "log.warning('x', extra={})",
        "logging.basicConfig()",
        "logging.getLogger()",
        "logging.getLogger('mine')",
    ],
)
def test_other_ways_to_talk_are_found(line):
    talk = Talk()
    talk.visit(ast.parse(line))
    assert len(talk.wrong) == 1


def test_libraries_are_quiet_for_a_while_alone():
    import warnings

    other, root = logging.getLogger("another library"), logging.getLogger()
    before = (other.level, list(root.handlers))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with unip.log.others_quiet("another library"):
            warnings.warn("to programmers", stacklevel=1)
            assert not other.isEnabledFor(logging.WARNING) and other.isEnabledFor(logging.ERROR)
            logging.warning("to nobody")
        assert (other.level, root.handlers) == before and not told
        warnings.warn("to users", stacklevel=1)
        assert len(told) == 1
