"""`unip finetune`: what settings and paths can refuse comes before torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unip.config import verb
from unip.data.labelled.settings import check_data
from unip.segmentation.config import FinetuneConfig
from unip.training.run_folder import run_folder
from unip.vit.sources import check_backbone

if TYPE_CHECKING:
    from unip.segmentation.finetuning import FinetuneResult


@verb(FinetuneConfig)
def finetune(config: FinetuneConfig) -> FinetuneResult | None:
    """Fine-tune a backbone for segmentation, or probe it.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Data, backbone or settings do not fit together; the loss is not finite; the disk is full.
        Interrupted: Stopped by a signal; the same call continues.
    """
    with run_folder(config) as run:
        config = run.adopt(config)
        check_data(config.data)
        check_backbone(config.model)
        from unip.data.labelled.datasets import open_segmentation  # needs numpy

        data = open_segmentation(config.data, config.split, remap=config.remap)
        val = None if config.val is None else open_segmentation(config.data, config.val, remap=config.remap)
        from unip.segmentation.finetuning import train_segmenter  # needs torch
        from unip.training.loop import accelerated

        with accelerated(config) as accelerator:
            return train_segmenter(config, run, data, val, accelerator)
