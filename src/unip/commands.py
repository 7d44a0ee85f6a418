"""The commands of the command line: each is made from the table of verbs when it is used.

torch, timm and the like take seconds to import. Help and settings that are wrong wait for none of them: settings lie in
modules of their own, and a verb itself imports them when settings and paths are checked.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, ArgumentCollection, Parameter

from unip.verbs import DATA_VERBS, VERBS, Verb

if TYPE_CHECKING:
    from unip.config import Config


def make(verb: Verb, name: str) -> App:
    """Return the command of a verb, with the settings as its parameters."""
    settings = verb.load_settings()

    def command(config: Config | None = None) -> None:
        verb.run(settings() if config is None else config)

    needed = any(field.is_required() for field in settings.model_fields.values())
    parameter = inspect.Parameter(
        "config",
        inspect.Parameter.POSITIONAL_OR_KEYWORD if verb.positional else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if needed else None,
        annotation=Annotated[settings, Parameter(name="*")],
    )
    command.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    command.__annotations__ = {"config": parameter.annotation}
    app = _Command(name=name)
    app.default(command)
    return app


class _Command(App):
    """A command that lists its parameters once.

    cyclopts lists them anew to see which words belong to the command, to fill them with values, and for each part of
    the help, where it would also look into the source of the settings. That takes longer than all else.
    """

    _listed: ArgumentCollection | None = None
    _listed_with: Parameter | None = None

    def assemble_argument_collection(
        self, *, default_parameter: Parameter | None = None, parse_docstring: bool = False
    ) -> ArgumentCollection:
        listed, context = self._listed, Parameter.combine(self.app_stack.default_parameter, default_parameter)
        filled = listed is not None and any(argument.tokens for argument in listed)  # by an earlier call
        if listed is None or filled or context != self._listed_with:  # outside of the program it has other defaults
            self._listed_with = context
            self._listed = listed = super().assemble_argument_collection(default_parameter=default_parameter)
        return listed


def __getattr__(name: str) -> App:
    """Make a command; cyclopts asks for it by name when it is used."""
    verb = name.removeprefix("data-")
    known = VERBS if verb == name else DATA_VERBS
    if verb not in known:
        raise AttributeError(f"module 'unip.commands' has no attribute {name!r}")
    return make(known[verb], verb.replace("_", "-"))
