"""What an exported file says about itself, read without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from unip.data.images.config import Conversion
from unip.data.labelled.classes import Classes
from unip.deployment.export.metadata import (
    ExportMetadata,
    GoldenFrame,
    pack_golden,
    size_limits,
    unpack_golden,
)
from unip.errors import UnipError
from unip.segmentation.training_images import TrainingImages
from unip.zoo.lineage import Ancestor, Lineage

IMAGES = TrainingImages(depth="8 bits", colours="grey", size=(240, 320))


def metadata(**changes) -> ExportMetadata:
    values = {
        "engine": "onnx",
        "precision": "fp32",
        "input": "uint8",
        "channels": 1,
        "classes": Classes(("background", "hot")),
        "conversion": Conversion(method="window", window=(280, 320)),
        "images": IMAGES,
        "short_side": 512,
        "crop": 512,
        "patch": 16,
        "largest": (480, 640),
        "longest": 1365,
        "model": "runs/ft",
        "lineage": Lineage.of([Ancestor(role="init", name="a", licence="MIT")]),
    }
    return ExportMetadata(**{**values, **changes})


def test_it_is_read_back_as_it_was_written():
    assert ExportMetadata.from_json(metadata().as_json(), "m.onnx") == metadata()


def test_it_is_read_without_torch():
    code = "import sys, unip.deployment.export.metadata; print({'torch', 'timm', 'pyarrow'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: None, "was not exported by unip"),
        (lambda held: {}, "no key 'engine'"),
        (lambda held: {**held, "format": "unip-export-9"}, "format: input should be 'unip-export-1'"),
        (lambda held: {**held, "classes": {"names": []}}, "classes: 0 names"),
        (lambda held: {**held, "extra": 1}, "unknown setting 'extra'"),
        (lambda held: {**held, "channels": 2}, "channels: "),
    ],
)
def test_what_it_must_not_say(change, message):
    changed = change(json.loads(metadata().as_json()))
    with pytest.raises(UnipError) as caught:
        ExportMetadata.from_json(None if changed is None else json.dumps(changed), "m.onnx")
    assert message in caught.value.what and "m.onnx" in caught.value.what
    assert caught.value.fix


def test_limits_follow_from_the_frames_of_training():
    largest, longest = size_limits(512, 512, IMAGES)
    assert (largest, longest) == ((480, 640), 1365)
    assert size_limits(512, 320, None) == (None, 1024)
    assert size_limits(256, 512, None) == (None, 1024)


@pytest.mark.parametrize(("dtype", "shape"), [("uint8", (5, 7)), ("int32", (5, 7)), ("float32", (5, 7, 3))])
def test_golden_frames_are_read_back(dtype, shape):
    rng = np.random.default_rng(0)
    golden = GoldenFrame(
        (rng.random(shape) * 300).astype(dtype),
        rng.integers(0, 3, shape[:2], dtype=np.uint8),
        rng.integers(0, 256, shape[:2], dtype=np.uint8),
    )
    (back,) = unpack_golden(pack_golden([golden]))
    for name, array in vars(golden).items():
        np.testing.assert_array_equal(getattr(back, name), array)
        assert getattr(back, name).dtype == array.dtype
    assert golden.agreement(golden.ids) == 1 and golden.agreement(golden.ids + 1) == 0
    assert unpack_golden(None) == unpack_golden("") == []


@pytest.mark.parametrize(
    "text", ["{", "[1]", '[{"frame": {}}]', '[{"frame": {"dtype": "O", "shape": [1], "zlib": ""}}]']
)
def test_damaged_golden_frames_are_refused(text):
    with pytest.raises(UnipError, match="the golden frames"):
        unpack_golden(text)
