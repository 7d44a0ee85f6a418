from __future__ import annotations

import pytest
import torch

from unip.errors import UnipError
from unip.runtime.device import choose_device, choose_precision

CPU = torch.device("cpu")


def test_device_and_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    for name in ("cuda", "mps"):
        with pytest.raises(UnipError, match=f"device {name} was requested"):
            choose_device(name)
    assert choose_precision("auto", CPU) == torch.float32
    assert choose_precision("bf16", CPU) == torch.bfloat16
    with pytest.raises(UnipError, match="fp16 needs a GPU"):
        choose_precision("fp16", CPU)
