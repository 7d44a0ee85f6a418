from __future__ import annotations

import time

import pytest

from unip.data import parallel
from unip.data.parallel import threaded, track


def test_results_come_in_order_whatever_takes_long() -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0)
        return i * i

    assert list(threaded(slow_first, range(20), "squares", workers=4)) == [i * i for i in range(20)]


def test_batches_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BATCH", 3)
    assert list(threaded(str, range(8), "numbers", workers=2)) == [str(i) for i in range(8)]
    assert list(threaded(str, [], "numbers")) == []


def test_an_exception_comes_through() -> None:
    def fail(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    with pytest.raises(ValueError, match="two"):
        list(threaded(fail, range(50), "numbers", workers=2))


def test_a_log_file_gets_plain_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(track(range(3), "reading", 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""  # short work is silent
    monkeypatch.setattr(parallel, "LINE_SECONDS", 0.0)
    assert list(track(range(3), "reading", 3)) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[1].startswith("reading: 2/3, ") and "s left" in lines[1]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    monkeypatch.setenv("TERM", "xterm")
    assert list(track(range(5), "reading", 5)) == list(range(5))
    assert "reading" in capsys.readouterr().err
