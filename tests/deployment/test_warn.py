"""A warning names the line of the user that led to it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import unip
from unip.segmentation.storage import save_segmenter
from unip.segmentation.training_images import TrainingImages


@pytest.mark.parametrize("way", ["one", "list", "stream"])
def test_a_warning_is_at_the_line_that_calls_the_model(tmp_path, make_segmenter, way):
    images = TrainingImages(depth="more than 8 bits", colours="grey", size=(32, 40))
    save_segmenter(make_segmenter(images=images), tmp_path / "model")
    model, grey = unip.load(tmp_path / "model", device="cpu"), np.zeros((32, 40), np.uint8)
    with pytest.warns(UserWarning, match="has 8 bits") as caught:
        line = inspect.currentframe().f_lineno + 1
        model(grey) if way == "one" else list(model([grey], stream=way == "stream"))
    assert [(each.filename, each.lineno) for each in caught] == [(__file__, line)]
