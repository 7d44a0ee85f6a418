"""`unip data dedup`: mark the duplicates of a set of images, by their files, perceptual hashes and a ViT's features.

It lies above data/, where the rule is (:mod:`unip.data.manifests.duplicates`), because it may look at the images with a
backbone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from unip.data.manifests.duplicates import (
    DuplicateThresholds,
    Features,
    Group,
    describe_duplicate,
    find_duplicates,
    mark,
)
from unip.data.manifests.manifest import write_manifest
from unip.data.manifests.rows import Row, table_of
from unip.data.manifests.scan import JOURNAL, read_images
from unip.data.manifests.sources import printable
from unip.errors import UnipError
from unip.features.config import DedupConfig
from unip.features.pooled import pooled_features
from unip.log import TableMessage
from unip.outputs import OutputFolder, write_json
from unip.runtime.signals import stoppable
from unip.vit.backbone import load_backbone

log = logging.getLogger(__name__)

GROUPS_SHOWN = 8


@dataclass(frozen=True)
class DedupResult:
    """What was found and written.

    Attributes:
        manifest: Where the manifest is, or would be after a dry run.
        groups: Kept images with those dropped for them.
        images: Images that can be used.
        exact: Dropped ones with the same bytes as the kept one.
        near: Dropped ones that only look like it.
        unreadable: Files that cannot be used.
    """

    manifest: Path
    groups: tuple[Group, ...]
    images: int
    exact: int
    near: int
    unreadable: int


def mark_duplicates(config: DedupConfig, outputs: OutputFolder) -> DedupResult:
    """Do what is left of :func:`unip.features.verbs.dedup` once the paths are checked."""
    manifest = config.out / "manifest.parquet"
    journal = None if config.dry_run else outputs.hidden / JOURNAL
    with stoppable("Run the same command again to continue."):
        rows, note_lines = read_images(config.sources, journal, workers=config.workers)
        usable = sum(row.kept for row in rows)
        if not usable:
            raise UnipError("no image of the sources can be used", f"The first one: {rows[0].reason}.")
        thresholds = DuplicateThresholds(config.radius, config.frame_radius, config.similarity)
        features = _features(config, outputs, rows) if config.model else None
        groups = find_duplicates(rows, thresholds, config.rule, features)
        marked = mark(rows, groups)
        dropped = [duplicate for group in groups for duplicate in group.dropped]
        exact = sum(duplicate.exact for duplicate in dropped)
        unreadable = sum(bool(row.facts and row.facts.problem) for row in rows)
        result = DedupResult(manifest, tuple(groups), usable, exact, len(dropped) - exact, unreadable)
        if not config.dry_run:
            write_json(config.out / "groups.json", _record(config, result))
            write_manifest(table_of(marked, note_lines), manifest)
    _print(result, rows, marked, config.dry_run)
    return result


def _features(config: DedupConfig, outputs: OutputFolder, rows: Sequence[Row]) -> Features:
    """Return a vector for each row; zeros, which are near to nothing, for those that are not used."""
    assert config.model is not None
    used = [i for i, row in enumerate(rows) if row.kept]
    images = [rows[i] for i in used]
    backbone = load_backbone(config.model)
    weights = backbone.report.sha256 if backbone.report else "random"
    parts = [config.model, weights, *(image.sha256 for image in images)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    cache = None if config.dry_run else outputs.hidden / "features" / key
    found = pooled_features(backbone, [(image.path or b"", image.conversion) for image in images], cache)
    features = np.zeros((len(rows), found.shape[1]), dtype=np.float32)
    features[used] = found
    return features


def _record(config: DedupConfig, result: DedupResult) -> dict[str, Any]:
    return {
        "settings": config.model_dump(mode="json", exclude={"out", "workers", "overwrite", "dry_run"}),
        "images": result.images,
        "exact": result.exact,
        "near": result.near,
        "unreadable": result.unreadable,
        "groups": [
            {
                "kept": _named(group.kept),
                "dropped": [
                    {
                        **_named(duplicate.row),
                        "exact": duplicate.exact,
                        "distance": duplicate.distance,
                        "similarity": duplicate.similarity,
                    }
                    for duplicate in group.dropped
                ],
            }
            for group in result.groups
        ],
    }


def _named(row: Row) -> dict[str, Any]:
    return {"path": printable(row.path or b""), "source": row.source, "group": row.group, "frame": row.frame}


def _print(result: DedupResult, rows: Sequence[Row], marked: Sequence[Row], dry_run: bool) -> None:
    table = Table("source", title="Duplicates")
    for name in ("images", "exact", "near", "kept", "share"):
        table.add_column(name, justify="right")
    exact = {d.row.path for group in result.groups for d in group.dropped if d.exact}
    sources = sorted({row.source for row in rows})
    for source in [*sources, "all"] if len(sources) > 1 else sources:
        after = [b for a, b in zip(rows, marked, strict=True) if a.kept and source in (b.source, "all")]
        dropped = [row for row in after if not row.kept]
        copies = sum(row.path in exact for row in dropped)
        counts = (len(after), copies, len(dropped) - copies, len(after) - len(dropped))
        share = f"{100 * counts[3] / max(1, len(after)):.1f} %"
        table.add_row(source, *(f"{count:,}" for count in counts), share)
    log.info(TableMessage(table))
    for group in result.groups[:GROUPS_SHOWN]:
        last = max(group.dropped, key=lambda duplicate: duplicate.distance)
        log.info(
            f"{len(group.dropped) + 1} images: {printable(group.kept.path or b'')} is kept; dropped for it, for "
            f"example:"
        )
        log.info(f"    {printable(last.row.path or b'')}, {describe_duplicate(last).removesuffix(' of')}")
    if len(result.groups) > GROUPS_SHOWN:
        log.info(f"and {len(result.groups) - GROUPS_SHOWN} more groups, see groups.json")
    if result.unreadable:
        log.warning(f"{result.unreadable} files cannot be used; the manifest says why.")
    log.info(f"{'dry run, not written:' if dry_run else 'written:'} {result.manifest}")
