"""What a model was made from: its ancestors, their licences and hashes, kept in ``config.json`` of every model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from unip.config import Config
from unip.documents import fit
from unip.files import read_json
from unip.paths import is_file
from unip.version import __version__
from unip.zoo.licences import Terms, terms_of

LINEAGE = "lineage"  # the key in config.json
DATA_CARD = "dataset.json"  # beside a data set: its name, licence and source

Role = Literal["init", "teacher", "data"]
ROLES: dict[Role, str] = {"init": "initial weights", "teacher": "teacher", "data": "training data"}


@dataclass(frozen=True)
class DataCard:
    """What a ``dataset.json`` says of a data set."""

    name: str | None = None
    licence: str | None = None
    source: str | None = None


class Ancestor(Config):
    """One thing that a model was made from."""

    role: Role
    name: str
    licence: str | None = Field(None, description="As its source states it; none: it states none.")
    sha256: str | None = Field(None, description="Of the weights file; of data, of the names and sizes of its files.")
    source: str | None = Field(None, description="Where it can be found.")
    note: str | None = None
    through: str | None = Field(None, description="The ancestor that was made from it; none: this model itself.")

    @property
    def terms(self) -> Terms:
        """What its licence allows."""
        return terms_of(self.licence)

    @property
    def hinders(self) -> bool:
        """Whether it stands against commercial use; data without a stated licence may be the user's own."""
        return self.terms in ("non-commercial", "conditions") or (self.terms == "not stated" and self.role != "data")

    def line(self) -> str:
        """Return it as a line for people."""
        through = f", through {self.through}" if self.through else ""
        digest = f", sha256 {self.sha256[:12]}" if self.sha256 else ""
        note = f" ({self.note})" if self.note else ""
        return f"{ROLES[self.role]}: {self.name}, licence {self.licence or 'not stated'}{digest}{through}{note}"


class Lineage(Config):
    """All that a model was made from."""

    code: str = Field(f"unip {__version__}", description="Program and version that made the model.")
    ancestors: tuple[Ancestor, ...] = ()

    @classmethod
    def of(cls, ancestors: Iterable[Ancestor]) -> Lineage:
        """Gather ancestors; those that are named twice count once."""
        return cls(ancestors=tuple(dict.fromkeys(ancestors)))

    def inherited(self, name: str) -> list[Ancestor]:
        """Return the ancestors for a model that is made from this one, which is called ``name``."""
        return [
            one.model_copy(update={"through": f"{name}, {one.through}" if one.through else name})
            for one in self.ancestors
        ]

    def hindrances(self) -> list[Ancestor]:
        """Return what stands against commercial use."""
        return [one for one in self.ancestors if one.hinders]


def read_lineage(config: Any, place: str) -> Lineage | None:
    """Read the lineage that a model's ``config.json`` holds; None: it holds none.

    Raises:
        UnipError: It is not one.
    """
    held = config.get(LINEAGE) if isinstance(config, dict) else None
    if held is None:
        return None
    return fit(held, Lineage, f"{place}: its lineage cannot be read", "Save the model again.")


def lineage_record(lineage: Lineage | None) -> dict[str, Any]:
    """Return what goes into a model's ``config.json``."""
    return {} if lineage is None else {LINEAGE: lineage.model_dump(mode="json", exclude_none=True)}


def lineage_lines(lineage: Lineage | None) -> list[str]:
    """Return the part of a model card in Markdown that tells the lineage; empty if it is not known."""
    if lineage is None:
        return []
    return ["## What it was made from", "", *(f"- {one.line()}" for one in lineage.ancestors), f"- {lineage.code}", ""]


def data_ancestor(name: str, folder: Path, files: Iterable[tuple[str, int]]) -> Ancestor:
    """Describe a data set, with what its card says.

    Args:
        name: What it was called.
        folder: Where a ``dataset.json`` may lie, with ``name``, ``licence`` and ``source``, all optional; it is looked
            for in the folders above too, up to the third.
        files: Name and size in bytes of each file; their hash tells one state of the data from another.

    Raises:
        UnipError: The card is no JSON object of texts.
    """
    digest = hashlib.sha256(
        "\n".join(sorted(f"{size} {file}" for file, size in files)).encode(errors="surrogateescape")
    )
    card = next((f / DATA_CARD for f in (folder, *folder.parents[:3]) if is_file(f / DATA_CARD)), None)
    needed = "It must be an object with texts for name, licence and source: correct or delete it."
    told = DataCard() if card is None else read_json(card, DataCard, fix=needed)
    return Ancestor(
        role="data",
        name=told.name or name,
        licence=told.licence,
        source=told.source,
        sha256=digest.hexdigest(),
    )
