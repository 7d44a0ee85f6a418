from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from unip.data.manifests.recipe import Recipe, SourceConfig, read_recipe, recipe_of
from unip.errors import UnipError


def write(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_recipe_is_read(tmp_path: Path) -> None:
    sources = [
        {"name": "ours", "folder": "ir", "modality": "infrared", "cap": 9, "conversion": {"polarity": "black-hot"}},
        {"video": "a.mp4", "name": "drive", "modality": "rgb", "every": 10, "group": r"(\d+)", "weight": 0.5},
    ]
    recipe = read_recipe(write(tmp_path / "r.yaml", sources=sources, seed=3, copies="drop"))
    assert (recipe.seed, recipe.copies, recipe.root) == (3, "drop", tmp_path)
    first, second = recipe.sources
    assert (first.kind, first.place, first.cap) == ("folder", "ir", 9)
    assert first.conversion is not None and first.conversion.polarity == "black-hot"
    assert (second.kind, second.every, second.weight, second.grey) == ("video", 10, 0.5, True)
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert read_recipe(tmp_path / "again.yaml") == recipe


def test_roots(tmp_path: Path) -> None:
    sources = [{"folder": "a"}]
    assert read_recipe(write(tmp_path / "r.yaml", sources=sources, root="x")).root == tmp_path / "x"
    assert read_recipe(write(tmp_path / "r.yaml", sources=sources, root="/x")).root == Path("/x")


def test_arguments_are_a_recipe_too(tmp_path: Path) -> None:
    recipe = recipe_of(("a", "infrared=b", "depth=c", "m.parquet"))
    assert [(source.kind, source.place, source.modality) for source in recipe.sources] == [
        ("folder", "a", None),
        ("folder", "b", "infrared"),
        ("folder", "c", "depth"),
        ("manifest", "m.parquet", None),
    ]
    file = write(tmp_path / "r.yaml", sources=[{"folder": "a"}])
    assert recipe_of((str(file),)) == read_recipe(file)


@pytest.mark.parametrize(
    "source, message",
    [
        ({}, "needs exactly one of folder, glob"),
        ({"folder": "a", "glob": "b"}, "has folder and glob"),
        ({"foldr": "a"}, "Did you mean 'folder'"),
        ({"folder": "a", "cap": 0}, "cap: .*greater than or equal to 1"),
        ({"folder": "a", "name": "a/b"}, "name must be a plain word"),
        ({"folder": "a", "modality": "sonar"}, "modality"),
        ({"folder": "a", "group": "("}, "not a regular expression"),
        ({"video": "a", "modality": "rgb"}, "a video needs a name"),
        ({"video": "a", "name": "a"}, "a video needs its modality"),
        ({"manifest": "a", "modality": "rgb"}, "tells the modality itself"),
        ({"dataset": "a", "name": "a", "modality": "rgb", "cap_per_class": 2}, "needs its label_column"),
        ({"folder": "a", "conversion": {"polarty": 1}}, "Did you mean 'polarity'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, source: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "r.yaml", sources=[{"folder": "x"}, source])
    with pytest.raises(UnipError, match=message) as caught:
        read_recipe(path)
    assert f"{path}, source 2" in caught.value.what


def test_other_problems(tmp_path: Path) -> None:
    for text in ("", "sources: 3", "sources: [a]", "sources: []"):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(UnipError, match="lists no sources"):
            read_recipe(tmp_path / "r.yaml")
    with pytest.raises(UnipError, match="Did you mean 'seed'"):
        read_recipe(write(tmp_path / "r.yaml", sources=[{"folder": "x"}], sed=1))
    with pytest.raises(UnipError, match="cannot be mixed"):
        recipe_of(("a", "r.yaml"))
    with pytest.raises(UnipError, match="no image source"):
        recipe_of(())


def test_the_recipe_of_the_papers_mix() -> None:
    recipe = recipe_of(("infmix",))
    assert isinstance(recipe, Recipe) and recipe.root == Path()  # where the user is, not in the package
    infrared, imagenet, coco = recipe.sources
    assert isinstance(infrared, SourceConfig)
    assert (infrared.glob, infrared.modality, infrared.cap) == ("infpre/*/thermal/**/*", "infrared", None)
    assert (imagenet.modality, imagenet.cap_per_class, coco.place) == ("rgb", 200, "coco/train2017")
