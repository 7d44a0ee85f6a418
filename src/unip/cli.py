"""The command line: settings come from ``--config FILE.yaml`` and options, options win."""

from __future__ import annotations

import _thread
import atexit
import difflib
import errno
import functools
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Annotated, Any

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter, ValidationError
from rich.console import Console

import unip
from unip import _IS_PROGRAM, _STOPPED, _leave_at_signals, _say_interrupted, log  # type: ignore[attr-defined]
from unip.errors import Interrupted, UnipError
from unip.runtime.signals import is_importing, only_here
from unip.verbs import DATA_VERBS, VERBS

app = App(
    name="unip",
    help="Vision Transformers for infrared semantic segmentation: look inside, distil, fine-tune, evaluate, predict.",
    version=unip.__version__,
    help_format="plaintext",  # Markdown takes as long to import as all else together
    default_parameter=Parameter(consume_multiple=1, negative_iterable=""),  # a list has one value at least
    suppress_keyboard_interrupt=False,  # main() says that it was interrupted
)
app.meta.suppress_keyboard_interrupt = False
data = App(name="data", help="Build, check and pack training data.")
app.command(data)
for _name, _verb in VERBS.items():
    app.command(f"unip.commands:{_name}", name=_name, help=_verb.help)
for _name, _verb in DATA_VERBS.items():
    data.command(f"unip.commands:data-{_name}", name=_name.replace("_", "-"), help=_verb.help)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[
        str | None, Parameter(help="Recipe: a file with settings, or a name that --recipes lists; options win over it.")
    ] = None,
    recipes: Annotated[bool, Parameter(help="List the recipes and suites that ship, and exit.", negative="")] = False,
) -> Any:
    if recipes:
        from unip.recipes import list_recipes

        app.console.print(list_recipes(tokens[0] if tokens else None))
        return None
    app.config = (functools.partial(_fill_from_recipe, config),) if config else ()
    try:
        return app(tokens, exit_on_error=False, print_error=False)
    finally:
        app.config = ()  # a recipe is one call's


def _fill_from_recipe(given: str, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    from cyclopts.config import Dict as FromDict  # here: most calls have no recipe

    from unip.files import read_yaml
    from unip.recipes import find_recipe

    path = find_recipe(given, " ".join(commands))
    recipe = read_yaml(path)
    known = [name.removeprefix("--").replace("-", "_") for argument in arguments for name in argument.names]
    for key in recipe:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "See --help for the settings there are."
            raise UnipError(f"unknown setting {key!r} in {path}", hint)
    if any("--epochs" in argument.names and argument.tokens for argument in arguments):
        recipe.pop("steps", None)  # options win over the recipe, and given steps would win over epochs
    for command in reversed(commands):  # a flat one would lose its key `data` to the command of that name
        recipe = {command: recipe}
    FromDict(recipe, source=str(path))(app, commands, arguments)


def main() -> None:
    """Run the command line; problems print one message and exit with 2, Ctrl-C and SIGTERM with 130.

    A stdout that cannot be written ends no work. That a reader such as ``head`` has left is no problem; a full disk is
    one that is told at the end.
    """
    try:
        _main()
    except KeyboardInterrupt:  # between two of its parts
        _say_interrupted()
        sys.exit(_STOPPED)


def _main() -> None:
    if _IS_PROGRAM:  # registered first, so called last: Python would let a signal kill it while it takes itself apart
        atexit.register(_ignore_signals)
    log.show()
    console = log.TerminalConsole(stderr=True, soft_wrap=True, emoji=False)
    app.console = app.meta.console = log.TerminalConsole()
    code: int | str | None = None
    problem: OSError | None = None
    try:
        _run(console)
    except SystemExit as end:
        code = end.code
    except log.CannotPrint as error:  # help
        problem = error
    if _IS_PROGRAM:  # what is left takes no time, and Python's end would print a traceback
        _leave_at_signals(code if isinstance(code, int) else 0)
    problem = log.flush_streams() or problem
    if problem is not None and problem.errno != errno.EPIPE:
        what = f"stdout cannot be written: {problem.strerror}"
        _complain(console, what, "Lines are missing there. Free some space, or send stdout elsewhere.")
        code = code or 2
    if code is not None:
        sys.exit(code)


def _run(console: Console) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # training has its own way of stopping, while it trains
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, only_here(_as_ctrl_c))
    sys.unraisablehook = _interrupt_again
    try:
        app.meta(exit_on_error=False, print_error=False)
    except UnipError as error:
        if not error.quiet:
            _complain(console, error.what, error.fix, mark="" if isinstance(error, Interrupted) else "error: ")
        sys.exit(error.exit_code)
    except ValidationError as error:
        from pydantic import ValidationError as PydanticError  # here: `unip --help` has no use for it

        from unip.config import describe_validation

        cause = error.__cause__
        what = describe_validation(cause) if isinstance(cause, PydanticError) else str(error)
        _complain(console, what, "See --help.")
        sys.exit(2)
    except CycloptsError as error:
        _complain(console, str(error), "See --help.")
        sys.exit(2)
    except KeyboardInterrupt:
        _complain(console, "interrupted", "", mark="")
        sys.exit(_STOPPED)
    else:
        torch = sys.modules.get("torch")  # not imported for this alone
        if torch and torch.distributed.is_initialized():  # of torchrun; NCCL complains when nobody ends it
            torch.distributed.destroy_process_group()


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    if _IS_PROGRAM and is_importing(frame):
        if outputs := sys.modules.get("unip.outputs"):  # not imported for this alone
            outputs.leave_folders()
        _say_interrupted()
        os._exit(_STOPPED)
    raise KeyboardInterrupt


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Repeat a Ctrl-C that came while Python ran a destructor, where it only prints exceptions and goes on."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        threading.Timer(0.05, _interrupt).start()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt() -> None:
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:  # a real signal, which ends the waiting for one thing or another
        os.kill(os.getpid(), signal.SIGINT)


def _complain(console: Console, what: str, fix: str, mark: str = "error: ") -> None:
    with suppress(OSError):  # stderr cannot be written either; the exit code says that something is wrong
        console.print(f"{mark}{what}", style="bold red" if mark else "bold", highlight=False, markup=False)
        if fix:
            console.print(fix, highlight=False, markup=False)
