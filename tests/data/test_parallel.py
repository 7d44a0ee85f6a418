from __future__ import annotations

import time

import pytest

from unip.data import parallel
from unip.data.parallel import threaded


def test_results_come_in_order_whatever_takes_long() -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0)
        return i * i

    assert list(threaded(slow_first, range(20), "squares", workers=4)) == [i * i for i in range(20)]


def test_quiet_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(threaded(str, range(2), "numbers", quiet=True)) == ["0", "1"]
    assert capsys.readouterr() == ("", "")
    assert list(threaded(str, range(2), "numbers")) == ["0", "1"]
    assert "numbers: 2/2" in capsys.readouterr().err


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
