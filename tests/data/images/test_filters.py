from __future__ import annotations

import numpy as np
import pytest

from unip.data.images.filters import blur


def test_blur_keeps_the_mean_and_spreads_a_point() -> None:
    point = np.zeros((31, 31), dtype=np.float32)
    point[15, 15] = 1
    out = blur(point, 1.5).astype(np.float64)
    assert out.sum() == pytest.approx(1.0, abs=1e-5)
    x = np.arange(31) - 15.0
    assert np.sqrt((out.sum(axis=0) * x * x).sum()) == pytest.approx(1.5, rel=0.05)
