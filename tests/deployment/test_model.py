"""`unip.load` and calling a model: whatever it is given, the mask is that of `unip predict`."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unip
from unip.data.images.config import Conversion
from unip.data.sampling.frames import Frames, rgb
from unip.deployment.verbs import predict
from unip.errors import UnipError
from unip.segmentation.sliding import sliding_logits
from unip.segmentation.storage import load_segmenter, save_segmenter
from unip.segmentation.training_images import TrainingImages

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SIZES = [(20, 30), (48, 40), (32, 32), (50, 33), (40, 90)]


@pytest.fixture
def folder(tmp_path, make_segmenter) -> Path:
    save_segmenter(make_segmenter(), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def frames(tmp_path) -> list[Path]:
    """Frames of 8 and of 16 bits and of several sizes."""
    rng = np.random.default_rng(0)
    found = []
    for number, size in enumerate(SIZES):
        kind = (np.uint8, np.uint16)[number % 2]
        path = tmp_path / "frames" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(300, 9000, size).astype(kind)).save(path)
        found.append(path)
    return found


def written(folder: Path, frames: list[Path], out: Path) -> list[np.ndarray]:
    """Return the masks that `unip predict` writes."""
    result = predict(model=folder, images=tuple(frames), out=out, device="cpu")
    return [np.asarray(Image.open(result.masks[path])) for path in frames]


def test_every_way_to_give_frames_makes_the_masks_of_predict(folder, frames, tmp_path):
    expected = written(folder, frames, tmp_path / "out")
    model = unip.load(folder, device="cpu")
    arrays = [np.asarray(Image.open(path)) for path in frames]
    ways = {
        "paths": frames,
        "texts": [str(path) for path in frames],
        "folder": frames[0].parent,
        "list of a folder": [frames[0].parent],
        "arrays": arrays,
        "one channel": [array[..., None] for array in arrays],
        "integers": [array.astype(np.int64) if array.dtype == np.uint16 else array for array in arrays],
        "pillow": [Image.open(path) for path in frames],
        "tensors": [torch.tensor(array)[None] for array in arrays],
        "generator": (array for array in arrays),
        "mixed": [frames[0], arrays[1], *frames[2:]],
    }
    for way, given in ways.items():
        masks = [result.mask for result in model(given)]
        assert len(masks) == len(expected), way
        assert all(np.array_equal(mask, one) for mask, one in zip(masks, expected, strict=True)), way


def test_one_frame_gives_one_result(folder, frames, tmp_path):
    """The batch that a frame runs in does not matter for its mask here: all windows have one size."""
    expected = written(folder, frames[:1], tmp_path / "out")[0]
    model = unip.load(str(folder), device="cpu")
    for given in (frames[0], str(frames[0]), np.asarray(Image.open(frames[0])), Image.open(frames[0])):
        result = model(given)
        assert isinstance(result, unip.Result)
        np.testing.assert_array_equal(result.mask, expected)
    assert isinstance(model([frames[0]]), list)


def test_the_mask_is_the_largest_mean_of_logits(folder, frames):
    """Against the network and its windows, without what predicts."""
    segmenter = load_segmenter(folder)
    result = unip.load(folder, device="cpu")(frames[4])
    frame = Frames([frames[4]], 32)[0]
    (logits,) = sliding_logits(segmenter, [rgb(frame.pixels)], crop=32, stride=21)
    logits = torch.nn.functional.interpolate(logits[None], size=SIZES[4], mode="bilinear")[0]
    np.testing.assert_array_equal(result.mask, logits.argmax(0).numpy())
    shares = logits.double().softmax(0)
    np.testing.assert_allclose(result.probabilities, shares.numpy(), atol=1e-6)
    np.testing.assert_allclose(result.confidence, shares.amax(0).numpy(), atol=1e-6)
    assert (result.confidence.dtype, result.probabilities.dtype, result.mask.dtype) == (
        np.float32,
        np.float32,
        np.uint8,
    )
    assert result.timings.model_seconds > 0 and result.timings.read_seconds > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 5), (33, 31), (7, 200)])
def test_odd_and_tiny_frames(folder, size):
    frame = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    result = unip.load(folder, device="cpu")(frame)
    assert result.mask.shape == result.confidence.shape == result.image.shape == size
    assert result.summary() and result.plot().width == size[1] and result.polygons() is not None


def test_a_frame_that_would_become_too_large_is_refused(folder, monkeypatch):
    model = unip.load(folder, device="cpu")
    monkeypatch.setattr("unip.limits._max_pixels", 32 * 320)
    assert model(np.zeros((4, 40), np.uint8)).size == (4, 40)
    with pytest.raises(UnipError, match="frame 0: an image of 41x4, resized to a short side of 32, claims 328x32"):
        model(np.zeros((4, 41), np.uint8))


def test_evaluate_sees_the_same_masks(folder, segmentation_folder, tmp_path):
    found = unip.evaluate(model=folder, data=segmentation_folder, split="test", out=tmp_path / "e", device="cpu")
    matrix = np.zeros((3, 3), np.int64)
    for result in unip.load(folder, device="cpu")(segmentation_folder / "test" / "images"):
        truth = np.asarray(Image.open(segmentation_folder / "test" / "masks" / result.path.name))
        np.add.at(matrix, (truth[truth < 255], result.mask[truth < 255]), 1)
    np.testing.assert_array_equal(found.scores.matrix, matrix)


def test_a_stream_reads_no_further_than_its_batch(folder, frames):
    model = unip.load(folder, device="cpu", batch_size=1)
    taken = []

    def camera():
        for number in range(1000):
            taken.append(number)
            yield np.full((32, 32), number % 251, np.uint8)

    results = model(camera(), stream=True)
    assert taken == []
    for number in range(3):
        assert next(results).image[0, 0] == number
        assert len(taken) == number + 1


def test_a_camera_may_fill_the_same_memory_again(folder):
    model = unip.load(folder, device="cpu")
    scene = np.random.default_rng(0).integers(0, 251, (32, 32))

    def frame(number, kind):
        return (np.roll(scene, number) * (1 if kind == np.uint8 else 100)).astype(kind)

    def camera(buffer):
        for number in range(20):
            buffer[:] = frame(number, buffer.dtype)
            yield buffer

    for kind, unit in ((np.uint8, None), (np.uint16, None), (np.float32, "counts")):
        images = [result.image for result in model(camera(np.zeros((32, 32), kind)), unit=unit)]
        np.testing.assert_array_equal(images, [model(frame(i, kind), unit=unit).image for i in range(20)])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
def test_eight_threads_are_equal_to_one(folder, frames, device):
    model = unip.load(folder, device=device)
    expected = [unip.load(folder, device=device)(path) for path in frames]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(model, frames * 8))
    for number, result in enumerate(found):
        one = expected[number % len(frames)]
        np.testing.assert_array_equal(result.mask, one.mask)
        np.testing.assert_allclose(result.confidence, one.confidence, atol=1e-6 if device == "cpu" else 1e-3)


def test_processes_that_decode_change_nothing(folder, frames):
    model = unip.load(folder, device="cpu")
    for one, other in zip(model(frames, workers=2), model(frames, workers=0), strict=True):
        assert one.path == other.path
        for what in ("mask", "confidence", "image"):
            np.testing.assert_array_equal(getattr(one, what), getattr(other, what))


def test_no_socket_is_opened(folder, frames, tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)
    assert unip.load(folder, device="cpu")(frames[0]).labels
    assert unip.load("unip-aerial-tiny", device="cpu").names[1] == "person"
    assert written(folder, frames[:1], tmp_path / "out")


def test_many_frames_leave_nothing_behind(folder):
    """What is held after a hundred frames was held after ten."""
    import gc

    model = unip.load(folder, device="cpu", batch_size=1)
    frame = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)

    def objects(count):
        for _ in model((frame for _ in range(count)), stream=True):
            pass
        gc.collect()
        return len(gc.get_objects())

    objects(10)
    few = objects(10)
    assert objects(100) - few < 50


def test_temperatures(tmp_path, make_segmenter):
    """A window in Kelvin gives the same for Kelvin, for Celsius, and for the grey that it makes of them."""
    save_segmenter(make_segmenter(conversion=Conversion(method="window", window=(280, 320))), tmp_path / "model")
    model = unip.load(tmp_path / "model", device="cpu")
    kelvin = np.random.default_rng(0).uniform(270, 330, (32, 40)).astype(np.float32)
    kelvin[0, 0] = np.nan
    grey = np.rint(np.clip((kelvin - 280) / 40, 0, 1) * 255)
    grey[0, 0] = 0
    results = [
        model(kelvin, unit="kelvin"),
        model(kelvin.astype(np.float64) - 273.15, unit="celsius"),
        model(torch.from_numpy(kelvin), unit="kelvin"),
        model(Image.fromarray(kelvin), unit="kelvin"),
    ]
    for result in results:
        assert np.abs(result.image.astype(int) - grey).max() <= 1
        np.testing.assert_allclose(result.kelvin, kelvin, atol=1e-3)
    np.testing.assert_array_equal(results[0].mask, results[2].mask)
    assert model(grey.astype(np.uint8)).kelvin is None
    first = results[0].summary()[0]
    inside = kelvin[(results[0].mask == first.class_id) & np.isfinite(kelvin)]
    assert (first.kelvin_min, first.kelvin_max) == (inside.min(), inside.max())
    assert first.kelvin_mean == pytest.approx(inside.mean(), rel=1e-5)


def test_what_differs_from_training_is_said_once_and_noted_always(tmp_path, make_segmenter):
    images = TrainingImages(depth="more than 8 bits", colours="grey", size=(32, 40))
    save_segmenter(make_segmenter(images=images), tmp_path / "model")
    model = unip.load(tmp_path / "model", device="cpu")
    grey = np.random.default_rng(0).integers(0, 255, (32, 40), np.uint8)
    with pytest.warns(UserWarning, match="frame 0 has 8 bits, but the model was trained on frames of more"):
        first = model(grey)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = model([grey.astype(np.uint16) * 9 + 300, grey])[1]
    assert first.notes and second.notes == (first.notes[0].replace("frame 0", "frame 1"),)
    assert "trained on frames of more" in second._repr_html_()
    with pytest.warns(UserWarning, match="in colour"):
        model(np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8))
    with pytest.warns(UserWarning, match="is 200x160"):
        model(np.zeros((160, 200), np.uint8))


def test_numbers_of_another_unit_are_said(tmp_path, make_segmenter):
    save_segmenter(make_segmenter(conversion=Conversion(method="window", window=(280, 320))), tmp_path / "model")
    model = unip.load(tmp_path / "model", device="cpu")
    kelvin = np.random.default_rng(0).uniform(270, 330, (32, 40)).astype(np.float32)
    with pytest.warns(UserWarning, match=r"lies outside of the window 280\.\.320 .* but for 0\.0 %"):
        model((kelvin * 100).astype(np.uint16))
    with pytest.warns(UserWarning, match="looks like Kelvin"):
        model(kelvin, unit="celsius")
    with pytest.warns(UserWarning, match="below 256 in 16 bits"):
        model(np.arange(200, dtype=np.uint16).reshape(10, 20))


def test_a_trained_channel_is_read_of_arrays_too(tmp_path, make_segmenter):
    images = TrainingImages(channel=3, depth="8 bits", colours="grey", size=(32, 40))
    save_segmenter(make_segmenter(images=images), tmp_path / "model")
    model = unip.load(tmp_path / "model", device="cpu")
    four = np.random.default_rng(0).integers(0, 255, (32, 40, 4), np.uint8)
    np.testing.assert_array_equal(model(four).image, four[..., 3])
    np.testing.assert_array_equal(model(torch.from_numpy(four).permute(2, 0, 1)).image, four[..., 3])
    np.testing.assert_array_equal(model(four[..., 3]).image, four[..., 3])
    with pytest.raises(UnipError, match="has 3 channels, but the model was trained on channel 4"):
        model(four[..., :3])


def test_damaged_files_are_told_of(folder, frames):
    frames[1].write_bytes(frames[1].read_bytes()[:80])
    model = unip.load(folder, device="cpu")
    with pytest.raises(UnipError, match=r"1\.png is truncated or damaged"):
        model(frames)
    results = model(frames, stream=True)
    assert next(results).path == frames[0]


def test_what_cannot_be_loaded(folder, tmp_path, segmentation_folder):
    with pytest.raises(UnipError, match="does not exist"):
        unip.load(tmp_path / "none")
    with pytest.raises(UnipError, match="unip-ir-tiny is a backbone, and a segmenter is needed"):
        unip.load("unip-ir-tiny")
    with pytest.raises(UnipError, match="device"):
        unip.load(folder, device="gpu")
    with pytest.raises(UnipError, match="precision fp16 needs a GPU"):
        unip.load(folder, device="cpu", precision="fp16")
    with pytest.raises(UnipError, match="no images in"):
        unip.load(folder, device="cpu")(tmp_path / "model")


def test_settings_of_loading_are_those_of_predict(folder, frames, tmp_path):
    settings = {"polarity": "black-hot", "window": "whole", "nodata": 300.0}
    result = predict(model=folder, images=tuple(frames), out=tmp_path / "out", device="cpu", **settings)
    for found in unip.load(folder, device="cpu", **settings)(frames):
        np.testing.assert_array_equal(found.mask, np.asarray(Image.open(result.masks[found.path])))
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["conversion"]["nodata"] == 300


def test_a_model_is_compiled_on_request(folder, frames, monkeypatch):
    """By torch.compile; compiling itself takes minutes."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: lambda images: compiled.append(images.shape) or module(images))
    assert unip.load(folder, device="cpu", compile=True)(frames[2]).mask.shape == SIZES[2]
    assert compiled == [(1, 3, 32, 32)]
    unip.load(folder, device="cpu")(frames[2])
    assert len(compiled) == 1


def test_a_model_shows_itself(folder):
    model = unip.load(folder, device="cpu")
    assert "background, hot, cold" in repr(model) and "with torch on cpu in fp32" in repr(model)
    html = model._repr_html_()
    assert "<table>" in html and "0 background" in html and str(folder) in html
    assert model.names == ("background", "hot", "cold")


def test_loading_what_is_no_model_needs_no_torch(tmp_path):
    code = (
        "import sys, unip\n"
        "try: unip.load('nothing')\nexcept unip.UnipError as error: print(error.what)\n"
        "print({'torch', 'timm', 'matplotlib', 'contourpy', 'huggingface_hub'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["nothing does not exist", "set()"]
