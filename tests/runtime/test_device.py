from __future__ import annotations

import pytest
import torch

from unip.errors import UnipError
from unip.runtime import device
from unip.runtime.device import choose_device, choose_precision, training_precision

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


def test_what_auto_means_in_training(monkeypatch):
    def found(name="auto", *, on_gpu=False, on_processors=True):
        return training_precision(name, on_gpu=on_gpu, on_processors=on_processors)

    monkeypatch.setattr(device, "native_bfloat16", lambda: "AMX")
    assert (found(), found(on_processors=False), found("fp32")) == ("bf16", "fp32", "fp32")
    monkeypatch.setattr(device, "native_bfloat16", lambda: "")
    assert (found(), found("bf16")) == ("fp32", "bf16")
    for there, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda there=there: there)
        assert (found(on_gpu=True), found("fp32", on_gpu=True)) == (expected, "fp32")
    with pytest.raises(UnipError, match="fp16 needs a GPU"):
        found("fp16")
