"""How the torch engine keeps a GPU at work; the GPU here is the processor, with the calls that wait for it noted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from unip.deployment.config import LoadConfig
from unip.deployment.engine import Wanted
from unip.deployment.engines.torch_engine import TorchEngine
from unip.deployment.inputs import Reader
from unip.segmentation.inference import Inference
from unip.segmentation.storage import save_segmenter

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def paths(tmp_path):
    made = []
    for number in range(7):
        frame = np.random.default_rng(number).integers(0, 256, (32, 40 + number % 2), dtype=np.uint8)
        made.append(tmp_path / f"{number}.png")
        Image.fromarray(frame).save(made[-1])
    made[4].write_bytes(b"no image")
    return made


@pytest.fixture
def load(tmp_path, make_segmenter):
    save_segmenter(make_segmenter(), tmp_path / "model")

    def loaded(device="cpu", **settings) -> TorchEngine:
        return TorchEngine(tmp_path / "model", LoadConfig(device=device, batch_size=2, **settings), "m")

    return loaded


def masks(engine, items):
    return list(engine.segment(items, Reader(engine.facts.conversion), Wanted(probabilities=True), 0))


def same(found, expected) -> None:
    assert [one.given.name for one in found] == [one.given.name for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert bool(one.given.problem) == bool(other.given.problem)
        for name in ("ids", "confidence", "probabilities"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_gpu_runs_the_next_groups_while_results_are_taken(load, paths, monkeypatch):
    expected = masks(load(), paths)
    events = []

    class Event:
        def __init__(self, blocking):
            pass

        def record(self, stream):
            events.append("started")

        def synchronize(self):
            events.append("waited")

    engine = load()
    engine.inference.device = SimpleNamespace(type="cuda")
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(Inference, "_move", lambda self, pixels: pixels.expand(3, -1, -1))
    same(masks(engine, paths), expected)
    groups = len(events) // 2
    assert events == ["started", "started", *["started", "waited"] * (groups - 2), "waited", "waited"] and groups > 2
    events.clear()
    frames = masks(engine, (np.asarray(Image.open(path)) for path in paths[:4]))  # of a camera: none waits for others
    assert len(frames) == 4 and events == ["started", "waited"] * (len(events) // 2)


@gpu
def test_a_gpu_gives_the_masks_of_the_processor(load, paths):
    found, expected = (masks(load(device, precision="fp32"), paths * 4) for device in ("cuda", "cpu"))
    for one, other in zip(found, expected, strict=True):
        assert (one.ids == other.ids).mean() > 0.999 if one.ids.size else not other.ids.size
