"""`unip pretrain`: what settings and paths can refuse comes before torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unip.config import verb
from unip.data.labelled.settings import check_data
from unip.data.manifests.sources import check_sources
from unip.pretraining.config import PretrainConfig
from unip.pretraining.recipes import begin
from unip.training.run_folder import run_folder
from unip.vit.sources import check_backbone
from unip.vit.student import student_spec

if TYPE_CHECKING:
    from unip.pretraining.program import PretrainResult


@verb(PretrainConfig)
def pretrain(config: PretrainConfig) -> PretrainResult | None:
    """Train a student on unlabelled images, by default on a teacher's hybrid attention.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Data, teacher, layer or settings do not fit together; the loss is not finite; the disk is full.
        Interrupted: Stopped by a signal; the same call continues.
    """
    with run_folder(config) as run:
        config = run.adopt(begin(config, run))
        if config.probe_data is not None:
            check_data(config.probe_data)
        check_sources(config.data)  # before models, which may have to be downloaded; reading all images takes longer
        if config.init == "random":
            student_spec(config.student)  # refuses an unknown name
        for source in [source for source, *_ in config.targets()] + [config.init] * (config.init != "random"):
            check_backbone(source)
        from unip.pretraining.program import run_pretraining  # needs torch
        from unip.training.loop import accelerated

        with accelerated(config) as accelerator:
            return run_pretraining(config, run, accelerator)
