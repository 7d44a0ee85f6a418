"""The model that `finetune_precision.py` and `finetune_step.py` measure: ViT-Tiny with random weights and a decoder."""

from __future__ import annotations

from collections.abc import Sequence

from unip.data.labelled.classes import Classes
from unip.segmentation.losses import PixelLoss
from unip.segmentation.model import SegmentationLoss, Segmenter, SegmenterSpec
from unip.vit.backbone import load_backbone

MODEL = "unip_tiny"


def make_model(decoder: str, classes: Sequence[str]) -> SegmentationLoss:
    """Return a model of these classes as fine-tuning trains it, without drop path."""
    backbone, upernet = load_backbone(MODEL, drop_path=0.0), decoder == "upernet"
    spec = SegmenterSpec(
        backbone=backbone.spec,
        classes=Classes(names=tuple(classes)),
        decoder=decoder,
        layers=(12,),
        channels=192 if upernet else 128,
        auxiliary_weight=0.4 if upernet else 0.0,
        mean=backbone.mean,
        std=backbone.std,
    )
    return SegmentationLoss(Segmenter(spec, backbone.model), PixelLoss(dice=True)).train()
