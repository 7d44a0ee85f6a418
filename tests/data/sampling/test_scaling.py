"""To which size frames are resized."""

from __future__ import annotations

import pytest

from unip.data.sampling.scaling import FAR, Scaling
from unip.errors import UnipError


@pytest.mark.parametrize(
    ("scale", "size", "wanted"),
    [
        ("fit", (8000, 10000), (512, 640)),
        ("native", (8000, 10000), (6400, 8000)),
        ("native", (320, 400), (256, 320)),
        (0.25, (8000, 10000), (2000, 2500)),
        (2, (64, 80), (128, 160)),
        ("auto", (640, 800), (512, 640)),
        ("auto", (1279, 5000), (512, 2002)),  # below twice 640
        ("auto", (1280, 5000), (1024, 4000)),
        ("auto", (5000, 1280), (4000, 1024)),
        ("auto", (320, 400), (512, 640)),  # smaller ones are fitted
    ],
)
def test_sizes(scale, size, wanted):
    scaling = Scaling(512, 640, scale)
    assert FAR == 2.0
    assert scaling.size(*size) == wanted
    assert scaling.by(*size) == pytest.approx(wanted[0] / size[0], rel=2e-3)


def test_training_of_unknown_size():
    assert Scaling(512, None).size(8000, 10000) == (512, 640)
    assert Scaling(512, None, 0.5).size(8000, 10000) == (4000, 5000)
    with pytest.raises(UnipError, match="M does not say how large its frames of training were") as caught:
        Scaling(512, None, "native").check("M")
    assert "512 divided by the short side" in caught.value.fix


def test_windows_are_counted():
    assert Scaling(32, 32, "native", 32, 21).windows((32, 32)) == 1
    assert Scaling(32, 32, "native", 32, 21).windows((54, 33)) == 3 * 2
