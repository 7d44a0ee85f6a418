"""The recipes and suites that ship: the YAML files of this folder, each found by its name alone."""

from __future__ import annotations

import difflib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unip.errors import UnipError
from unip.files import read_lines
from unip.paths import is_file, lexists

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
USAGE = {  # how a recipe of each verb is given
    "pretrain": "pretrain --config NAME",
    "finetune": "finetune --config NAME",
    "bench": "bench NAME",
    "data build": "data build NAME",
}


@dataclass(frozen=True)
class ShippedRecipe:
    """One file of this folder.

    Attributes:
        name: What it is called on the command line.
        verb: What it is for, such as ``pretrain`` or ``data build``: the first line of the file is its command.
        summary: The first sentence of its first comment.
        file: Where it is.
    """

    name: str
    verb: str
    summary: str
    file: Path


def shipped_recipes(verb: str | None = None) -> list[ShippedRecipe]:
    """Return the recipes of a verb (None: of all verbs) by their names."""
    files = sorted([*HERE.glob("*.yaml"), *HERE.glob("suites/*.yaml")], key=lambda file: file.stem)
    return [one for one in map(_read_head, files) if verb in (None, one.verb)]


def _read_head(file: Path) -> ShippedRecipe:
    command, *lines = read_lines(file)
    found = re.match(r"# unip (data \w+|\w+)", command)
    if found is None:
        raise ValueError(f"the first line of {file} is not its command: {command!r}")
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    sentence = re.split(r"(?<=\.)\s", " ".join(comment).strip(), maxsplit=1)[0]
    return ShippedRecipe(file.stem, found[1], sentence, file)


def find_recipe(given: str, verb: str | None = None) -> Path:
    """Return the file that a recipe is read from.

    With a separator or a suffix it is a path. A bare word is the name of a recipe that ships; where the working folder
    has a file of that name too, the log says that it is not used.

    Args:
        given: A path or a name.
        verb: Whose recipe it must be, if it ships; None: any verb's.

    Raises:
        UnipError: There is no recipe of that name; the names are listed, the nearest first.
    """
    shipped = {one.name: one for one in shipped_recipes()}
    path = Path(given)
    if path.suffix or any(mark in given for mark in (os.sep, "/")):
        if path.stem in shipped and not lexists(path):
            raise UnipError(f"there is no file {given}", f"The recipe that ships with unip is just {path.stem}.")
        return path
    beside = next((file for file in (given, *map(given.__add__, SUFFIXES)) if is_file(file)), None)
    found = shipped.get(given)
    if found is not None and verb in (None, found.verb):
        if beside is not None:
            log.info(f"{given} is the recipe that ships with unip, not the file {beside} here: that is ./{beside}")
        return found.file
    if beside == given:
        return path
    names = [one.name for one in shipped.values() if verb in (None, one.verb)]
    near = difflib.get_close_matches(given, names, n=len(names) or 1, cutoff=0.5)
    listed = ", ".join([*near, *(name for name in names if name not in near)])
    what = f"no recipe{f' of unip {verb}' if verb else ''} is named {given}"
    if found is not None:
        what = f"{given} is a recipe of unip {found.verb}" + (f", not of unip {verb}" if verb else "")
    file = f"The file {beside} here is ./{beside}. " if beside else ""
    ship = f"Those that ship: {listed}. For a file, write its path with the suffix."
    raise UnipError(what, file + (ship if names else "None ships: give a file."))


def list_recipes(verb: str | None = None) -> Table:
    """Return the recipes of a verb (the first word is enough), or of all, as a table for people.

    Raises:
        UnipError: None ships for the verb.
    """
    from rich.table import Column, Table  # here: most calls have no use for it

    found = [one for one in shipped_recipes() if verb in (None, one.verb, one.verb.split()[0])]
    if not found:
        raise UnipError(f"no recipe ships for unip {verb}", "`unip --recipes` lists those of the other verbs.")
    caption = f"They are files in {HERE}. To change one, copy it and give the path of the copy."
    table = Table(Column("name", no_wrap=True), "what it does", title="Recipes", caption=caption)
    for one, usage in USAGE.items():
        rows = [recipe for recipe in found if recipe.verb == one]
        if rows:
            table.add_section()
            table.add_row(f"unip {usage}", style="bold")
        for recipe in rows:
            table.add_row(f"  {recipe.name}", recipe.summary)
    return table
