from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from unip.errors import UnipError
from unip.features.probes import room_for


def test_a_full_disk_is_told_before_it_kills(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(UnipError, match="too much for memory") as caught:
        room_for((2, 30, 4), "none")
    assert "TMPDIR" in caught.value.fix
