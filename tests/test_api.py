"""The verbs are functions of the package itself, whose code is imported when they are called."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import unip
from unip import cli, commands
from unip.verbs import DATA_VERBS, VERBS

PLACES = [(unip, name, verb) for name, verb in VERBS.items()]
PLACES += [(unip.data, name, verb) for name, verb in DATA_VERBS.items()]
NAMES = [f"{module.__name__}.{name}" for module, name, _ in PLACES]


def lines_of(code: str) -> list[str]:
    """Run code in a new process; return the lines that it prints."""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(("module", "name", "verb"), PLACES, ids=NAMES)
def test_every_verb_is_a_function_of_the_package(module, name, verb):
    function = getattr(module, name)
    assert name in dir(module)
    assert inspect.isfunction(function) and function is getattr(module, name)
    assert pickle.loads(pickle.dumps(function)) is function
    assert function.__doc__.startswith(verb.help)


@pytest.mark.parametrize(("module", "name", "verb"), PLACES, ids=NAMES)
def test_every_verb_is_where_the_table_says(module, name, verb):
    home, _, function = verb.function.rpartition(".")
    program = getattr(import_module(home), function)
    (config,) = inspect.signature(program.__wrapped__).parameters.values()
    assert config.annotation == verb.load_settings().__name__  # results, annotated too, need torch
    assert inspect.signature(program) == inspect.signature(getattr(module, name))


def test_no_module_has_the_name_of_a_verb():
    """A module that is imported becomes an attribute of its package, in place of the verb."""
    for package, verbs in ((unip, VERBS), (unip.data, DATA_VERBS)):
        modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
        assert not modules & verbs.keys()


def test_every_verb_of_the_command_line_is_there():
    assert {name for name in cli.app if not name.startswith("-")} - {"data"} == set(VERBS)
    of_data = {name for name in cli.app["data"] if not name.startswith("-")}
    assert of_data == {name.replace("_", "-") for name in DATA_VERBS}


def test_what_the_package_lists():
    assert dir(unip) == sorted(
        [*VERBS, "data", "log", "load", "Interrupted", "Model", "Result", "UnipError", "__version__"]
    )
    assert dir(unip.data) == sorted(DATA_VERBS)
    assert issubclass(unip.Interrupted, unip.UnipError)


@pytest.mark.parametrize("module", [unip, unip.data])
def test_other_names_are_missing(module):
    with pytest.raises(AttributeError, match=rf"module '{module.__name__}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


@pytest.mark.parametrize(
    "act", ["import unip", "import unip.data", "import unip.commands", "import unip; dir(unip), dir(unip.data)"]
)
def test_importing_the_package_imports_no_torch(act):
    heavy = {"torch", "pydantic", "cyclopts"} - ({"pydantic", "cyclopts"} if "commands" in act else set())
    assert lines_of(f"{act}; import sys; print({heavy} & sys.modules.keys())") == ["set()"]


def test_the_help_of_the_command_line_imports_no_torch():
    code = "import sys\nfrom unip.cli import app\ntry: app.meta(['--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    assert lines_of(code)[-1] == "False"


REFUSED = """
import sys, unip
for module, names in ((unip, {verbs}), (unip.data, {data_verbs})):
    for name in names:
        try:
            getattr(module, name)(dry_rnu=True)
        except unip.UnipError as error:
            print(name, error.fix, "torch" in sys.modules)
"""


def test_a_misspelt_setting_is_refused_before_torch_is_imported():
    found = lines_of(REFUSED.format(verbs=list(VERBS), data_verbs=list(DATA_VERBS)))
    assert found == [f"{name} Did you mean 'dry_run'? False" for name in [*VERBS, *DATA_VERBS]]


@pytest.mark.parametrize("name", [*VERBS, *DATA_VERBS])
def test_every_command_has_its_settings(name):
    place = cli.app[name] if name in VERBS else cli.app["data"][name.replace("_", "-")]
    names = {option for argument in place.assemble_argument_collection() for option in argument.names}
    fields = (VERBS | DATA_VERBS)[name].load_settings().model_fields
    assert {"--" + field.replace("_", "-") for field in fields} <= names


def test_settings_that_may_be_given_without_their_names():
    """`unip finetune` has many, so an order of them would only mislead; `unip data thermal-sdk FOLDER` has one."""
    by_name = {name for name, verb in (VERBS | DATA_VERBS).items() if not verb.positional}
    assert by_name == {"pretrain", "finetune", "demo", "split", "scenes"}


def test_other_commands_are_missing():
    assert not hasattr(commands, "nonsense")
    assert hasattr(commands, "data-build") and not hasattr(commands, "build")
