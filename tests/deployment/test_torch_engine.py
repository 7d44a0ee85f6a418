"""How the torch engine keeps a GPU at work; the GPU here is the processor, with the calls that wait for it noted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from unip.deployment.config import LoadConfig
from unip.deployment.engine import Wanted
from unip.deployment.engines.torch_batches import Batches
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


class Recording:
    """Stands for a CUDA graph: notes its calls, and answers in the same memory."""

    calls = 0

    def __init__(self, compute, batch):
        self.compute = compute
        self.result = tuple(None if each is None else each.clone() for each in compute(*batch))

    def __call__(self, *batch):
        Recording.calls += 1
        for held, new in zip(self.result, self.compute(*batch), strict=True):
            if held is not None:
                held.copy_(new)
        return tuple(None if each is None else each.clone() for each in self.result)  # as copies from a GPU are


@pytest.mark.parametrize("settings", [{"window": "slide"}, {"window": "whole"}, {}, {"augment": "flip"}])
@pytest.mark.parametrize("colour", [False, True])
def test_batches_give_what_frames_give_one_by_one(load, tmp_path, monkeypatch, settings, colour):
    """Frames of one size, of several, of a size that is resized, and damaged ones; of one and of several windows."""
    monkeypatch.setattr("unip.segmentation.inference.CudaGraph", Recording)
    monkeypatch.setattr(Recording, "calls", 0)
    paths = []
    sizes = [(32, 40)] * 8 + [(32, 40), (32, 70), (48, 90)] + [(48, 90)] * 9
    for number, size in enumerate(sizes):
        shape = (*size, 3) if colour else size
        frame = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        paths.append(tmp_path / f"{number:02}.png")
        Image.fromarray(frame).save(paths[-1])
    for broken in (3, 14):
        paths[broken].write_bytes(b"no image")
    expected = masks(load(**settings), paths)
    engine = load(**settings)
    engine.batches = Batches(engine.inference, engine.finish)
    same(masks(engine, paths), expected)
    assert bool(Recording.calls) != bool(settings.get("augment"))
    assert [one.windows for one in masks(engine, paths)] == [one.windows for one in expected]


@gpu
@pytest.mark.parametrize("window", ["slide", "whole"])
def test_a_gpu_captures_whole_batches(load, tmp_path, window):
    """From pixels to ids; masks are those of frames one by one."""
    paths = []
    for number in range(15):
        paths.append(tmp_path / f"{number:02}.png")
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (48, 90), dtype=np.uint8)).save(paths[-1])
    engine = load("cuda", window=window)
    found = masks(engine, paths)
    assert engine.batches.run.graph is not None
    engine.batches = None
    for one, other in zip(found, masks(engine, paths), strict=True):
        assert (one.ids == other.ids).mean() > 0.999
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-3)


@gpu
def test_a_gpu_gives_the_masks_of_the_processor(load, paths):
    found, expected = (masks(load(device, precision="fp32"), paths * 4) for device in ("cuda", "cpu"))
    for one, other in zip(found, expected, strict=True):
        assert (one.ids == other.ids).mean() > 0.999 if one.ids.size else not other.ids.size
