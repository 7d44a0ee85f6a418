from __future__ import annotations

import re
from pathlib import Path

import pytest

from unip.cli import app
from unip.config import Config
from unip.errors import UnipError
from unip.files import read_yaml
from unip.pretraining.adapting import TEACHER
from unip.pretraining.config import PretrainConfig
from unip.pretraining.recipes import START
from unip.recipes import HERE, find_recipe, list_recipes, shipped_recipes
from unip.segmentation.config import FinetuneConfig
from unip.suites.suite import read_suite
from unip.zoo.catalogue import zoo_model

FOLDER = HERE
# Those of `unip data build` hold sources, not settings: see tests/data/manifests/test_recipe.py.
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if not path.read_text("utf-8").startswith("# unip data build"))
CONFIGS: dict[str, type[Config]] = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}


def verb_of(recipe: Path) -> str:
    """Return the verb that the recipe's first line names."""
    first = recipe.read_text(encoding="utf-8").splitlines()[0]
    found = re.match(r"# unip (\w+)\b", first)
    assert found, f"{recipe.name}: the first line must name its verb, but is {first!r}"
    return found[1]


def load(name: str) -> Config:
    held = read_yaml(FOLDER / f"{name}.yaml")
    given = {} if "data" in held else {"data": "frames"}  # whose data are the user's
    return CONFIGS[verb_of(FOLDER / f"{name}.yaml")].from_yaml(name, **given)


def test_there_are_recipes_for_both_programs() -> None:
    assert {verb_of(recipe) for recipe in RECIPES} == set(CONFIGS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_shows_its_command(recipe: Path) -> None:
    assert f"unip {verb_of(recipe)} --config {recipe.stem}" in recipe.read_text(encoding="utf-8")


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


def test_adapt_is_the_recipe_of_that_name() -> None:
    config = load("adapt")
    assert isinstance(config, PretrainConfig)
    assert config.model_fields_set == {"recipe", "out"} | ({"data"} if "data" in config.model_fields_set else set())
    assert config.recipe == "adapt" and zoo_model(START) and zoo_model(TEACHER)


# Names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_file_that_ships_has_a_verb_a_sentence_and_a_name_of_its_own() -> None:
    shipped = shipped_recipes()
    assert {one.file for one in shipped} == set(HERE.rglob("*.yaml"))
    assert len({one.name for one in shipped}) == len(shipped)
    for one in shipped:
        assert one.summary.endswith((".", "?")) and not one.summary.startswith(("Weights from", "unip ")), one
        assert (one.verb == "bench") == (one.file.parent.name == "suites"), one
        assert find_recipe(one.name, one.verb) == one.file


@pytest.mark.parametrize("beside", [None, "adapt", "adapt.yaml", "adapt.yml"])
def test_a_bare_name_is_a_recipe_and_a_file_of_that_name_is_told(
    here: Path, beside: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "unip")
    if beside:
        (here / beside).write_text("seed: 1\n")
    assert find_recipe("adapt", "pretrain") == HERE / "adapt.yaml"
    told = f"adapt is the recipe that ships with unip, not the file {beside} here: that is ./{beside}"
    assert caplog.messages == ([told] if beside else [])


def test_a_folder_of_that_name_is_no_file(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unip")
    (here / "adapt").mkdir()
    assert find_recipe("adapt") == HERE / "adapt.yaml" and not caplog.messages


@pytest.mark.parametrize("given", ["./adapt", "adapt.yaml", "sub/adapt", "mine"])
def test_a_path_is_a_file(here: Path, given: str) -> None:
    (here / "sub").mkdir()
    (here / given).write_text("seed: 1\n")
    assert find_recipe(given, "pretrain") == Path(given)


@pytest.mark.parametrize(
    ("given", "verb", "what", "nearest"),
    [
        ("adap", "pretrain", "no recipe of unip pretrain is named adap", "Those that ship: adapt,"),
        ("hituv", "bench", "no recipe of unip bench is named hituv", "Those that ship: hituav,"),
        ("finetune_papers", None, "no recipe is named finetune_papers", "Those that ship: finetune_paper,"),
        ("adapt", "finetune", "adapt is a recipe of unip pretrain, not of unip finetune", "Those that ship: "),
        ("mine", "analyze", "no recipe of unip analyze is named mine", "None ships: give a file."),
    ],
)
def test_unknown_names_list_the_known_ones(here: Path, given: str, verb: str | None, what: str, nearest: str) -> None:
    with pytest.raises(UnipError) as caught:
        find_recipe(given, verb)
    assert caught.value.what == what
    assert caught.value.fix.startswith(nearest)
    assert all(one.name in caught.value.fix for one in shipped_recipes(verb))


def test_a_file_beside_is_named_where_the_name_is_unknown(here: Path) -> None:
    (here / "mine.yaml").write_text("seed: 1\n")
    with pytest.raises(UnipError, match=r"The file mine\.yaml here is \./mine\.yaml"):
        find_recipe("mine", "pretrain")


@pytest.mark.parametrize("given", ["recipes/adapt.yaml", "adapt.yaml", "recipes/suites/hituav.yaml"])
def test_the_path_in_a_checkout_leads_to_the_name(here: Path, given: str) -> None:
    with pytest.raises(UnipError, match=f"is just {Path(given).stem}"):
        find_recipe(given)


@pytest.mark.parametrize("verb", [None, "pretrain", "finetune", "bench", "data"])
def test_they_are_listed(verb: str | None) -> None:
    table = list_recipes(verb)
    words = {str(cell).strip() for cell in table.columns[0].cells}
    assert {one.name for one in shipped_recipes() if verb in (None, one.verb.split()[0])} == {
        word for word in words if not word.startswith("unip ")
    }


def test_nothing_to_list() -> None:
    with pytest.raises(UnipError, match="no recipe ships for unip predict"):
        list_recipes("predict")


def test_the_command_line_takes_names(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "config", ())
    for command in ("pretrain --config adapt --data gone", "finetune --config finetune_hituav --data gone"):
        with pytest.raises(UnipError, match="gone"):
            app.meta([*command.split(), "--dry-run"], exit_on_error=False, print_error=False)
    with pytest.raises(UnipError, match="hituav needs data"):
        app.meta(["bench", "hituav", "--dry-run"], exit_on_error=False, print_error=False)
    with pytest.raises(SystemExit, match="0"):
        app.meta(["bench", "--recipes"], exit_on_error=False, print_error=False)
    assert "ten_minutes" in capsys.readouterr().out


def test_a_suite_in_a_file_names_recipes_beside_it(here: Path) -> None:
    (here / "suites").mkdir()
    text = (HERE / "suites" / "ten_minutes.yaml").read_text(encoding="utf-8")
    (here / "suites" / "mine.yaml").write_text(text, encoding="utf-8")
    for name in ("pretrain_hituav_minutes", "finetune_hituav_fast", "probe_hituav_fast"):
        (here / f"{name}.yaml").write_text("seed: 77\n")
    suite = read_suite(find_recipe("suites/mine.yaml", "bench"))
    assert suite.pretrain["nmi-had"]["steps"] == 1000
    assert all("lr" not in settings for settings in suite.pretrain.values())  # of the file here, not of the package


# Suites -----------------------------------------------------------------------------------------------------------

START_SUITES = ("zoo", "streets", "tirss", "large_teacher")


@pytest.mark.parametrize("name", START_SUITES)
def test_suites_take_the_settings_of_the_shipped_start_from_its_recipe(name: str) -> None:
    """They hold where images and weights are, and nothing that the recipe says."""
    held = read_yaml(FOLDER / "suites" / f"{name}.yaml")["pretrain"]["tiny"]
    assert set(held) == {"recipe", "data", "teacher", "init"} and held["recipe"] == "../start_tiny.yaml"
    places = {"data", "teacher", "init", "out"}
    own, filled = load("start_tiny"), read_suite(find_recipe(name, "bench")).pretrain["tiny"]
    assert isinstance(own, PretrainConfig)
    found = PretrainConfig.make(**filled, out="x")
    assert found.model_dump(exclude=places) == own.model_dump(exclude=places)
    assert [source.partition("@")[0] for source in (*found.teacher, found.init)] == [*own.teacher, own.init]


def test_the_shipped_start_is_made_as_it_was() -> None:
    """By these settings the cells of the suites, and the lineage of unip-ir-tiny, are known: keys hold them."""
    config = load("start_tiny").model_dump(mode="json")
    assert {name: config[name] for name in read_yaml(FOLDER / "start_tiny.yaml") if name not in ("out", "data")} == {
        "objective": "nmi_had+values",
        "teacher": ["timm:vit_small_patch14_dinov2.lvd142m", "timm:deit_tiny_patch16_224"],
        "teacher_layer": [10, 8],
        "init": "timm:deit_tiny_patch16_224",
        "init_share": 0.75,
        "distort": 0.5,
        "drop_path": 0.2,
        "scale": [0.05, 0.6],
        "steps": 800,
        "batch_size": 512,
        "lr": 5e-4,
        "clip": 1.0,
        "compile": "compiled-graphs",
        "log_every": 100,
        "checkpoint_every": 1000,
        "picture_every": 0,
        "seed": 0,
    }
