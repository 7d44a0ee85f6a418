"""Data sets: building, checking, packing, splitting and measuring them, by the verbs ``unip.data.check(...)`` etc."""

from __future__ import annotations

from typing import Any

from unip.verbs import DATA_VERBS, function_of

__all__ = [*DATA_VERBS]


def __getattr__(name: str) -> Any:
    """Make a verb's function when it is first used."""
    found = function_of(name, __name__, DATA_VERBS)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
