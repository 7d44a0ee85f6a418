"""Costs against sums by hand."""

from __future__ import annotations

import pytest
import torch

from unip.data.labelled.classes import Classes
from unip.errors import UnipError
from unip.segmentation.model import Segmenter, SegmenterSpec
from unip.suites.cost import count_flops, measure_cost, time_batch
from unip.suites.tasks import CostTask
from unip.vit.architecture import BackboneSpec

VIT = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2})
SPEC = SegmenterSpec.make(
    backbone=VIT,
    classes=Classes(("background", "hot")),
    decoder="linear",
    layers=(2,),
    channels=1,
    mean=(0.4, 0.4, 0.4),
    std=(0.2, 0.2, 0.2),
    short_side=32,
    crop=32,
)


def vit_flops(patches: int, blocks: int, width: int = 16, patch: int = 8) -> int:
    tokens = patches + 1
    block = tokens * (3 * width * width + width * width + 8 * width * width) + 2 * tokens * tokens * width
    return 2 * (patches * 3 * patch * patch * width + blocks * block)


def test_operations_of_a_vit_that_stops_at_the_layer_it_is_asked_for():
    segmenter = Segmenter(SPEC).eval()
    assert count_flops(segmenter, 32, backbone_only=True) == vit_flops(patches=16, blocks=2)
    assert count_flops(segmenter, 64, backbone_only=True) == vit_flops(patches=64, blocks=2)
    assert count_flops(segmenter, 32) == vit_flops(patches=16, blocks=2) + 2 * 16 * 16 * 2
    assert segmenter.mean.device.type == "cpu"  # it was not moved


def test_what_is_measured(tmp_path):
    task = CostTask(
        key="x", file=tmp_path / "x", spec=SPEC.model_dump(mode="json"), backbone_only=False, batch=2, device="cpu"
    )
    found = measure_cost(task)
    segmenter = Segmenter(SPEC)
    assert found.parameters == sum(p.numel() for p in segmenter.parameters())
    assert found.images_per_second > 0
    assert (found.speed_batch, found.speed_size, found.speed_device) == (2, 32, "cpu")
    assert found.speed_precision == "fp32"
    assert measure_cost(task.model_copy(update={"batch": "auto"})).speed_batch == 8


def test_the_batch_that_is_timed_fits_the_memory():
    asked = []

    def seconds(batch):
        asked.append(batch)
        if batch > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 0.5

    assert time_batch(seconds, "auto", torch.device("cuda")) == (16, 0.5)
    assert asked == [64, 32, 16]
    assert time_batch(seconds, 3, torch.device("cuda")) == (3, 0.5)
    with pytest.raises(UnipError, match="out of memory in timing 20 crops at once") as caught:
        time_batch(seconds, 20, torch.device("cuda"))
    assert "speed_batch" in caught.value.fix
