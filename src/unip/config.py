"""Frozen configs: a verb is a config class and a function of it, with the same names everywhere."""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from unip.errors import UnipError
from unip.files import read_yaml

C = TypeVar("C", bound="Config")
R = TypeVar("R")


class Config(BaseModel):
    """Base of all configs: frozen, and an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    described: ClassVar[str] = ""  # the page on its settings, for messages

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(cls.model_fields)}."
                    raise UnipError(f"unknown setting {key!r} of {cls.__name__}", hint)
        return values

    @classmethod
    def make(cls, **values: Any) -> Self:
        """Build a config; problems come as one :class:`UnipError` with a line for each field.

        Raises:
            UnipError: A key is unknown or missing, or a value does not fit.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            fix = f"See {cls.described or f'the fields of {cls.__name__}'}."
            raise UnipError(describe_validation(error, values), fix) from None

    @classmethod
    def from_yaml(cls, path: str | Path, **overrides: Any) -> Self:
        """Read a recipe file; keyword arguments win over what it says."""
        return cls.make(**{**read_yaml(Path(path)), **overrides})

    def to_yaml(self) -> str:
        """Return the config as YAML that :meth:`from_yaml` reads back equal."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def describe_validation(error: ValidationError, values: Any = None) -> str:
    """Say in plain lines which settings do not fit and why.

    Args:
        error: What pydantic found.
        values: What it was found in; then a setting within others is named with those.
    """
    seen: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        loc = problem["loc"]
        key = ".".join(map(str, loc)) if problem["type"] == "missing" else _place(loc, values)
        whole = problem["type"] == "missing" or not loc  # of all settings together, the input is all of them
        given = "" if whole else f", got {problem['input']!r}"
        text = problem["msg"].removeprefix("Value error, ")
        seen.setdefault(key, []).append(f"{text[:1].lower()}{text[1:]}{given}")
    return "\n".join(f"{key}: {'; or '.join(texts)}" for key, texts in seen.items())


def _place(loc: tuple[int | str, ...], values: Any) -> str:
    """Name a setting: keys of mappings as far as they are there; what follows are pydantic's kinds of values."""
    keys = [str(part) for part in loc[:1]]
    for part, following in itertools.pairwise(loc):
        values = values.get(part) if isinstance(values, dict) else None
        if not isinstance(values, dict) or following not in values:
            break
        keys.append(str(following))
    return ".".join(keys) or "settings"


def verb(config_type: type[C]) -> Callable[[Callable[[C], R]], Callable[Concatenate[C | None, ...], R]]:
    """Let ``f(config)`` also be called as ``f(key=value, ...)`` with the fields of ``config_type``."""

    def wrap(function: Callable[[C], R]) -> Callable[Concatenate[C | None, ...], R]:
        @functools.wraps(function)
        def call(config: C | None = None, /, **values: Any) -> R:
            if config is not None and values:
                raise TypeError("give a config or keyword arguments, not both")
            return function(config if config is not None else config_type.make(**values))

        return call

    return wrap
