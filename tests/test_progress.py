"""Progress on a terminal is rich's business; elsewhere it is a plain line now and then."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from unip import progress
from unip.progress import meter


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_with_rate_and_remaining_time(clock, capsys):
    with meter("reading", 100, "images") as bar:
        for _ in range(100):
            clock.now += 0.5
            bar.advance(note="ok")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading: 20/100 images, ETA 0:00:40, 2.0 images/s  ok",
        "reading: 40/100 images, ETA 0:00:30, 2.0 images/s  ok",
        "reading: 60/100 images, ETA 0:00:20, 2.0 images/s  ok",
        "reading: 80/100 images, ETA 0:00:10, 2.0 images/s  ok",
        "reading: 100/100 images, ETA 0:00:00, 2.0 images/s  ok",
    ]


def test_what_was_done_before_does_not_count_for_the_rate(clock, capsys):
    with meter("training", 100, "steps", start=90) as bar:
        clock.now += 20
        bar.advance(5)
    assert capsys.readouterr().err.strip() == "training: 95/100 steps, ETA 0:00:20, 4.0 s each"


def test_quick_work_says_one_line_and_long_lines_are_not_wrapped(clock, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    title = "a title that is " + "very " * 20 + "long"
    with meter(title, 3, "images") as bar:
        for _ in range(3):
            bar.advance()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{title}: 3/3 images")


def test_names_with_brackets_are_not_taken_for_markup(clock, capsys):
    with meter("model [bold]x[/bold] [/]", 1, "images") as bar:
        bar.advance(note="[red]loss")
    assert "model [bold]x[/bold] [/]: 1/1 images" in capsys.readouterr().err


def test_quiet_when_disabled(clock, capsys):
    with meter("training", 2, "steps", enabled=False) as bar:
        clock.now += 100
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with meter("training [/]", 2, "steps") as bar:
        bar.advance(note="loss 0.5")
        bar.advance(note="loss 0.25")
    err = capsys.readouterr().err
    assert "training [/]" in err
    assert "2/2" in err
    assert "loss 0.25" in err


def test_nothing_to_do(capsys):
    with meter("reading", 0, "images"):
        pass
    assert capsys.readouterr() == ("", "")


def test_quiet_unless_asked(clock, capsys, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}.items():  # not even on a terminal
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(progress, "is_shown", lambda: False)
    with meter("training", 2, "steps") as bar:
        clock.now += 100
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


def test_other_ranks_are_quiet(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "is_other_rank", lambda: True)
    with meter("training", 2, "steps") as bar:
        clock.now += 100
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


class Full(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Full(), closed(), None], ids=["full", "closed", "none"])
def test_a_stderr_that_cannot_be_written_stops_nothing(clock, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    done = 0
    with meter("training", 3, "steps") as bar:
        for _ in range(3):
            clock.now += 100
            bar.advance()
            done += 1
    assert done == 3
