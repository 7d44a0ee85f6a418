"""The settings of a config as a Python signature: what a caller may give, which is more than what the config holds."""

from __future__ import annotations

import inspect
import os
import textwrap
import types
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

WIDTH = 110  # of docstrings, in characters


def fields_in_order(config: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the settings as a reader wants them: required ones first, then the config's own, then inherited ones."""
    parents = [parent for parent in config.__mro__[1:] if issubclass(parent, BaseModel)]

    def rank(name: str) -> tuple[bool, int]:
        inherited = sum(name in parent.model_fields for parent in parents)
        return not config.model_fields[name].is_required(), inherited

    return {name: config.model_fields[name] for name in sorted(config.model_fields, key=rank)}


def signature_of(config: type[BaseModel]) -> inspect.Signature:
    """Return the signature of a verb of this config, its settings as keywords."""
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=input_type(field.annotation, field.metadata),
                default=inspect.Parameter.empty if field.is_required() else _default(field),
            )
            for name, field in fields_in_order(config).items()
        ]
    )


def input_type(annotation: Any, metadata: Sequence[Any] = ()) -> Any:
    """Return the type of what may be given for a setting.

    A path may be text or path-like. Where many are taken, one is, and any sequence; a tuple of fixed length may be a
    list. A validator that takes more than its type says so by ``json_schema_input_type``. Limits (``ge=1``) are no
    part of the type.

    Args:
        annotation: Type of the field.
        metadata: What stands beside it in ``Annotated``.
    """
    for extra in metadata:
        if isinstance(extra, BeforeValidator) and extra.json_schema_input_type is not PydanticUndefined:
            return input_type(extra.json_schema_input_type)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return input_type(inner[0], inner[1:])
    if annotation is Path:
        return str | os.PathLike[str]
    if origin in (Union, types.UnionType):
        return _union([input_type(kind) for kind in inner])
    if origin is tuple:
        kinds = [input_type(kind) for kind in inner if kind is not Ellipsis]
        if Ellipsis in inner:
            return _union([*kinds, Sequence[_union(kinds)]])  # type: ignore[misc]
        return _union([tuple[tuple(kinds)], list[_union(kinds)]])  # type: ignore[misc]
    return annotation


def members(annotation: Any) -> list[Any]:
    """Return the members of a union, or the type alone."""
    return list(get_args(annotation)) if get_origin(annotation) in (Union, types.UnionType) else [annotation]


def _union(kinds: Sequence[Any]) -> Any:
    """Return one union, with the choices of all literals in one."""
    flat = [member for kind in kinds for member in members(kind)]
    choices = tuple(choice for kind in flat if get_origin(kind) is Literal for choice in get_args(kind))
    merged = [Literal[choices] if get_origin(kind) is Literal else kind for kind in flat]
    return Union[tuple(merged)]  # noqa: UP007 (it drops what stands there twice)


def settings_help(config: type[BaseModel]) -> str:
    """Return the section ``Args:`` of a docstring, with the help of each setting."""
    lines = ["Args:"]
    for name, field in fields_in_order(config).items():
        lines += textwrap.wrap(
            f"{name}: {field.description}",
            WIDTH,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return value.as_posix() if isinstance(value, PurePath) else value
