"""Print the tests of the rooms that a change touches: ``python tools/touched_tests.py [BASE]``, for ``make check``.

A change is what differs from where the branch left main, committed or not. Rooms above those touched are left to
``make test``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALWAYS = ("tests/test_api.py", "tests/test_architecture.py", "tests/test_docs.py")  # quick, and of the whole package
OF_RECIPES = ("tests/test_recipes.py", "tests/suites/test_suites.py", "tests/data/manifests/test_recipe.py")


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints; none where it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def base_of(name: str | None) -> str:
    """Return the commit that a change starts from.

    Args:
        name: A commit. None is where the branch left main, or, on main itself, what is on the server.
    """
    if name is None:
        mains = ("origin/main",) if git("branch", "--show-current") == ["main"] else ("main", "origin/main")
        return next((line for main in mains for line in git("merge-base", "HEAD", main)), "HEAD")
    if not git("rev-parse", "--verify", f"{name}^{{commit}}"):
        print(f"git knows no commit {name}", file=sys.stderr)
        sys.exit(2)
    return name


def changed_files(base: str) -> set[str]:
    """Return the files that differ from a commit, new ones included."""
    return {*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")}


def select_tests(files: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return the test files that belong to changed files.

    Args:
        files: Paths relative to the repository.
        root: The repository.

    Returns:
        Paths relative to the repository, sorted, each once.
    """
    found = {test for file in files for test in _select_for(Path(file), root)}
    return sorted(name for name in {*ALWAYS, *found} if (root / name).is_file())


def _select_for(file: Path, root: Path) -> Iterator[str]:
    top, *inner = file.parts
    if (top, *inner[:2]) == ("src", "unip", "recipes"):
        yield from OF_RECIPES
    elif top == "src" and len(inner) > 2:  # src/unip/ROOM/...
        yield from _tests_in(next(path for path in (root / "tests" / Path(*inner[1:])).parents if path.is_dir()), root)
    elif top == "src" and file.suffix in (".py", ".pyi"):  # beside the rooms: whatever test beside the rooms names it
        yield from _naming("unip" if file.stem == "__init__" else f"unip.{file.stem}", root)
    elif top == "tests" and re.fullmatch(r"test_.*\.py", file.name):
        yield file.as_posix()
    elif top == "tests" and len(inner) > 1:  # fixtures and files that tests of a room share
        yield from _tests_in(root / file.parent, root)
    elif top == "docs":
        yield "tests/suites/test_docs.py"
    elif top == "tools":
        yield from _naming(file.stem, root)


def _naming(module: str, root: Path) -> Iterator[str]:
    """Yield the tests beside the rooms that name a module."""
    named = re.compile(rf"\b{re.escape(module)}\b")
    for path in (root / "tests").glob("test_*.py"):
        if named.search(path.read_text(encoding="utf-8")):
            yield path.relative_to(root).as_posix()


def _tests_in(folder: Path, root: Path) -> Iterator[str]:
    """Yield the tests of one room, without those of rooms in it."""
    yield from (path.relative_to(root).as_posix() for path in folder.glob("test_*.py"))


if __name__ == "__main__":
    print(*select_tests(changed_files(base_of(sys.argv[1] if len(sys.argv) > 1 else None))))
