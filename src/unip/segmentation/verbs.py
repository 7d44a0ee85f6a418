"""`unip finetune`: what settings and paths can refuse comes before torch."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from unip.config import verb
from unip.data.labelled.settings import Places, check_data
from unip.errors import UnipError
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.settings import HELD_OUT
from unip.training.run_folder import run_folder
from unip.vit.sources import check_backbone

if TYPE_CHECKING:
    from unip.segmentation.finetuning import FinetuneResult

log = logging.getLogger(__name__)


@verb(FinetuneConfig)
def finetune(config: FinetuneConfig) -> FinetuneResult | None:
    """Fine-tune a backbone for segmentation, or probe it.

    Returns:
        The result, or None for a dry run.

    Raises:
        UnipError: Data, backbone or settings do not fit together; the loss is not finite; the disk is full.
        Interrupted: Stopped by a signal; the same call continues.
    """
    check_data(config.data)
    if config.pseudo is not None:
        from unip.segmentation.pseudo import check_pseudo  # needs numpy

        check_pseudo(config.pseudo)
    elif config.pseudo_share != FinetuneConfig.model_fields["pseudo_share"].default:
        raise UnipError(
            f"pseudo_share {config.pseudo_share:g} is of pseudo-labels, and none are given",
            "Give the output folder of `unip predict` with --pseudo, or leave --pseudo-share out.",
        )
    config = without_splits(config)
    with run_folder(config) as run:
        config = run.adopt(config)
        check_backbone(config.model)
        from unip.data.labelled.datasets import open_segmentation  # needs numpy

        open_split = partial(open_segmentation, config.data, remap=config.remap, places=Places.of(config))
        data = open_split(config.split)
        val = None if config.val in (None, HELD_OUT) else open_split(config.val)
        from unip.segmentation.finetuning import train_segmenter  # needs torch
        from unip.training.loop import accelerated

        with accelerated(config) as accelerator:
            return train_segmenter(config, run, data, val, accelerator)


def without_splits(config: FinetuneConfig) -> FinetuneConfig:
    """Take the whole folder where no split was asked for and there is none, and say so."""
    if "split" in config.model_fields_set:
        return config
    from unip.data.labelled.datasets import list_splits  # needs numpy

    if list_splits(config.data, Places.of(config)):
        return config
    log.info(f"{config.data} has no splits: all its labelled images are taken")
    return config.model_copy(update={"split": ""})
