"""What a suite file may say, and what is said of one that is wrong or lacks its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unip.data.corruptions import CORRUPTIONS
from unip.errors import UnipError
from unip.segmentation.config import FinetuneConfig
from unip.suites.suite import GRID_SETTINGS, Axes, DatasetEntry, Locations, Suite, read_suite

MINIMAL = {"inits": {"a": "unip_tiny"}, "datasets": {"d": "{d}"}, "protocols": {"p": {}}}


def test_short_forms_and_the_order_of_the_grid():
    suite = Suite.make(**{**MINIMAL, "label_budgets": [1, 50], "seeds": [0, 1]})
    assert suite.inits["a"].model == "unip_tiny"
    assert suite.datasets["d"].data == "{d}"
    assert [(axes.label_budget, axes.seed) for axes in suite.cells()] == [(1, 0), (1, 1), (50, 0), (50, 1)]
    assert str(suite.cells()[0]) == "a_d_p_100pct_seed0"
    assert str(Axes("a", "d", "p", 0.1, 2)) == "a_d_p_10pct_seed2"
    assert str(suite.cells()[-1]) == "a_d_p_50_seed1"


def test_a_protocol_has_labels_and_seeds_of_its_own():
    suite = Suite.make(
        **{**MINIMAL, "protocols": {"p": {}, "q": {"label_budgets": [0.1], "seeds": [7]}}, "seeds": [0, 1]}
    )
    assert [(a.protocol, a.label_budget, a.seed) for a in suite.cells()] == [("p", 1, 0), ("p", 1, 1), ("q", 0.1, 7)]


def test_a_start_has_seeds_of_its_own():
    inits = {"a": {"model": "unip_tiny", "seeds": [0, 1, 2]}, "b": "unip_tiny"}
    suite = Suite.make(**{**MINIMAL, "inits": inits, "protocols": {"p": {}, "q": {"seeds": [7]}}, "seeds": [0]})
    seeds = {(axes.protocol, axes.init): [] for axes in suite.cells()}
    for axes in suite.cells():
        seeds[axes.protocol, axes.init].append(axes.seed)
    assert seeds == {("p", "a"): [0, 1, 2], ("p", "b"): [0], ("q", "a"): [0, 1, 2], ("q", "b"): [7]}


def test_images_that_are_alike():
    names = ["1_60_a.png", "1_60_b.png", "0_60_a.png", "other.png"]
    assert DatasetEntry.make(data="d", group_by=r"^(\d_\d+)_").groups(names) == ["1_60", "1_60", "0_60", "other.png"]
    assert DatasetEntry.make(data="d").groups(names) == names
    for wrong, what in ((r"\d_\d", "has no group"), ("(", "is not a regular expression")):
        with pytest.raises(UnipError, match=what):
            Suite.make(**{**MINIMAL, "datasets": {"d": {"data": "{d}", "group_by": wrong}}})


def test_a_protocol_has_corruptions_of_its_own():
    protocols = {"p": {}, "q": {"corruptions": ["fog:2"]}, "r": {"corruptions": []}, "k": {"kind": "knn"}}
    suite = Suite.make(**{**MINIMAL, "protocols": protocols, "corruptions": ["jpeg"]})
    assert [suite.corruptions_of(name) for name in protocols] == [("jpeg:3",), ("fog:2",), (), ()]
    every = Suite.make(**{**MINIMAL, "protocols": {"p": {"corruptions": ["all:4"]}}})
    assert every.corruptions_of("p") == tuple(f"{name}:4" for name in CORRUPTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": {}}, "unknown setting 'protocol' of Suite"),
        ({"baseline": "b"}, "baseline 'b' is none of the inits"),
        ({"inits": {"a": "pretrain:mea"}, "pretrain": {"mae": {}}}, "did you mean 'mae'"),
        ({"inits": {"a/b": "unip_tiny"}}, "may hold letters"),
        ({"protocols": {"p": {"settings": {"seed": 3}}}}, "which the grid decides"),
        ({"pretrain": {"p": {"out": "runs/x"}}}, "'p' holds 'out', which the bench decides"),
        ({"pretrain": {"p": {"recipe": ["a.yaml"]}}}, "'p': its recipe must be a file, got"),
        ({"protocols": {"p": {"choose": {"lr": [1, 2]}}}}, "not every data set names its `val`"),
        ({"protocols": {"p": {"settings": {"eval_every": 9}}}}, "not every data set names its `val`"),
        ({"protocols": {"p": {"kind": "knn", "choose": {"k": [1, 2]}}}}, "takes neither a recipe nor choose"),
        ({"corruptions": ["fgo"]}, "fog"),
        ({"protocols": {"p": {"corruptions": ["fgo"]}}}, "fog"),
        ({"protocols": {"p": {"kind": "knn", "corruptions": ["fog"]}}}, "not evaluated under corruptions"),
        ({"label_budgets": [0]}, "greater than 0"),
        ({"protocols": {"p": {"kind": "kmn"}}}, r"^protocols\.p\.kind: input should be 'finetune'"),
        ({"inits": {"a": {"model": 3}}}, r"^inits\.a\.model: input should be a valid string"),
        ({"inits": {"a": {"settings": {}}}}, r"^inits\.a\.model: field required"),
        ({"seeds": [0, "x"]}, "^seeds: input should be a valid integer"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(UnipError, match=message) as caught:
        Suite.make(**{**MINIMAL, **change})
    known = "Suite" in message or "fog" in message  # those name what there is
    assert known or caught.value.fix == "See docs/bench.md."


def test_the_grid_decides_settings_that_there_are():
    assert set(FinetuneConfig.model_fields) >= GRID_SETTINGS


def test_a_recipe_beside_the_suite(make_suite: Callable[..., Path], tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: unip_small\nout: runs/x\nlr: 3.0e-4\ncrop: 64\n")
    path = make_suite(protocols={"p": {"recipe": "recipe.yaml", "settings": {"crop": 32}}})
    assert read_suite(path).protocols["p"].settings == {"lr": 3e-4, "crop": 32}


def test_a_recipe_of_pre_training_beside_the_suite(make_suite: Callable[..., Path], tmp_path):
    (tmp_path / "recipe.yaml").write_text("out: runs/x\ndata: [mine]\nlr: 3.0e-4\nsteps: 7\n")
    path = make_suite(pretrain={"p": {"recipe": "recipe.yaml", "data": ["{scenes}"], "steps": 9}, "q": {"steps": 1}})
    assert read_suite(path).pretrain == {"p": {"data": ["{scenes}"], "lr": 3e-4, "steps": 9}, "q": {"steps": 1}}
    with pytest.raises(UnipError, match=r"gone\.yaml"):
        read_suite(make_suite(pretrain={"p": {"recipe": "gone.yaml"}}))


def test_a_wrong_suite_is_named(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("initz: {}\n")
    with pytest.raises(UnipError, match=r"wrong\.yaml: unknown setting 'initz'") as caught:
        read_suite(path)
    assert "Did you mean 'inits'?" in caught.value.fix


def test_places(tmp_path):
    (tmp_path / "soda").mkdir()
    locations = Locations([f"soda={tmp_path}/soda", "gone=/no/such"], tmp_path)
    assert locations.fill({"a": ["soda:{soda}", 3], "b": "{other}"}) == {
        "a": [f"soda:{tmp_path}/soda", 3],
        "b": "{other}",
    }
    assert locations.missing(["soda:{soda}", "unip_tiny", "infrared={soda}", 3]) == []
    assert locations.missing(["{other}", "soda:{gone}"]) == ["--data other=FOLDER", "/no/such"]
    assert locations.missing("timm:vit_tiny_patch16_224@{weights}/soda") == []
    assert locations.missing("timm:vit_tiny_patch16_224@{weights}/x.pth") == [f"{tmp_path}/x.pth"]
    assert Locations([], None).missing("{weights}/x") == ["--weights FOLDER"]
    suite = Suite.make(**{**MINIMAL, "datasets": {"d": {"data": "soda:{soda}", "group_by": r"^(\d{4})_"}}})
    Locations([f"soda={tmp_path}"], tmp_path).check(suite)
    for name, hint in (("sdoa", "Did you mean 'soda'"), ("x", "It has: soda")):
        with pytest.raises(UnipError, match=f"--data {name}=here: the suite has no data of that name") as caught:
            Locations([f"soda={tmp_path}", f"{name}=here"], None).check(suite)
        assert hint in caught.value.fix
    for wrong in (["soda"], ["soda="], ["a=b", "a=c"]):
        with pytest.raises(UnipError, match="NAME=FOLDER"):
            Locations(wrong, None)
