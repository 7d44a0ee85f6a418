from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from unip.errors import UnipError
from unip.features.store import FeatureStore, room_for


def test_a_full_disk_is_told_before_it_kills(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(UnipError, match="too much for memory") as caught:
        room_for((2, 30, 4), "none")
    assert "TMPDIR" in caught.value.fix


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_the_rows_of_a_frame_are_filled_in_place(cache):
    model = SimpleNamespace(spec=SimpleNamespace(layers=(1, 3)), backbone=SimpleNamespace(embed_dim=4))
    store = FeatureStore(model, [3, 0, 2], cache)
    for frame, value in ((0, 1.5), (2, 2.5)):
        store.of(frame).fill_(value)
    assert [store.of(frame).shape for frame in range(3)] == [(2, 3, 4), (2, 0, 4), (2, 2, 4)]
    assert store.rows.dtype == np.float16 and (store.rows[:, :, 0] == [1.5, 1.5, 1.5, 2.5, 2.5]).all()
