"""Pre-train, understand, fine-tune and deploy Vision Transformers for infrared semantic segmentation.

The verbs of the command line are functions here, with the same names and settings: ``unip.analyze(models=..., ...)``,
``unip.data.check(sources=..., ...)``. Editors and type checkers read their settings in ``__init__.pyi``.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from unip.errors import Interrupted as Interrupted
from unip.errors import UnipError as UnipError
from unip.verbs import VERBS, function_of
from unip.version import __version__ as __version__

__all__ = ["Interrupted", "UnipError", "__version__", "data", "log", *VERBS]

logging.getLogger("unip").addHandler(logging.NullHandler())  # a library is quiet until its caller asks: see unip.log


def __getattr__(name: str) -> Any:
    """Make a verb's function when it is first used: `import unip` stays instant."""
    found = import_module(f"unip.{name}") if name in ("data", "log") else function_of(name, __name__, VERBS)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
