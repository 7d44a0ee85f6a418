"""`unip models`: the models that have a name, and what a model was made from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rich.table import Column, Table

from unip.config import verb
from unip.errors import UnipError
from unip.files import read_json
from unip.log import TableMessage
from unip.paths import expand, is_dir
from unip.zoo.catalogue import ZooModel, catalogue, find_model_folder, near_names, zoo_model
from unip.zoo.config import ModelsConfig
from unip.zoo.lineage import Ancestor, Lineage, read_lineage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a model.

    Attributes:
        name: As it was asked for.
        entry: Of the catalogue; None: it is a folder.
        lineage: What it was made from, itself left out; None: its folder does not tell, or it has none here.
    """

    name: str
    entry: ZooModel | None
    lineage: Lineage | None

    @property
    def hindrances(self) -> list[str]:
        """What stands against commercial use, each with its licence."""
        own = self.entry
        found = [f"{self.name} itself ({own.licence or 'no licence stated'})"] if own and own.terms != "free" else []
        return found + [f"{one.name} ({one.licence or 'no licence stated'})" for one in self._ancestors if one.hinders]

    @property
    def _ancestors(self) -> tuple[Ancestor, ...]:
        return self.lineage.ancestors if self.lineage else ()


@dataclass(frozen=True)
class ModelList:
    """What `unip models` found: every model of the catalogue, or the one that was asked for."""

    models: tuple[ModelDescription, ...]


@verb(ModelsConfig)
def models(config: ModelsConfig) -> ModelList | None:
    """List the models that have a name, or show all about one.

    Returns:
        What is known of each, or None for a dry run.

    Raises:
        UnipError: There is no such model; or its ancestry does not allow commercial use, and that was asked for.
    """
    if config.model is not None:
        found = describe_model(config.model)
        if not config.dry_run:
            log.info("\n".join(lines_of(found)))
        if config.commercial:
            refuse_hindered(found)
        return None if config.dry_run else ModelList((found,))
    listed = [describe_model(name) for name in catalogue()]
    if config.commercial:
        listed = [one for one in listed if not one.hindrances]
    if config.dry_run:
        return None
    log.info(TableMessage(table_of(listed)))
    log.info("All about one of them: unip models NAME")
    return ModelList(tuple(listed))


def describe_model(name: str) -> ModelDescription:
    """Look up a name of the catalogue, or read a run or model folder.

    Raises:
        UnipError: There is neither, or the folder tells nothing.
    """
    entry = zoo_model(name)
    if entry is not None:
        return ModelDescription(name, entry, read_folder(entry.folder) if entry.shipped else None)
    folder = expand(name)
    if not is_dir(folder):
        near = near_names(name)
        fix = f"Did you mean {', '.join(near)}?" if near else "`unip models` lists the names."
        raise UnipError(f"no model {name!r}: it is no name, and there is no such folder", fix)
    return ModelDescription(name, None, read_folder(folder))


def read_folder(folder: Path) -> Lineage | None:
    """Read the lineage of a model folder, or of a run folder.

    Raises:
        UnipError: It is neither, or its lineage cannot be read.
    """
    found = find_model_folder(folder)
    if found is None:
        raise UnipError(f"{folder} holds no model (no config.json)", "Give the folder of a finished run.")
    file = found / "config.json"
    return read_lineage(read_json(file), str(file))


def refuse_hindered(found: ModelDescription) -> None:
    """Refuse a model whose ancestry does not allow commercial use, or does not tell.

    Raises:
        UnipError: It is one.
    """
    if found.hindrances:
        raise UnipError(
            f"commercial use of {found.name} may not be allowed, because of {'; '.join(found.hindrances)}",
            "Read these licences, or take a model of `unip models --commercial`.",
        )
    if found.entry is None and found.lineage is None:
        raise UnipError(f"{found.name} does not tell what it was made from", "Save it again with this version.")


def lines_of(found: ModelDescription) -> list[str]:
    """Return all that is known of a model, in lines for people."""
    entry, lines = found.entry, [found.name]
    if entry is not None:
        size = f"{entry.parameters:g} M parameters"
        speed = f", {entry.gflops:g} GFLOPs for a crop of 224 pixels" if entry.gflops else ""
        lines = [
            f"{entry.name}: {entry.summary}",
            f"  kind: {entry.kind}, {entry.where}",
            f"  size: {size}{speed}",
            f"  licence: {entry.licence or 'not stated'}",
            *([f"  trained on: {entry.data}"] if entry.data else []),
            *(f"  {what}: {value}" for what, value in entry.metrics.items()),
            *([f"  sha256: {entry.sha256}"] if entry.sha256 else []),
            *([f"  note: {entry.note}"] if entry.note else []),
            *([f"  to get it: {entry.how_to_make}"] if entry.how_to_make else []),
        ]
    if found.lineage is None:
        return lines + ([] if entry else ["  it does not tell what it was made from"])
    return [
        *lines,
        "  made from:",
        *(f"    {one.line()}" for one in found.lineage.ancestors),
        f"    {found.lineage.code}",
    ]


def table_of(listed: list[ModelDescription]) -> Table:
    """Return the models as a table."""
    name = Column("name", no_wrap=True)
    kind, licence, place = (Column(heading, no_wrap=True) for heading in ("kind", "licence", "from"))
    # fits 80 characters: of CC-BY-NC-4.0, NC would be cut
    table = Table(
        name, kind, "M params", "GFLOPs", licence, place, title="Models", collapse_padding=True, pad_edge=False
    )
    for one in listed:
        if entry := one.entry:
            speed = f"{entry.gflops:g}" if entry.gflops else "-"
            cells = (
                entry.name,
                entry.kind,
                f"{entry.parameters:g}",
                speed,
                entry.licence or "not stated",
                entry.where.partition(":")[0].rpartition(" ")[2],
            )
            table.add_row(*cells)
    return table
