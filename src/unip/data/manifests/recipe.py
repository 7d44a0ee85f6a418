"""Recipes of a data set: which sources, how much of each, and how they are to be shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from unip.config import Config
from unip.data.images.config import Conversion
from unip.data.manifests.sources import MODALITIES, is_manifest, split_source
from unip.errors import UnipError
from unip.files import read_yaml
from unip.paths import exists
from unip.recipes import SUFFIXES, find_recipe, shipped_recipes

Modality = Literal["infrared", "rgb", "depth"]
SOURCE_KINDS = ("folder", "glob", "manifest", "video", "dataset")


class SourceConfig(Config):
    """One source of a recipe: exactly one of ``folder``, ``glob``, ``manifest``, ``video`` and ``dataset``."""

    name: str | None = Field(None, description="Of the source; by default the folders' names tell it.")
    folder: str | None = Field(None, description="Folder of images, searched through; or one image.")
    glob: str | None = Field(None, description="Pattern of image files, such as drives/*/ir/**/*.png.")
    manifest: str | None = Field(None, description="Parquet manifest whose rows are taken as they are.")
    video: str | None = Field(None, description="Video file, folder of them, or pattern.")
    dataset: str | None = Field(None, description="Dataset of Hugging Face `datasets`: a local path or an id.")
    split: str = Field("train", description="Split of the dataset.")
    subset: str | None = Field(None, description="Configuration of the dataset, where it has several.")
    image_column: str = Field("image", description="Column of the dataset that holds the images.")
    label_column: str | None = Field(None, description="Column of the dataset that holds the class.")
    modality: Modality | None = Field(None, description="By default folders' names tell it, else the pixels.")
    cap: int | None = Field(None, ge=1, description="Maximum number of images.")
    cap_per_class: int | None = Field(None, ge=1, description="Maximum number of images of each sub-folder (class).")
    every: int = Field(1, ge=1, description="Take every n-th frame of a video, or of each group of files.")
    group: int | str | None = Field(
        None, description="What neighbouring frames share (video, flight): first n sub-folders, or a pattern."
    )
    groups: str | None = Field(
        None, description="The same from a CSV file with the columns file (name, with or without ending) and group."
    )
    weight: float = Field(1.0, gt=0, description="How often an image is shown, relative to others.")
    grey: bool = Field(True, description="Turned to grey when it is shown and packed.")
    conversion: Conversion | None = Field(None, description="How 16-bit counts or temperatures become 8 bits.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [kind for kind in SOURCE_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(SOURCE_KINDS)}, has {' and '.join(given) or 'none'}")
        if self.name is not None and (not self.name or self.name.startswith(".") or re.search(r"[/\\\n]", self.name)):
            raise ValueError("name must be a plain word")
        if self.name is None and self.kind in ("video", "dataset"):
            raise ValueError(f"a {self.kind} needs a name")
        if self.kind in ("video", "dataset") and self.modality is None:
            raise ValueError(f"a {self.kind} needs its modality: {', '.join(MODALITIES)}")
        if self.kind == "manifest" and self.modality is not None:
            raise ValueError("a manifest tells the modality itself: leave it out")
        if self.kind == "dataset" and self.cap_per_class and self.label_column is None:
            raise ValueError("cap_per_class of a dataset needs its label_column")
        if self.group is not None and self.groups is not None:
            raise ValueError("give group or groups, not both")
        if isinstance(self.group, str):
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(f"group is not a regular expression: {error}") from None
        return self

    @property
    def kind(self) -> str:
        """Which of ``SOURCE_KINDS`` it is."""
        return next(kind for kind in SOURCE_KINDS if getattr(self, kind) is not None)

    @property
    def place(self) -> str:
        """The folder, pattern, file or id."""
        return str(getattr(self, self.kind))


class Recipe(Config):
    """What ``unip data build`` makes."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    root: Path = Field(Path(), description="Where relative paths start; by default the recipe's folder.")
    seed: int = Field(0, description="Of the order in which caps draw.")
    copies: Literal["keep", "drop"] = Field("keep", description="What happens to exact copies of a file.")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        UnipError: It is missing, not YAML, or a key or value does not fit; the source is named.
    """
    values = read_yaml(path)
    listed = values.get("sources")
    if not isinstance(listed, list) or not listed or not all(isinstance(source, dict) for source in listed):
        raise UnipError(f"{path} lists no sources", "Write `sources:` and under it `- folder: FOLDER` lines.")
    sources = [_source(source, number, path) for number, source in enumerate(listed, start=1)]
    return Recipe.make(**{**values, "root": path.parent / str(values.get("root", "")), "sources": sources})


def recipe_of(sources: tuple[str, ...]) -> Recipe:
    """Make the recipe of ``FOLDER``, ``infrared=FOLDER`` (or ``rgb=``, ``depth=``) and ``FILE.parquet`` arguments.

    One argument may also be a recipe: a file, or the name of one that ships, where no folder has that name.
    """
    if not sources:
        raise UnipError("no image source was given", "Give a recipe, a folder, infrared=FOLDER or a manifest.")
    if len(sources) == 1 and sources[0].lower().endswith(SUFFIXES):
        return read_recipe(find_recipe(sources[0], "data build"))
    if len(sources) == 1 and not exists(sources[0]):
        shipped = next((one for one in shipped_recipes("data build") if one.name == sources[0]), None)
        if shipped is not None:  # its paths start where the user is, not in the package
            return read_recipe(shipped.file).model_copy(update={"root": Path()})
    listed = []
    for source in sources:
        modality, location = split_source(source)
        manifest = is_manifest(location)
        if manifest and modality is not None:
            raise UnipError(f"{source}: a manifest tells the modality itself", f"Give just {location}.")
        if location.suffix.lower() in SUFFIXES:
            raise UnipError(f"{source}: a recipe cannot be mixed with other sources", "Write them into the recipe.")
        listed.append(SourceConfig.make(**{"manifest" if manifest else "folder": str(location), "modality": modality}))
    return Recipe(sources=tuple(listed))


def _source(values: dict[str, Any], number: int, path: Path) -> SourceConfig:
    try:
        return SourceConfig.make(**values)
    except UnipError as error:
        name = f" ({values['name']})" if "name" in values else ""
        raise UnipError(f"{path}, source {number}{name}: {error.what}", error.fix) from None
