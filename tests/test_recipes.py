from __future__ import annotations

import re
from pathlib import Path

import pytest

from unip.cli import app
from unip.config import Config
from unip.errors import UnipError
from unip.files import read_yaml
from unip.pretraining.config import PretrainConfig
from unip.segmentation.config import FinetuneConfig

FOLDER = Path(__file__).parent.parent / "recipes"
# Those of `unip data build` hold sources, not settings: see tests/data/manifests/test_recipe.py.
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if not path.read_text("utf-8").startswith("# unip data build"))
CONFIGS: dict[str, type[Config]] = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="recipes/ is not beside the tests")


def verb_of(recipe: Path) -> str:
    """Return the verb that the recipe's first line names."""
    first = recipe.read_text(encoding="utf-8").splitlines()[0]
    found = re.match(r"# unip (\w+)\b", first)
    assert found, f"{recipe.name}: the first line must name its verb, but is {first!r}"
    return found[1]


def load(name: str) -> Config:
    path = FOLDER / f"{name}.yaml"
    return CONFIGS[verb_of(path)].from_yaml(path)


def test_there_are_recipes_for_both_programs() -> None:
    assert {verb_of(recipe) for recipe in RECIPES} == set(CONFIGS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_shows_its_command(recipe: Path) -> None:
    assert f"unip {verb_of(recipe)} --config recipes/{recipe.name}" in recipe.read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_parses_and_every_key_takes_effect(recipe: Path) -> None:
    config = load(recipe.stem).model_dump(mode="json")
    for key, value in read_yaml(recipe).items():
        assert config[key] == value, key


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_with_an_unknown_key_is_refused(recipe: Path, tmp_path: Path) -> None:
    wrong = tmp_path / recipe.name
    wrong.write_text(recipe.read_text(encoding="utf-8") + "\nweight_decy: 0.1\n", encoding="utf-8")
    with pytest.raises(UnipError, match="Did you mean 'weight_decay'"):
        CONFIGS[verb_of(recipe)].from_yaml(wrong)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_command_line_takes_a_recipe(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "config", ())  # a call leaves its recipe there
    gone = tmp_path / "no-such-data"
    command = [verb_of(recipe), "--config", str(recipe), "--data", str(gone), "--device", "cpu", "--precision", "fp32"]
    with pytest.raises(UnipError, match="no-such-data"):  # the first thing that a program looks at
        app.meta([*command, "--dry-run"], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("student", ["tiny", "small", "base"])
def test_the_papers_pretraining(student: str) -> None:
    config = load(f"pretrain_paper_{student}")
    assert isinstance(config, PretrainConfig)
    assert (config.student, config.targets()) == (f"unip_{student}", [("timm:vit_large_patch16_224.mae", 18, 1.0, 1)])
    assert (config.epochs, config.batch_size, config.lr, config.warmup) == (100, 4096, "auto", "auto")
    assert (config.size, config.scale, config.weight_decay, config.drop_path) == (224, (0.2, 1.0), 0.05, 0.1)


def test_the_papers_finetuning() -> None:
    config = load("finetune_paper")
    assert isinstance(config, FinetuneConfig)
    assert (config.decoder, config.pyramid, config.auxiliary_weight) == ("upernet", "llfpn", 0.4)
    assert (config.epochs, config.batch_size, config.crop, config.lr, config.warmup) == (100, 8, 512, 1e-4, 1500)
    assert (config.base, config.ratio, config.cat_max_ratio) == ((2048, 512), (0.5, 2.0), 0.75)
    assert (config.layer_decay, config.power, config.drop_path) == ("auto", 1.0, 0.1)
