from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from unip.data.sampling.frames import Frames, make_frame, rgb, unreadable_frame
from unip.data.sampling.scaling import short_side_size, window_starts
from unip.errors import UnipError
from unip.runtime.shared import Arena, slot_of

CPU = torch.device("cpu")


def write(path, height, width, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)).save(path)
    return path


def test_short_side_keeps_the_ratio():
    assert short_side_size(512, 640, 512) == (512, 640)
    assert short_side_size(240, 360, 512) == (512, 768)
    assert short_side_size(1000, 20, 10) == (500, 10)
    assert short_side_size(1450, 1280, 448) == (508, 448)  # 507.5, which floats would round down


def test_frames_are_resized_and_remember_the_original(tmp_path):
    frame = Frames([write(tmp_path / "a.png", 16, 24)], 32)[0]
    assert frame.image.shape == (16, 24)
    assert frame.pixels.shape == (1, 32, 48) and frame.pixels.dtype == torch.uint8
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    coloured = Frames([tmp_path / "b.png"], 32)[0]
    assert coloured.image.shape == (16, 24, 3)
    assert coloured.pixels.shape == (3, 32, 48)
    for pixels in (frame.pixels, coloured.pixels):
        assert rgb(pixels).shape == (3, 32, 48)
        assert torch.equal(rgb(pixels), torch.cat([pixels] * (3 // len(pixels))))


def test_shrinking_is_antialiased_as_in_training(tmp_path):
    path = write(tmp_path / "a.png", 96, 128)
    with Image.open(path) as image:
        expected = np.asarray(image.resize((43, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(Frames([path], 32)[0].pixels[0].numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("length", "starts"),
    [(512, [0]), (300, [0]), (513, [0, 1]), (640, [0, 128]), (853, [0, 341]), (854, [0, 341, 342])],
)
def test_windows_end_at_the_border(length, starts):
    assert window_starts(length, 512, 341) == starts


@pytest.mark.parametrize("length", range(1, 60, 7))
def test_windows_cover_everything(length):
    seen = np.zeros(length, bool)
    for start in window_starts(length, 16, 10):
        assert start + min(16, length) <= length
        seen[start : start + 16] = True
    assert seen.all()


@pytest.mark.parametrize(("shape", "side"), [((32, 40), 32), ((32, 40), 16), ((32, 40, 3), 32), ((40, 33), 33)])
def test_frames_travel_between_processes(shape, side):
    """Also those whose pixels are the image, of which one copy travels."""
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    frame = make_frame(3, image, side)
    other = pickle.loads(pickle.dumps(frame))
    assert torch.equal(other.pixels, frame.pixels) and other.pixels.shape == frame.pixels.shape
    np.testing.assert_array_equal(other.image, image)
    assert (frame.__getstate__()["pixels"] is None) == (side == min(shape[:2]) and len(shape) == 2)
    empty = pickle.loads(pickle.dumps(unreadable_frame(1, UnipError("a", "b"))))
    assert empty.problem.what == "a" and empty.pixels.shape == (1, 0, 0)


@pytest.mark.parametrize("shape", [(20, 30), (40, 60), (20, 30, 3)])
def test_a_frame_in_shared_memory_is_pickled_as_places(shape):
    slot = Arena(2**16, 1).fill(0)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    frame = make_frame(0, image, 20)
    pixels = frame.pixels.clone()
    frame.move(slot)
    pickled = pickle.dumps(frame)
    again = pickle.loads(pickled)
    assert len(pickled) < 1000 and slot_of(again.image) is slot
    assert slot.begin_of(again.pixels.numpy()) is not None
    np.testing.assert_array_equal(again.image, image)
    assert torch.equal(again.pixels, pixels) and torch.equal(frame.pixels, pixels)
