"""The verbs are functions of the package itself, imported when they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import unip
from unip import cli, commands
from unip.commands import DATA_VERBS, VERBS


@pytest.mark.parametrize("name", sorted(unip._VERBS))
def test_every_verb_is_a_function_of_the_package(name):
    assert callable(getattr(unip, name))
    assert (VERBS[name].module, VERBS[name].function) == (unip._VERBS[name], name)
    assert name in dir(unip)


def test_every_verb_of_the_command_line_is_there():
    commands = {name for name in cli.app if not name.startswith("-")} - {"data"}
    assert commands == set(unip._VERBS)


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        unip.nonsense  # noqa: B018


@pytest.mark.parametrize(
    "act", ["import unip", "from unip.cli import app; app.meta(['--help'])", "import unip.commands"]
)
def test_importing_the_package_imports_no_torch(act):
    code = f"import sys\ntry:\n    {act}\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("name", [*VERBS, *DATA_VERBS])
def test_every_command_has_its_settings(name):
    place = cli.app if name in VERBS else cli.app["data"]
    names = {option for argument in place[name].assemble_argument_collection() for option in argument.names}
    command = (VERBS | DATA_VERBS)[name]
    fields = getattr(import_module(command.module), command.config).model_fields
    assert {"--" + field.replace("_", "-") for field in fields} <= names


def test_settings_that_may_be_given_without_their_names():
    """`unip finetune` has many, so an order of them would only mislead; `unip data thermal-sdk FOLDER` has one."""
    by_name = {name for name, command in (VERBS | DATA_VERBS).items() if not command.positional}
    assert by_name == {"pretrain", "finetune", "demo", "split", "scenes"}


def test_other_commands_are_missing():
    assert not hasattr(commands, "nonsense")
    assert hasattr(commands, "data-build") and not hasattr(commands, "build")
