"""The models that have a name: those in the package, and those that others released."""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import Literal

from pydantic import Field

from unip.config import Config
from unip.errors import UnipError
from unip.files import read_json
from unip.paths import is_file
from unip.zoo.licences import Terms, terms_of

HERE = Path(__file__).parent
CATALOGUE = HERE / "catalogue.json"
FILES = HERE / "files"  # a model folder for each model that ships


class ZooModel(Config):
    """A model with a name.

    Exactly one of ``shipped``, ``source``, ``repository`` and ``how_to_make`` says where it is.
    """

    name: str
    kind: Literal["backbone", "segmenter"] = "backbone"
    summary: str = Field(description="What it is and what it is good for, in one sentence.")
    parameters: float = Field(gt=0, description="In millions.")
    gflops: float | None = Field(None, gt=0, description="Of one crop of 224 pixels, two for each multiplication.")
    licence: str | None = Field(None, description="As its source states it.")
    note: str | None = Field(None, description="What else to know, such as where sources contradict each other.")
    data: str | None = Field(None, description="What it was trained on, in words.")
    metrics: dict[str, str] = Field({}, description="What was measured, and where it can be looked up.")
    shipped: bool = False
    sha256: str | None = Field(None, description="Of the weights in the package.")
    source: str | None = Field(None, description="timm:NAME or hf:REPO.")
    repository: str | None = Field(None, description="Of the hub, if it holds plain checkpoint files.")
    pattern: str | None = Field(None, description="Regular expression that one of the repository's files fits.")
    how_to_make: str | None = Field(None, description="A command, for a model that is in no package yet.")

    @property
    def folder(self) -> Path:
        """The model folder of one that ships."""
        return FILES / self.name

    @property
    def terms(self) -> Terms:
        """What its licence allows."""
        return terms_of(self.licence)

    @property
    def where(self) -> str:
        """Where it comes from, in a word or two."""
        if self.shipped:
            return "this package"
        return self.source or (f"hf:{self.repository}" if self.repository else "see its note")


@functools.cache
def catalogue() -> dict[str, ZooModel]:
    """Return all models by name, those that ship first."""
    return {entry.name: entry for entry in read_json(CATALOGUE, list[ZooModel])}


def zoo_model(name: str) -> ZooModel | None:
    """Return the model of that name, if there is one."""
    return catalogue().get(name)


def shipped_folder(name: str, kind: Literal["backbone", "segmenter"] | None = None) -> Path | None:
    """Return the folder of a shipped model; None: there is no model of that name that ships.

    Raises:
        UnipError: It is of the other kind.
    """
    found = zoo_model(name)
    if found is None or not found.shipped:
        return None
    if kind is not None and found.kind != kind:
        fix = "Fine-tune it first: unip finetune --model " + name if found.kind == "backbone" else ""
        raise UnipError(f"{name} is a {found.kind}, and a {kind} is needed", fix)
    return found.folder


def find_model_folder(path: Path) -> Path | None:
    """Return ``path`` if it is a model folder, its ``model/`` if it is a run folder; None: it is neither."""
    return next((folder for folder in (path, path / "model") if is_file(folder / "config.json")), None)


def near_names(name: str, count: int = 3) -> list[str]:
    """Return names that are written like ``name``."""
    return difflib.get_close_matches(name, catalogue(), n=count)
