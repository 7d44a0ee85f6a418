"""`unip analyze`: what settings and paths can refuse comes before torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unip.analysis.config import AnalyzeConfig
from unip.config import verb
from unip.data.manifests.sources import check_sources
from unip.errors import UnipError
from unip.features.config import ProbeSettings
from unip.outputs import output_folder
from unip.vit.sources import check_backbone

if TYPE_CHECKING:
    from unip.analysis.program import AnalyzeResult


@verb(AnalyzeConfig)
def analyze(config: AnalyzeConfig) -> AnalyzeResult | None:
    """Measure each layer's attention and features, name its pattern, recommend the layer to distil, write a report.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: A model or every image cannot be read, or the settings do not fit a model.
    """
    if config.groups and len(config.groups) != len(config.models):
        raise UnipError(
            f"groups: {len(config.groups)}, but models: {len(config.models)}",
            "Give one group a model, in order, or none.",
        )
    if config.local_above <= config.global_below:
        raise UnipError(
            f"local_above {config.local_above:g} is not above global_below {config.global_below:g}",
            "Hybrid layers lie between them.",
        )
    with output_folder(config.out, overwrite=config.overwrite, dry_run=config.dry_run) as outputs:
        outputs.check("analysis.json", "measures.parquet", "report.html", folders=("figures", "maps"))
        check_sources([*config.images, *config.pair])
        for source in config.models:
            check_backbone(source)
        probe = probe_settings(config)
        from unip.segmentation.probe_data import open_splits  # needs numpy

        splits = None if probe is None else open_splits(probe)
        from unip.analysis.program import describe, prepare, run  # needs torch

        plan = prepare(config, probe, splits)
        describe(plan)
        return None if config.dry_run else run(plan, outputs)


def probe_settings(config: AnalyzeConfig) -> ProbeSettings | None:
    """Return what the linear probes are trained with, None where there are none."""
    if config.probe is None:
        return None
    train, test = config.probe_images
    return ProbeSettings.make(
        data=config.probe,
        remap=config.probe_remap,
        train_images=train,
        test_images=test,
        short_side=config.probe_side,
        seed=config.seed,
    )
