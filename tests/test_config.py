from __future__ import annotations

from pathlib import Path

import pytest

from unip.config import Config, verb
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


def test_verb_takes_a_config_or_its_fields():
    assert run(Recipe.make(teacher="a", steps=7)) == 7
    assert run(teacher="a", steps=8) == 8
    with pytest.raises(TypeError, match="not both"):
        run(Recipe.make(teacher="a"), steps=8)


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
