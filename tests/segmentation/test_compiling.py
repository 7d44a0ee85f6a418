"""When fine-tuning compiles: for many steps, or where such kernels are kept; and what other kernels are made by."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.segmentation.test_defaults import facts
from unip.runtime.compiling import CACHE_VARIABLE, note_compiled, was_compiled
from unip.segmentation import finetuning
from unip.segmentation.compiling import SETTINGS, choose_compile, kernels_of
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.defaults import choose
from unip.vit.architecture import BackboneSpec

CONFIG = FinetuneConfig.make(model="m", data="d", out="o")
SPEC = BackboneSpec(arguments={"img_size": 32})
KERNELS = {"decoder": "light", "gpu": "G"}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """An empty folder of kept kernels."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))


def chosen(there, **change):
    return choose_compile(choose(CONFIG.model_copy(update=change), there)[0], there, KERNELS)


def test_it_is_the_machines_matter():
    note_compiled(KERNELS)
    for change, (on_gpu, ranks), expected in (
        ({}, (True, 1), "compiled-graphs"),
        ({"steps": 799}, (True, 1), "graphs"),
        ({"lora": 4}, (True, 1), "graphs"),
        ({}, (False, 1), "auto"),
        ({}, (True, 2), "auto"),  # a graph is for one GPU
        ({"recipe": "paper"}, (True, 1), "auto"),
        ({"checkpoint_activations": True}, (True, 1), "auto"),
        ({"compile": True}, (True, 1), True),
        ({"mode": "linear"}, (True, 1), False),
        ({"mode": "linear", "cache_features": False}, (True, 1), "compiled-graphs"),
    ):
        assert chosen(facts(on_gpu=on_gpu, ranks=ranks, images=100), **change)[0] == expected, change
    on_gpu = facts(on_gpu=True, images=100)
    assert chosen(replace(on_gpu, capturable=False))[0] == "auto"
    compiled, why = chosen(replace(on_gpu, not_compilable="triton is not installed"))
    assert compiled == "graphs" and "but triton is not installed" in why


def test_without_kept_kernels_it_takes_many_steps():
    there = facts(on_gpu=True, images=100)
    compiled, why = chosen(there, steps=4999)
    assert compiled == "graphs" and "pays off from 5,000 steps on" in why
    assert "--compile compiled-graphs" in why  # how several such runs have it anyway
    compiled, why = chosen(there, steps=5000)
    assert compiled == "compiled-graphs" and "half a minute" in why
    note_compiled({**KERNELS, "decoder": "upernet"})
    assert chosen(there, steps=4999)[0] == "graphs"
    note_compiled(KERNELS)
    compiled, why = chosen(there, steps=4999)
    assert compiled == "compiled-graphs" and "compiled here before" in why


def test_what_kernels_depend_on(monkeypatch):
    config, _ = choose(CONFIG, facts(on_gpu=True, images=100))
    assert kernels_of(config, SPEC, 3, torch.device("cpu")) == {}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "G")
    gpu = torch.device("cuda")
    found = kernels_of(config, SPEC, 3, gpu)
    assert found.keys() == {"unip", "torch", "gpu", "backbone", "classes", *SETTINGS}
    others = [
        kernels_of(config.model_copy(update={name: value}), SPEC, 3, gpu)
        for name, value in (("crop", 256), ("batch_size", 4), ("decoder", "upernet"), ("drop_path", 0.0))
    ]
    others += [kernels_of(config, SPEC, 4, gpu), kernels_of(config, SPEC.model_copy(update={"arguments": {}}), 3, gpu)]
    assert all(other != found for other in others)
    same = kernels_of(config.model_copy(update={"steps": 7, "lr": 1.0, "flip": 0.0}), SPEC, 3, gpu)
    assert same == found


@pytest.mark.parametrize(("mode", "noted"), [("compiled-graphs", True), ("graphs", False)])
def test_the_first_steps_note_their_kernels(monkeypatch, mode, noted):
    monkeypatch.setattr(finetuning, "describe_pace", lambda *_, **__: [])
    ready = SimpleNamespace(kernels=KERNELS, on_machine=SimpleNamespace(compile=mode), config=CONFIG, on_gpu=True)
    finetuning.tell_pace(ready, 0.01, 100)
    assert was_compiled(KERNELS) == noted
