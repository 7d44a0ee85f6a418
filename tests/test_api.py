"""The verbs are functions of the package itself, imported when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import unip
from unip import cli


@pytest.mark.parametrize("name", sorted(unip._VERBS))
def test_every_verb_is_a_function_of_the_package(name):
    assert callable(getattr(unip, name))
    assert getattr(unip, name) is getattr(cli, name)
    assert name in dir(unip)


def test_every_verb_of_the_command_line_is_there():
    commands = {name for name in cli.app if not name.startswith("-")} - {"data"}
    assert commands == set(unip._VERBS)


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        unip.nonsense  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = "import sys, unip; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
