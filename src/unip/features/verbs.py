"""`unip data dedup`: what settings and paths can refuse comes before torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unip.config import verb
from unip.data.manifests.sources import check_sources
from unip.errors import UnipError
from unip.features.config import DedupConfig
from unip.outputs import output_folder
from unip.paths import exists, resolve
from unip.vit.sources import check_backbone

if TYPE_CHECKING:
    from unip.features.deduplication import DedupResult


@verb(DedupConfig)
def dedup(config: DedupConfig) -> DedupResult:
    """Find exact and near duplicates and write a manifest that keeps one of each group; no file is touched.

    After an interruption, the same call continues: what was read, and features, are in ``OUT/.unip``.

    Raises:
        UnipError: A source is missing or empty, nothing can be used, ``OUT`` cannot be written, a manifest is there and
            must not be replaced, or the model cannot be loaded.
    """
    manifest = config.out / "manifest.parquet"
    if exists(manifest) and not config.overwrite:
        raise UnipError(f"{manifest} exists", "Choose another --out, or add --overwrite to replace it.")
    if config.overwrite and any(resolve(Path(source)) == resolve(manifest) for source in config.sources):
        raise UnipError(f"{manifest} is a source and would be replaced", "Choose another --out.")
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("manifest.parquet", "groups.json")
        check_sources(config.sources)
        if config.model is not None:
            check_backbone(config.model)
        from unip.features.deduplication import mark_duplicates  # needs torch

        return mark_duplicates(config, outputs)
