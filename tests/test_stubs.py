"""The stub files that editors read are those of the configs, and say what the functions say at run time."""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import BeforeValidator, Field

import unip
from unip.config import Config, NameOrPath
from unip.signatures import input_type, signature_of
from unip.verbs import DATA_VERBS, VERBS

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import write_stubs

PLACES = [(unip, name) for name in VERBS] + [(unip.data, name) for name in DATA_VERBS]
NAMES = [f"{module.__name__}.{name}" for module, name in PLACES]
STUBS = {unip: write_stubs.SOURCES / "__init__.pyi", unip.data: write_stubs.SOURCES / "data/__init__.pyi"}
WORDS = {"os": os, "Literal": Literal, "Mapping": Mapping, "Sequence": Sequence}


def declared(module: Any, name: str) -> list[ast.FunctionDef]:
    """Return the overloads of a function in the stub of a module."""
    tree = ast.parse(STUBS[module].read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]


def parameters_of(node: ast.FunctionDef) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, type and default of what is given by keyword."""
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        value = inspect.Parameter.empty if default is None else ast.literal_eval(default)
        yield argument.arg, eval(ast.unparse(argument.annotation), WORDS), value


@pytest.mark.parametrize("path", STUBS.values(), ids=["unip", "unip.data"])
def test_stubs_are_fresh(path):
    assert path.read_text(encoding="utf-8") == write_stubs.stubs()[path], "stale: run make stubs"


@pytest.mark.parametrize(("module", "name"), PLACES, ids=NAMES)
def test_the_stub_has_the_signature_of_the_function(module, name):
    signature = inspect.signature(getattr(module, name))
    first, *_ = declared(module, name)
    found = {name: (kind, default) for name, kind, default in parameters_of(first)}
    _, dry_run = found.pop("dry_run")
    expected = {p.name: (p.annotation, p.default) for p in signature.parameters.values()}
    assert dry_run is expected.pop("dry_run")[1] is False
    assert found == expected
    assert list(signature.parameters)[-2:] == ["overwrite", "dry_run"] or name in ("pretrain", "finetune", "models")
    assert all(p.kind is p.KEYWORD_ONLY for p in signature.parameters.values())


@pytest.mark.parametrize(("module", "name"), PLACES, ids=NAMES)
def test_every_setting_has_its_line_of_help(module, name):
    fields = (VERBS | DATA_VERBS)[name].load_settings().model_fields
    for docstring in (inspect.getdoc(getattr(module, name)), ast.get_docstring(declared(module, name)[0])):
        section = docstring.split("Args:\n")[1].split("\n\n")[0]
        lines = [line.split(": ", 1) for line in section.splitlines() if line[:4].isspace() and line[4] != " "]
        assert {line[0].strip() for line in lines} == fields.keys()
        for setting, text in lines:
            assert len(text) > 8 and " ".join(fields[setting.strip()].description.split()).startswith(text), setting


@pytest.mark.parametrize(("module", "name"), PLACES, ids=NAMES)
def test_only_a_dry_run_returns_none(module, name):
    overloads = declared(module, name)
    returned = {}
    for node in overloads:
        kinds = {argument.arg: ast.unparse(argument.annotation) for argument in node.args.kwonlyargs}
        returned.setdefault(kinds["dry_run"], set()).add(ast.unparse(node.returns))
    results = returned.pop("Literal[False]", None) or returned["bool"]
    (result,) = results
    assert "None" not in result
    assert returned in ({"bool": {result}}, {"bool": {f"{result} | None"}, "Literal[True]": {"None"}})


def test_there_is_no_any():
    for path in STUBS.values():
        names = {
            node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)
        }
        assert not names & {"Any", "object"}


def test_the_package_says_that_it_is_typed():
    assert (write_stubs.SOURCES / "py.typed").exists()


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (int, "int"),
        (Path | None, "str | os.PathLike[str] | None"),
        (Annotated[int, Field(ge=1)] | Literal["auto"], "int | Literal['auto']"),
        (Literal["auto"] | Literal["a", "b"], "Literal['auto', 'a', 'b']"),
        (tuple[Path, ...], "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"),
        (tuple[NameOrPath, ...], "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"),
        (tuple[int, ...] | None, "int | Sequence[int] | None"),
        (tuple[Literal["auto"] | int, ...], "Literal['auto'] | int | Sequence[Literal['auto'] | int]"),
        (tuple[float, float], "tuple[float, float] | list[float]"),
        (Annotated[str, BeforeValidator(str, json_schema_input_type=int | str)], "int | str"),
    ],
)
def test_types_of_what_is_given(kind, given):
    assert write_stubs.render_type(input_type(kind)) == given
    assert eval(given, WORDS) == input_type(kind)


def test_order_of_settings():
    class First(Config):
        out: Path
        seed: int = 0

    class Second(First):
        data: Path = Path("here")
        model: str

    signature = signature_of(Second)
    assert list(signature.parameters) == ["model", "out", "data", "seed"]
    assert signature.parameters["data"].default == "here"
    assert get_args(signature.parameters["out"].annotation)[0] is str
