from __future__ import annotations

import pytest

from unip.runtime import memory
from unip.runtime.memory import free_memory, use_ram


def test_a_choice_is_taken_as_it_is() -> None:
    assert use_ram("ram", 10**18) and not use_ram("none", 0)


def test_auto_takes_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 4000)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert use_ram("auto", 1000) and not use_ram("auto", 1001)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each rank keeps its own copy
    assert use_ram("auto", 500) and not use_ram("auto", 501)


def test_free_memory_is_plausible() -> None:
    assert 0 < free_memory() < 2**50
