"""The graph computes what prediction computes, for every kind of model, size and type; in torch, before any export."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from tests.deployment.export.frames import SIZES, TYPES, make_frame
from tests.segmented import segment_frames
from unip.data.images.config import Conversion
from unip.data.sampling.frames import Frames
from unip.deployment.export.graph import FrameToMask, without_choices
from unip.deployment.export.reference import reference_logits
from unip.vit.architecture import BackboneSpec

SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 2}
BACKBONES = {
    "patch 8": BackboneSpec(arguments={"img_size": 32, "patch_size": 8, **SMALL}),
    "patch 14": BackboneSpec(arguments={"img_size": 42, "patch_size": 14, **SMALL}),
    "patch 16, 4 last heads": BackboneSpec(arguments={"img_size": 48, "patch_size": 16, **SMALL}, last_heads=4),
    "registers": BackboneSpec(timm_name="vit_small_patch14_reg4_dinov2", arguments={**SMALL, "img_size": 42}),
    "DINOv3": BackboneSpec(timm_name="vit_small_patch16_dinov3", arguments=SMALL),
    "EVA-02": BackboneSpec(timm_name="eva02_tiny_patch14_224", arguments=SMALL),
    "DeiT III": BackboneSpec(timm_name="deit3_small_patch16_224", arguments=SMALL),
    "CLIP": BackboneSpec(timm_name="vit_base_patch16_clip_quickgelu_224", arguments=SMALL),
}


def contrasting(segmenter):
    """Give a model of random weights logits that depend on the frame."""
    with torch.no_grad():
        for parameter in segmenter.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return segmenter


def compare(segmenter, frame, run):
    """Return the share of equal pixels, and the largest difference of logits in spreads."""
    ids, confidence, logits = (np.asarray(each) for each in run(frame))
    expected = reference_logits(segmenter, frame)
    assert ids.dtype == np.uint8 and ids.shape == confidence.shape == frame.shape[:2]
    np.testing.assert_allclose(confidence, torch.from_numpy(logits).softmax(0).amax(0), atol=1e-5)
    spread = float(expected.max() - expected.min())
    return (ids == expected.argmax(0).numpy()).mean(), np.abs(logits - expected.numpy()).max() / spread


def in_torch(segmenter, kind):
    graph = FrameToMask(copy.deepcopy(segmenter), kind)

    def run(frame):
        with torch.no_grad(), without_choices():
            return graph(torch.from_numpy(frame))

    return run


@pytest.mark.parametrize("decoder", ["light", "upernet"])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_and_decoders(name, decoder, make_segmenter):
    segmenter = contrasting(make_segmenter(BACKBONES[name], decoder=decoder, short_side=48, crop=48))
    run = in_torch(segmenter, "uint8")
    for size in SIZES[::4]:
        same, difference = compare(segmenter, make_frame(size, "uint8"), run)
        assert same >= 0.999 and difference <= 1e-3, size


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("decoder", ["linear", "conv"])
def test_types_and_sizes(decoder, kind, make_segmenter):
    segmenter = contrasting(make_segmenter(BACKBONES["patch 14"], decoder=decoder))
    run = in_torch(segmenter, kind)
    for size in SIZES:
        same, difference = compare(segmenter, make_frame(size, kind), run)
        assert same >= 0.999 and difference <= 1e-3, size


def test_colour(make_segmenter):
    segmenter = contrasting(make_segmenter(decoder="linear"))
    run = in_torch(segmenter, "uint8")
    for seed, size in enumerate(SIZES[2::6]):
        frame = np.stack([make_frame(size, "uint8", seed + i) for i in range(3)], axis=2)
        same, difference = compare(segmenter, frame, run)
        assert same >= 0.999 and difference <= 1e-3, size


@pytest.mark.parametrize("kind", TYPES)
def test_the_reference_is_what_prediction_computes(kind, make_segmenter, tmp_path):
    """From a file, by whole images."""
    segmenter = contrasting(make_segmenter(decoder="linear", conversion=Conversion(method="minmax")))
    frame = make_frame((50, 63), kind)
    Image.fromarray(frame).save(tmp_path / "frame.tiff")
    frames = Frames([tmp_path / "frame.tiff"], segmenter.spec.short_side, segmenter.spec.conversion)
    ((_, logits),) = segment_frames(segmenter, frames, device=torch.device("cpu"), window="whole", workers=0)
    torch.testing.assert_close(reference_logits(segmenter, frame), logits, atol=1e-5, rtol=1e-5)


def test_the_model_stays_as_it_is(make_segmenter):
    """Adaptive pooling is replaced in a copy, and timm resamples as ever afterwards."""
    from timm.models import vision_transformer

    from unip.segmentation import heads

    before = vision_transformer.resample_abs_pos_embed, heads.upsample
    segmenter = make_segmenter(decoder="upernet")
    names = [type(module).__name__ for module in segmenter.modules()]
    in_torch(segmenter, "uint8")(make_frame((20, 30), "uint8"))
    assert [type(module).__name__ for module in segmenter.modules()] == names
    assert (vision_transformer.resample_abs_pos_embed, heads.upsample) == before
