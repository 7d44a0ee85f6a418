"""Write ``src/unip/__init__.pyi`` and ``src/unip/data/__init__.pyi`` from the configs of the verbs.

Editors and type checkers read every setting there, with its type, default and help. Run it after a setting, its help, a
verb or its docstring has changed: ``make stubs`` (a test fails until then).
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from unip.config import Config
from unip.signatures import members, settings_help, signature_of
from unip.verbs import DATA_VERBS, VERBS, Verb, how_to_call

SOURCES = Path(__file__).parents[1] / "src" / "unip"

HEAD = '''"""{title}

Made by ``make stubs`` from the configs of the verbs; do not edit.
"""

'''
PACKAGE = """
from unip import data as data
from unip import log as log
from unip.deployment.loading import load as load
from unip.deployment.model import Model as Model
from unip.deployment.result import Result as Result
from unip.errors import Interrupted as Interrupted
from unip.errors import UnipError as UnipError
from unip.version import __version__ as __version__
"""


def stubs() -> dict[Path, str]:
    """Return the text of each stub file."""
    return {
        SOURCES / "__init__.pyi": stub("The verbs of the command line, with their settings.", VERBS, PACKAGE),
        SOURCES / "data" / "__init__.pyi": stub("The verbs of `unip data`, with their settings.", DATA_VERBS),
    }


def stub(title: str, verbs: Mapping[str, Verb], extra: str = "") -> str:
    """Return a stub file with the functions of some verbs, in the order and layout of the linter."""
    functions = [render_verb(name, verb) for name, verb in verbs.items()]
    imported = {place for _, places in functions for place in places}
    lines = [f"from {module} import {name}" for module, name in sorted(imported)]
    text = HEAD.format(title=title) + "import os\nfrom collections.abc import Mapping, Sequence\n"
    text += "from typing import Literal, overload\n\n" + "\n".join(lines) + extra + "\n"
    text += "\n".join(body for body, _ in functions)
    return tidy(text)


def render_verb(name: str, verb: Verb) -> tuple[str, set[tuple[str, str]]]:
    """Return the declarations of a verb, and the classes in them as module and name."""
    settings = verb.load_settings()
    module, _, function = verb.function.rpartition(".")
    program = getattr(import_module(module), function)
    result, may_be_none = result_of(program)
    docstring = render_docstring(name, program, settings)
    needed = {(settings.__module__, settings.__name__), (result.__module__, result.__name__)}
    given = f"config: {settings.__name__}, /, *, dry_run: "
    named = "*, " + render_parameters(settings) + "dry_run: "
    if may_be_none:  # of a dry run
        declared = [
            (f"{named}Literal[False] = False", result.__name__),
            (f"{named}Literal[True]", "None"),
            (f"{named}bool", f"{result.__name__} | None"),
            (f"{given}Literal[False] = False", result.__name__),
            (f"{given}Literal[True]", "None"),
            (f"{given}bool", f"{result.__name__} | None"),
        ]
    else:
        declared = [(f"{named}bool = False", result.__name__), (f"{given}bool = False", result.__name__)]
    first, *others = [f"@overload\ndef {name}({inside}) -> {returned}:" for inside, returned in declared]
    text = f"{first}\n{textwrap.indent(docstring, '    ')}\n"
    return text + "".join(f"{other} ...\n" for other in others), needed


def result_of(program: Callable[..., Any]) -> tuple[type, bool]:
    """Return the class of a verb's result, and whether None is returned for a dry run."""
    function = inspect.unwrap(program)
    returned = members(typing.get_type_hints(function, localns=typed_imports(function.__module__))["return"])
    (result,) = (kind for kind in returned if kind is not types.NoneType)
    return result, types.NoneType in returned


def typed_imports(module: str) -> dict[str, Any]:
    """Return what a module imports for type checkers alone: its results, which need torch."""
    tree = ast.parse(Path(import_module(module).__file__ or "").read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {
        name.name: getattr(import_module(node.module or ""), name.name)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def render_docstring(name: str, program: Callable[..., Any], settings: type[Config]) -> str:
    """Return the program's docstring with the help of the settings in it, as source text."""
    text = re.sub(r"\n\nArgs:\n.*?(?=\n\n|$)", "", inspect.getdoc(program) or "", flags=re.DOTALL)
    start = re.search(r"\n\n(Returns|Raises):\n", text)
    about, rest = (text[: start.start()], text[start.start() :]) if start else (text, "")
    text = f"{about}\n\n{how_to_call(name, settings)}\n\n{settings_help(settings)}{rest}"
    return f'r"""{text}\n"""' if "\\" in text else f'"""{text}\n"""'


def render_parameters(settings: type[Config]) -> str:
    """Return the settings but ``dry_run`` as parameters in source text."""
    texts = []
    for parameter in signature_of(settings).parameters.values():
        if parameter.name != "dry_run":
            default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
            texts.append(f"{parameter.name}: {render_type(parameter.annotation)}{default}, ")
    return "".join(texts)


def render_type(kind: Any) -> str:
    """Return a type as source text that is the same with every version of Python."""
    if kind is types.NoneType:
        return "None"
    if len(members(kind)) > 1:
        return " | ".join(map(render_type, members(kind)))
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if origin is None:
        return str(kind.__name__)
    name = "os.PathLike" if origin.__name__ == "PathLike" else origin.__name__
    return f"{name}[{', '.join(map(render_type, inner))}]"


def tidy(text: str) -> str:
    """Return the text as the linter wants it: unused imports gone, sorted, formatted."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--fix", "--quiet", "--select=F401,I"], ["format"]):
        done = subprocess.run(
            [*ruff, *command, f"--stdin-filename={SOURCES / '__init__.pyi'}", "-"],
            input=text,
            stdout=subprocess.PIPE,
            check=True,
            encoding="utf-8",
        )
        text = done.stdout
    return text


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(SOURCES.parents[1])}: {len(text.splitlines())} lines")
