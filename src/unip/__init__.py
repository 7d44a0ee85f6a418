"""Pre-train, understand, fine-tune and deploy Vision Transformers for infrared semantic segmentation.

The verbs of the command line are functions here, with the same names and settings: ``unip.analyze(models=..., ...)``,
``unip.data.check(sources=..., ...)``. Editors and type checkers read their settings in ``__init__.pyi``.
``unip.load(model)`` returns a trained :class:`unip.Model` to be called.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the built-in part of `signal`, which would import `enum`
import os
import sys

_STOPPED = 130  # exit code
_FIRST = sys.argv[0] if sys.argv else ""  # "-m" as long as Python looks for the module that it runs
# workers that multiprocessing starts have the same argv, but not the same command
_IS_PROGRAM = (
    not {"unip", "-munip"}.isdisjoint(sys.orig_argv)
    if _FIRST == "-m"
    else os.path.basename(_FIRST) in ("unip", "unip.exe") and _FIRST in sys.orig_argv
)


def _leave_at_signals(code: int = _STOPPED) -> None:
    """Let SIGINT and SIGTERM, unless ignored, end this process at once: while it starts, and when its work is done."""

    def leave(*_: object) -> None:
        if code == _STOPPED:
            _say_interrupted()
        os._exit(code)

    for number in (_signal.SIGINT, _signal.SIGTERM):
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, leave)


def _say_interrupted() -> None:
    try:
        os.write(2, b"interrupted\n")  # no stream, as the code that was interrupted may be at work in it
    except OSError:  # nobody reads it
        return


if _IS_PROGRAM:  # before all other imports, of which a Ctrl-C would print a traceback. A library leaves signals alone
    _leave_at_signals()

import logging
from importlib import import_module
from typing import Any

from unip.errors import Interrupted as Interrupted
from unip.errors import UnipError as UnipError
from unip.hints import PACKAGE, missing
from unip.verbs import VERBS, function_of
from unip.version import __version__ as __version__

#: Where the names are that are no verbs.
PLACES = {"load": "unip.deployment.loading", "Model": "unip.deployment.model", "Result": "unip.deployment.result"}

__all__ = ["Interrupted", "UnipError", "__version__", "data", "log", *PLACES, *VERBS]

logging.getLogger("unip").addHandler(logging.NullHandler())  # a library is quiet until its caller asks: see unip.log


def __getattr__(name: str) -> Any:
    """Import or make what is named when it is first used: `import unip` stays instant."""
    found: Any
    if name in ("data", "log"):
        found = import_module(f"unip.{name}")
    elif name in PLACES:
        found = getattr(import_module(PLACES[name]), name)
    elif name in VERBS:
        found = function_of(name, __name__, VERBS)
    else:
        raise missing(f"module {__name__!r}", name, PACKAGE)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
