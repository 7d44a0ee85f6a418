from __future__ import annotations

from unip.errors import Interrupted, UnipError


def test_message_and_exit_codes():
    error = UnipError("file.png is truncated", "Copy it again.")
    assert str(error) == "file.png is truncated\nCopy it again."
    assert str(UnipError("file.png is truncated")) == "file.png is truncated"
    assert error.exit_code == 2
    assert Interrupted("stopped").exit_code == 130
    assert isinstance(Interrupted("stopped"), UnipError)
