"""What a model that is made from a backbone inherits: the backbone's name, licence and hash, and its own lineage."""

from __future__ import annotations

from pathlib import Path

from timm.models import get_pretrained_cfg

from unip.paths import is_dir
from unip.vit.backbone import Backbone
from unip.vit.sources import Source, find_source, read_model_folder
from unip.zoo.catalogue import ZooModel, zoo_model
from unip.zoo.lineage import Ancestor, Role, read_lineage


def ancestors_of(backbone: Backbone, role: Role) -> list[Ancestor]:
    """Return the ancestors of what is made from ``backbone``: itself first, then its own; none for random weights.

    Args:
        backbone: With its weights.
        role: What it is in the making of the other model.

    Raises:
        UnipError: The lineage in its folder cannot be read.
    """
    if backbone.report is None:
        return []
    found, known = find_source(backbone.source), zoo_model(backbone.source)
    itself = Ancestor(
        role=role,
        name=_name(backbone.source, found),
        licence=known.licence if known else _licence(found),
        sha256=backbone.report.sha256,
        source=backbone.source if found.kind in ("timm", "hf") and found.file is None else None,
        note=_note(known, found),
    )
    return [itself, *_inherited(found, itself.name)]


def _name(source: str, found: Source) -> str:
    if zoo_model(source):
        return source
    if found.name:
        return found.name
    path = Path(source)
    return path.parent.name if path.name == "model" else path.name


def _licence(found: Source) -> str | None:
    """Return the licence that timm states for named weights; with a file, it is the one of the name."""
    if found.kind != "timm":
        return None
    described = get_pretrained_cfg(found.name)
    return described.license if described else None


def _note(known: ZooModel | None, found: Source) -> str | None:
    if known:
        return known.note
    return "weights from a file; the licence is that of the name" if found.kind == "timm" and found.file else None


def _inherited(found: Source, name: str) -> list[Ancestor]:
    if found.kind != "path" or found.file is None or not is_dir(found.file):
        return []
    folder, config = read_model_folder(found.file)
    lineage = read_lineage(config, str(folder / "config.json"))
    return lineage.inherited(name) if lineage else []
