"""The commands of the command line: a function for each verb, made when the command is used.

Verbs need torch, timm and torchvision, which take seconds to import; so none waits for what another one needs, and
``unip --help`` waits for nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from unip.verbs import DATA_VERBS, VERBS, Verb


def make(verb: Verb) -> Callable[[Any], None]:
    """Return a function of the settings, whose signature the command line reads."""
    settings = verb.load_settings()

    def command(config: Any) -> None:
        verb.run(config)

    needed = any(field.is_required() for field in settings.model_fields.values())
    parameter = inspect.Parameter(
        "config",
        inspect.Parameter.POSITIONAL_OR_KEYWORD if verb.positional else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if needed else settings(),
        annotation=Annotated[settings, Parameter(name="*")],
    )
    command.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    command.__annotations__ = {"config": parameter.annotation}
    command.__doc__ = verb.help
    return command


def __getattr__(name: str) -> Callable[[Any], None]:
    """Make a command's function; cyclopts asks for it by name when the command is used."""
    known = VERBS | {f"data-{verb}": command for verb, command in DATA_VERBS.items()}
    if name not in known:
        raise AttributeError(f"module 'unip.commands' has no attribute {name!r}")
    return make(known[name])
