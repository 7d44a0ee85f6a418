"""The floors of the house: a room imports only from floors below it, and no two modules import each other."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"

# From the top down; rooms on one line share a floor and know nothing of each other. A room is a folder with all that is
# below it, unless a folder in it is a room too. A new room gets its place here.
FLOORS = (
    ("unip",),  # the package itself, cli.py and commands.py
    ("unip/demonstration",),
    ("unip/suites",),
    ("unip/analysis",),
    ("unip/deployment",),
    ("unip/segmentation",),
    ("unip/pretraining",),
    ("unip/features",),
    ("unip/attention",),
    ("unip/training",),
    ("unip/vit",),
    ("unip/zoo",),
    ("unip/data",),
    ("unip/data/sampling",),
    ("unip/data/corruptions", "unip/data/labelled", "unip/data/manifests", "unip/data/synthetic"),
    ("unip/data/images",),
    ("unip/runtime",),
    ("ground",),
)
GROUND = (  # modules beside the rooms
    "config",
    "documents",
    "errors",
    "files",
    "hints",
    "limits",
    "lock",
    "log",
    "opening",
    "written",
    "output_folder",
    "outputs",
    "paths",
    "pages",
    "progress",
    "recipes",
    "signatures",
    "verbs",
    "version",
)
TOP = ("", "__main__", "cli", "commands")

FLOOR_OF = {room: number for number, floor in enumerate(reversed(FLOORS)) for room in floor}


@dataclass(frozen=True)
class Import:
    """One import of a module of the package by another, wherever it stands in the file."""

    file: Path
    line: int
    importer: str
    imported: str


def module_name(file: Path, sources: Path) -> str:
    """Return the dotted name of a file, that of the folder for an ``__init__.py``."""
    parts = file.relative_to(sources).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path, sources: Path, modules: set[str]) -> Iterator[Import]:
    """Yield what a file imports of the package; imports in functions and for type checkers count too."""
    own = module_name(file, sources)
    package = own if file.name == "__init__.py" else own.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            inner = [f"{module}.{alias.name}" for alias in node.names]
            found = [name if name in modules else module for name in inner]
        for name in dict.fromkeys(found):
            if name.split(".")[0] == "unip":
                yield Import(file, node.lineno, own, name)


def house(sources: Path) -> list[Import]:
    """Return all imports among the modules of the package."""
    files = sorted(sources.glob("unip/**/*.py"))
    modules = {module_name(file, sources) for file in files}
    return [found for file in files for found in imports_of(file, sources, modules)]


def room_of(module: str) -> str:
    """Return the room that a module belongs to.

    Raises:
        LookupError: It is in none.
    """
    inner = module.removeprefix("unip").removeprefix(".")
    if inner in TOP:
        return "unip"
    if inner in GROUND:
        return "ground"
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        if "/".join(parts[:length]) in FLOOR_OF:
            return "/".join(parts[:length])
    raise LookupError(f"{module} belongs to no room: put it into one, or give its room a place in FLOORS")


def wrong_arrows(arrows: list[Import]) -> list[str]:
    """Describe each import that does not lead to a lower floor."""
    found = []
    for arrow in arrows:
        above, below = room_of(arrow.importer), room_of(arrow.imported)
        if above == below or FLOOR_OF[above] > FLOOR_OF[below]:
            continue
        how = "on the same floor" if FLOOR_OF[above] == FLOOR_OF[below] else "above it"
        found.append(f"{arrow.file}:{arrow.line}: {above} imports {arrow.imported} from {below}, which is {how}")
    return found


def circles(arrows: list[Import]) -> list[str]:
    """Describe circles of modules, each by one way around."""
    graph: dict[str, dict[str, Import]] = {}
    for arrow in arrows:
        if arrow.imported != arrow.importer:
            graph.setdefault(arrow.importer, {}).setdefault(arrow.imported, arrow)
    found, done = [], set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            around = [*path[path.index(module) :], module]
            steps = [graph[one][two] for one, two in itertools.pairwise(around)]
            found.append(", ".join(f"{step.file}:{step.line} imports {step.imported}" for step in steps))
        elif module not in done:
            for imported in graph.get(module, {}):
                visit(imported, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return found


def test_every_module_is_in_a_room_and_every_room_is_there():
    rooms = {room_of(module_name(file, SOURCES)) for file in SOURCES.glob("unip/**/*.py")}
    assert rooms == set(FLOOR_OF)


def test_imports_lead_down():
    assert not wrong_arrows(house(SOURCES)), "\n".join(wrong_arrows(house(SOURCES)))


def test_no_circles():
    assert not circles(house(SOURCES)), "\n".join(circles(house(SOURCES)))


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("vit/a.py", "from unip.segmentation.model import x", "unip/vit imports unip.segmentation.model from unip/seg"),
        ("vit/a.py", "def f():\n    from unip.suites import grid", "a.py:2: unip/vit imports unip.suites.grid"),
        ("vit/a.py", "if TYPE_CHECKING:\n    import unip.attention.b", "a.py:2: unip/vit imports unip.attention.b"),
        ("vit/a.py", "import unip", "unip/vit imports unip from unip, which is above it"),
        ("vit/a.py", "from ..training import c", "unip/vit imports unip.training"),
        ("data/synthetic/a.py", "from unip.data.labelled.b import x", "which is on the same floor"),
        ("data/images/a.py", "from unip.data import checking", "unip/data/images imports unip.data.checking"),
        ("errors.py", "from unip.runtime.a import x", "ground imports unip.runtime.a from unip/runtime"),
        ("segmentation/a.py", "from unip.vit.b import x\nimport unip.files", ""),
        ("data/a.py", "from unip.data.sampling import order", ""),
    ],
)
def test_wrong_arrows_are_named(tmp_path, file, text, wrong):
    for place in (file, "suites/grid.py", "data/checking.py", "data/sampling/order.py"):
        (tmp_path / "unip" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unip" / place).write_text(text if place == file else "")
    found = wrong_arrows(house(tmp_path))
    assert wrong in found[0] if wrong else not found


def test_circles_are_named(tmp_path):
    (tmp_path / "unip" / "vit").mkdir(parents=True)
    for one, two in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / "unip" / "vit" / f"{one}.py").write_text(f"def f():\n    from unip.vit.{two} import x")
    (found,) = circles(house(tmp_path))
    assert all(f"{name}.py:2 imports unip.vit." in found for name in "abc")


def test_a_module_without_a_room_is_named():
    with pytest.raises(LookupError, match=r"unip\.attic\.chest belongs to no room"):
        room_of("unip.attic.chest")
