from __future__ import annotations

from collections import UserList
from pathlib import Path

import pytest

from unip.config import Config, NameOrPath, verb
from unip.errors import UnipError


class Recipe(Config):
    teacher: str
    steps: int = 10
    out: Path = Path("runs")


@verb(Recipe)
def run(config: Recipe) -> int:
    """Return the steps."""
    return config.steps


def test_yaml_round_trip_and_overrides(tmp_path):
    path = tmp_path / "recipe.yaml"
    recipe = Recipe.make(teacher="a", steps=3)
    path.write_text(recipe.to_yaml())
    assert Recipe.from_yaml(path) == recipe
    assert Recipe.from_yaml(path, steps=4).steps == 4


def test_unknown_key_names_the_nearest():
    with pytest.raises(UnipError, match=r"unknown setting 'stesp' of Recipe\nDid you mean 'steps'"):
        Recipe.make(teacher="a", stesp=1)
    with pytest.raises(UnipError, match="Known: teacher, steps, out"):
        Recipe.make(teacher="a", zzz=1)


def test_bad_values_are_one_line_each():
    with pytest.raises(UnipError) as caught:
        Recipe.make(steps="many")
    first, second = caught.value.what.splitlines()
    assert first == "teacher: field required"
    assert second.startswith("steps: input should be a valid integer")
    assert second.endswith("got 'many'")
    assert caught.value.fix == "See the fields of Recipe."


def test_configs_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        Recipe.make(teacher="a").steps = 5


class Some(Config):
    models: tuple[NameOrPath, ...] = ()
    images: tuple[Path, ...] | None = None
    layers: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    size: tuple[int, int] = (1, 1)
    model: NameOrPath = "vit"
    out: Path = Path("runs")


class Where:
    """Path-like, and no ``Path``."""

    def __fspath__(self) -> str:
        return "a/b"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"models": "vit"}, ("vit",)),
        ({"models": Path("vit")}, ("vit",)),
        ({"models": [Path("vit"), "swin"]}, ("vit", "swin")),
        ({"models": Where()}, ("a/b",)),
        ({"models": UserList(["vit"])}, ("vit",)),
        ({"images": "a.png"}, (Path("a.png"),)),
        ({"images": Path("a.png")}, (Path("a.png"),)),
        ({"images": (Where(), "c")}, (Path("a/b"), Path("c"))),
        ({"images": None}, None),
        ({"layers": 3}, (3,)),
        ({"layers": range(2)}, (0, 1)),
        ({"layers": ()}, ()),
        ({"shares": 0.5}, (0.5,)),
        ({"size": [2, 3]}, (2, 3)),
        ({"model": Path("vit")}, "vit"),
        ({"model": Where()}, "a/b"),
        ({"out": Where()}, Path("a/b")),
    ],
)
def test_one_is_taken_where_many_are_and_anything_that_names_a_path(given, taken):
    (name,) = given
    assert getattr(Some.make(**given), name) == taken
    assert Some.make(**given) == Some.make(**{name: taken})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 2}, "size: input should be a valid tuple, got 2"),
        ({"size": [2, 3, 4]}, "size: "),
        ({"images": {"a": 1}}, "images: "),
        ({"layers": "x"}, "layers: input should be a valid integer.*, got 'x'"),
        ({"models": 3}, "models: input should be a valid string, got 3"),
        ({"model": ["vit"]}, "model: input should be a valid string"),
    ],
)
def test_what_is_neither_one_nor_many(given, message):
    with pytest.raises(UnipError, match=message):
        Some.make(**given)


def test_verb_takes_a_config_or_its_fields():
    assert run(Recipe.make(teacher="a", steps=7)) == 7
    assert run(teacher="a", steps=8) == 8
    with pytest.raises(TypeError, match="not both"):
        run(Recipe.make(teacher="a"), steps=8)
    with pytest.raises(TypeError, match="run takes a Recipe or keyword arguments, not 'a'"):
        run("a")
    with pytest.raises(TypeError, match="run takes a Recipe or keyword arguments, not Some"):
        run(Some())
    with pytest.raises(TypeError, match="run takes its settings as keyword arguments, or one Recipe"):
        run("a", 3)


class Dry(Config):
    dry_run: bool = False


@verb(Dry)
def try_out(config: Dry) -> int | None:
    return None if config.dry_run else 1


def test_a_dry_run_is_said_in_the_call():
    """So a call without it has a result, whatever the config holds."""
    assert (try_out(), try_out(Dry()), try_out(Dry(), dry_run=False)) == (1, 1, 1)
    assert try_out(dry_run=True) is None and try_out(Dry(), dry_run=True) is None
    assert try_out(Dry(dry_run=True), dry_run=True) is None
    with pytest.raises(UnipError, match=r"dry_run is set in the config\nWrite try_out\(config, dry_run=True\)"):
        try_out(Dry(dry_run=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not valid YAML"), ("- a\n- b\n", "must hold `key: value` lines, but holds a list")],
)
def test_bad_yaml(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UnipError, match=message):
        Recipe.from_yaml(path)


def test_missing_yaml(tmp_path):
    with pytest.raises(UnipError, match=r"cannot read .*none.yaml: No such file"):
        Recipe.from_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["file.txt", b"file.txt", None])
def test_what_may_not_be_read_is_one_message(name):
    """Wherever a verb comes upon it."""

    @verb(Recipe)
    def denied(config: Recipe) -> int:
        raise PermissionError(13, "Permission denied", *([] if name is None else [name]))

    for call in (lambda: denied(teacher="a"), lambda: denied(Recipe.make(teacher="a"))):
        with pytest.raises(UnipError, match=r"cannot read or write (file\.txt|a file): Permission denied"):
            call()
