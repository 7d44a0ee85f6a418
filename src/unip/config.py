"""Frozen configs: a verb is a config class and a function of it, with the same names everywhere."""

from __future__ import annotations

import difflib
import functools
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from unip.errors import UnipError
from unip.limits import limited_to
from unip.paths import is_nameable, refusing_paths

C = TypeVar("C", bound="Config")
R = TypeVar("R")


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


#: Text that may be a path: the name of a model, ``infrared=FOLDER``, a file. Python callers may give a ``Path``.
NameOrPath = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | os.PathLike[str])]


@dataclass(frozen=True)
class Setting:
    """What holds for a setting whatever its value; it stands beside the type: ``Annotated[int, Setting(...)]``.

    Attributes:
        resume: Whether it may differ when a run is resumed; ``unfinished``: as long as the run has checkpoints.
        resume_unless: Another setting; where that is given, this one may not differ.
        machine: It says where and how fast a result is made, not which.
        empty_is_auto: 0, none and () leave it open, as ``auto`` does.
        decided_by: The grid of `unip bench` gives it to each cell; or the bench also to each pre-training.
    """

    resume: Literal["never", "unfinished", "always"] = "never"
    resume_unless: str | None = None
    machine: bool = False
    empty_is_auto: bool = False
    decided_by: Literal["grid", "bench"] | None = None


class Config(BaseModel):
    """Base of all configs: frozen, and an unknown key is an error that names the nearest known one.

    A setting of many values (``tuple[X, ...]``) also takes one, and a path may be anything with ``__fspath__``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True, allow_inf_nan=False)
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

    @model_validator(mode="before")
    @classmethod
    def _refuse_text_of_no_file(cls, values: Any) -> Any:
        """Refuse NUL and lone surrogates: no path, no stream and no file that is written takes them."""
        for key, value in values.items() if isinstance(values, dict) else ():
            for text in value if isinstance(value, list | tuple) else (value,):
                if isinstance(text, str | os.PathLike) and not is_nameable(text):
                    raise UnipError(f"{key} of {cls.__name__} holds characters that no name can hold: {text!r}")
        return values

    @model_validator(mode="before")
    @classmethod
    def _accept_one_for_many(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {key: _known_path(value) for key, value in values.items()}
        many = {key for key, value in given.items() if isinstance(value, str | Path | int | float)} & _many(cls)
        return given | {key: (given[key],) for key in many}

    @classmethod
    def about(cls, name: str) -> Setting:
        """Return what holds for a setting whatever its value."""
        return next((one for one in cls.model_fields[name].metadata if isinstance(one, Setting)), Setting())

    @classmethod
    def names_where(cls, holds: Callable[[Setting], bool]) -> set[str]:
        """Return the names of the settings for which something holds."""
        return {name for name in cls.model_fields if holds(cls.about(name))}

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
        """Read a recipe: a file, or, as text without a suffix, the name of one that ships; keyword arguments win."""
        from unip.files import read_yaml  # here: most calls have no use for it
        from unip.recipes import find_recipe

        file = find_recipe(path) if isinstance(path, str) else path
        return cls.make(**{**read_yaml(file), **overrides})

    def to_yaml(self) -> str:
        """Return the config as YAML that :meth:`from_yaml` reads back equal."""
        import yaml  # here: most calls have no use for it

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


@functools.cache
def _many(config: type[Config]) -> frozenset[str]:
    """Return the names of the settings that are tuples of any length."""
    found = set()
    for name, field in config.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))  # X, or the members of X | None
        if any(get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis for kind in kinds):
            found.add(name)
    return frozenset(found)


def _known_path(value: Any) -> Any:
    """Make a ``Path`` of other path-like objects, which pydantic does not take, also within a sequence."""
    if isinstance(value, list | tuple):
        return type(value)(map(_known_path, value)) if any(isinstance(one, os.PathLike) for one in value) else value
    return Path(value) if isinstance(value, os.PathLike) else value


def verb(config_type: type[C]) -> Callable[[Callable[[C], R | None]], Callable[[C], R]]:
    """Let ``f(config)`` also be called as ``f(key=value, ...)`` with the fields of ``config_type``.

    A dry run may return None. So that no other call has to ask for None, a dry run is always seen where it is called:
    ``f(key=value, ..., dry_run=True)`` or ``f(config, dry_run=True)``. A config that has ``dry_run`` set is refused.
    (Type checkers see the calls with a config here, and those with keywords in ``unip/__init__.pyi``.)
    """
    from unip.signatures import signature_of  # here: settings alone have no use for it

    def wrap(function: Callable[[C], R | None]) -> Callable[[C], R]:
        @functools.wraps(function)
        def call(config: C | None = None, /, *more: object, **values: Any) -> R | None:
            if more:
                raise TypeError(f"{name} takes its settings as keyword arguments, or one {config_type.__name__}")
            if config is None:
                return run(config_type.make(**values))
            if not isinstance(config, config_type):
                raise TypeError(f"{name} takes a {config_type.__name__} or keyword arguments, not {config!r}")
            dry_run = values.pop("dry_run", False)
            if values:
                raise TypeError(f"{name}: give a config or keyword arguments, not both (but for dry_run)")
            if getattr(config, "dry_run", False) and not dry_run:
                raise UnipError(f"{name}: dry_run is set in the config", f"Write {name}(config, dry_run=True).")
            return run(config.model_copy(update={"dry_run": True}) if dry_run else config)

        def run(config: C) -> R | None:
            given = getattr(config, "max_pixels", None) if "max_pixels" in config.model_fields_set else None
            with limited_to(given), refusing_paths():
                return function(config)

        name = getattr(function, "__name__", "the verb")
        call.__signature__ = signature_of(config_type)  # type: ignore[attr-defined]
        return cast(Callable[[C], R], call)

    return wrap
