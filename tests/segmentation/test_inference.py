import gc
import multiprocessing
import os
import signal
import sys
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from tests.segmented import segment_frames
from unip.data.labelled.outlines import StoredPicture
from unip.data.sampling.frames import Frames, fit_short_side, rgb
from unip.data.sampling.scaling import window_starts
from unip.deployment.config import PredictConfig
from unip.errors import UnipError
from unip.runtime.cuda_graphs import CudaGraph, NotCapturable
from unip.runtime.shared import Arena, slot_of
from unip.runtime.workers import lost_process_told
from unip.segmentation.config import EvaluateConfig
from unip.segmentation.inference import (
    Augmentation,
    Inference,
    ReplayedBatches,
    Sharing,
    class_ids,
    decoded,
)
from unip.segmentation.settings import WHOLE_UP_TO, sees_whole
from unip.segmentation.sliding import sliding_logits

CPU = torch.device("cpu")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def write(path, height, width, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("config", [EvaluateConfig, PredictConfig])
def test_fewer_than_no_workers(config):
    given = {"model": "m", **({"data": "d"} if config is EvaluateConfig else {"images": ("i",)})}
    with pytest.raises(UnipError, match=r"workers: .*greater than or equal to 0"):
        config.make(**given, workers=-1)
    assert [config.make(**given, workers=value).workers for value in (0, "auto")] == [0, "auto"]


def test_answers_come_in_order_at_the_stored_size(tmp_path, make_segmenter):
    """Frames of several sizes, with a broken one, over batches: each equals the model run on it alone."""
    segmenter = make_segmenter()
    sizes = [(32, 40), (48, 40), (32, 32), (50, 33), (32, 40), (64, 32)]
    paths = [write(tmp_path / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]
    paths[2].write_bytes(paths[2].read_bytes()[:60])
    found = list(segment_frames(segmenter, Frames(paths, 32), device=CPU, window="whole", workers=0))
    assert [frame.index for frame, _ in found] == list(range(6))
    for (frame, logits), size in zip(found, sizes, strict=True):
        if frame.index == 2:
            assert frame.problem is not None and "2.png" in frame.problem.what
            assert logits.numel() == 0
            continue
        assert frame.problem is None
        with torch.no_grad():
            alone = segmenter(rgb(frame.pixels)[None])
            expected = torch.nn.functional.interpolate(alone, size=size, mode="bilinear")[0]
        assert logits.shape == (3, *size)
        assert torch.allclose(logits, expected, atol=1e-4)


def test_grey_and_coloured_frames_run_together(tmp_path, make_segmenter):
    grey, coloured = write(tmp_path / "a.png", 32, 40), tmp_path / "b.png"
    levels = np.random.default_rng(1).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(levels).save(coloured)
    segmenter = make_segmenter()
    found = list(segment_frames(segmenter, Frames([grey, coloured, grey], 32), device=CPU, window="whole", workers=0))
    for (_, logits), path in zip(found, (grey, coloured, grey), strict=True):
        image = np.asarray(Image.open(path).convert("RGB"))
        with torch.no_grad():
            alone = segmenter(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0]
        assert torch.allclose(logits, alone, atol=1e-4)


def test_slide_equals_whole_where_one_window_covers_the_image(tmp_path, make_segmenter):
    frames = Frames([write(tmp_path / "a.png", 32, 32)], 32)
    segmenter = make_segmenter()
    answers = [
        next(segment_frames(segmenter, frames, device=CPU, window=window, workers=0))[1]
        for window in ("slide", "whole")
    ]
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    ("window", "batch_size", "images", "tried", "fix"),
    [
        ("slide", "auto", 1, "32 pixels, 2 at a time", "Use a --batch-size below 2."),
        ("slide", 1, 1, "32 pixels, 1 at a time", "Use --device cpu."),
        ("whole", 1, 1, "48 pixels, 1 at a time", "Use --window slide."),
        ("whole", 2, 2, "48 pixels, 2 at a time", "Use a --batch-size below 2, or --window slide."),
    ],
)
def test_too_little_memory_on_the_device(tmp_path, make_segmenter, monkeypatch, window, batch_size, images, tried, fix):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("unip.segmentation.inference.sliding_logits", full)
    frames = Frames([write(tmp_path / f"{number}.png", 32, 48) for number in range(images)], 32)
    with pytest.raises(UnipError, match=f"ran out of memory with windows of {tried}") as caught:
        list(segment_frames(make_segmenter(), frames, device=CPU, window=window, batch_size=batch_size, workers=0))
    assert caught.value.fix == fix


def test_a_worker_hands_over_the_problem(tmp_path, make_segmenter):
    (tmp_path / "bad.png").write_bytes(b"no image")
    found = list(segment_frames(make_segmenter(), Frames([tmp_path / "bad.png"], 32), device=CPU, workers=1))
    assert "bad.png is not an image" in found[0][0].problem.what


@pytest.fixture
def together(monkeypatch) -> list[int]:
    """How many frames go through the model together, group by group."""
    sizes = []

    def noted(model, images, **settings):
        sizes.append(len(images))
        return sliding_logits(model, images, **settings)

    monkeypatch.setattr("unip.segmentation.inference.sliding_logits", noted)
    return sizes


@pytest.mark.parametrize(
    ("window", "batch_size", "sizes"),
    [("slide", 4, [2, 2, 2, 1]), ("whole", 4, [4, 3]), ("slide", "auto", [4, 3]), ("whole", "auto", [4, 3])],
)
def test_frames_go_together_until_their_windows_fill_a_batch(
    tmp_path, make_segmenter, together, window, batch_size, sizes
):
    """Two windows a frame, which is one and a half windows large."""
    frames = Frames([write(tmp_path / f"{i}.png", 32, 48, seed=i) for i in range(7)], 32)
    list(segment_frames(make_segmenter(), frames, device=CPU, window=window, batch_size=batch_size, workers=0))
    assert together == sizes


def test_few_frames_go_together_where_their_logits_are_large(tmp_path, make_segmenter, together, monkeypatch):
    monkeypatch.setattr("unip.segmentation.inference.MAX_LOGITS", 3 * 32 * 48 * 2)
    frames = Frames([write(tmp_path / f"{i}.png", 32, 48, seed=i) for i in range(5)], 32)
    list(segment_frames(make_segmenter(), frames, device=CPU, batch_size=100, workers=0))
    assert together == [2, 2, 1]


class Recording:
    """Stands for cuda_graphs.Recorded where there is no GPU: notes its calls, and answers in the same memory."""

    made = 0

    def __init__(self, compute, batch):
        Recording.made += 1
        self.compute, self.calls = compute, 0
        self.result = compute(*batch).clone()

    def __call__(self, *batch):
        self.calls += 1
        return self.result.copy_(self.compute(*batch))


def test_batches_of_a_shape_that_keeps_coming_are_replayed(monkeypatch):
    monkeypatch.setattr("unip.segmentation.inference.CudaGraph", Recording)
    monkeypatch.setattr(Recording, "made", 0)
    model = ReplayedBatches(lambda images: images * 2.0)
    for shape in [(2, 3), (4, 3), (4, 5), (4, 3), (4, 5), (4, 3), (3, 3), (4, 5), (4, 5), (4, 3)]:
        images = torch.rand(shape)
        assert torch.equal(model(images), images * 2)
    assert (Recording.made, model.graph.calls) == (1, 2)  # (4, 3) from its third time on, and nothing else


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), NotCapturable("it waits\nfor the GPU")])
def test_what_cannot_be_recorded_runs_all_the_same(monkeypatch, capsys, error):
    made = []

    def fails(*_):
        made.append(1)
        raise error

    monkeypatch.setattr("unip.segmentation.inference.CudaGraph", fails)
    model = ReplayedBatches(lambda images: images * 2.0)
    for _ in range(5):
        assert torch.equal(model(torch.ones(4, 3)), torch.full((4, 3), 2.0))
    assert len(made) == 1
    said = "note: windows run kernel by kernel, as they cannot be captured as a CUDA graph: it waits\n"
    assert capsys.readouterr().out == ("" if isinstance(error, torch.OutOfMemoryError) else said)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replayed_batches_give_what_the_model_does(tmp_path, make_segmenter, monkeypatch, dtype):
    """Of two shapes, the last batch not full; the second run makes no graph."""
    replays = []

    class Noted(CudaGraph):
        def __call__(self, *batch):
            replays.append(batch[0].shape)
            return super().__call__(*batch)

    monkeypatch.setattr("unip.segmentation.inference.CudaGraph", Noted)
    device, segmenter = torch.device("cuda"), make_segmenter()
    sizes = [(32, 64)] * 9 + [(32, 48)] * 5 + [(32, 64)] * 4
    frames = Frames([write(tmp_path / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)], 32)
    settings = {"device": device, "dtype": dtype, "window": "whole", "batch_size": 2, "workers": 0}
    found = []
    for graphs in (True, False):
        if not graphs:
            monkeypatch.setattr("unip.segmentation.inference.ReplayedBatches", lambda model: model)
        results, junk = segment_frames(segmenter, frames, **settings), []
        found.append([])
        for _, logits in results:
            found[-1].append(logits.cpu())
            # what a recording still needs must not be free to be written on
            junk.append([torch.full_like(p, torch.nan, dtype=dtype) for p in segmenter.parameters()])
    assert replays == [(2, 3, 32, 64)] * 4  # pairs 3, 4, 8 and 9 of 9; 5 is mixed, 6 and 7 are of the other shape
    for replayed, plain in zip(*found, strict=True):
        assert torch.equal(replayed, plain)


@gpu
def test_a_model_that_waits_for_the_gpu_runs_without_a_graph(tmp_path, make_segmenter):
    device, segmenter = torch.device("cuda"), make_segmenter().cuda()
    segmenter.head.register_forward_hook(lambda module, given, result: result * float(result.abs().max() > -1))
    frames = Frames([write(tmp_path / f"{i}.png", 32, 32, seed=i) for i in range(5)], 32)
    for frame, logits in segment_frames(segmenter, frames, device=device, batch_size=2, workers=0):
        with torch.no_grad():
            alone = segmenter(rgb(frame.pixels.cuda())[None])[0]
        assert torch.allclose(logits, alone, atol=1e-4)


def masks_as_before(segmenter, image, window):
    """The masks of 0.1.0, step by step: windows one by one, sums, division, resizing, and argmax on the processor."""
    pixels = rgb(fit_short_side(image, segmenter.spec.short_side))
    height, width = pixels.shape[1:]
    crop, stride = (max(height, width), 1) if window == "whole" else (segmenter.spec.crop, segmenter.spec.stride)
    total, count = torch.zeros(3, height, width), torch.zeros(height, width)
    for top in window_starts(height, crop, stride):
        for left in window_starts(width, crop, stride):
            place = (slice(top, top + crop), slice(left, left + crop))
            with torch.no_grad():
                total[:, *place] += segmenter(pixels[:, *place][None])[0]
            count[place] += 1
    stored = torch.nn.functional.interpolate((total / count)[None], size=image.shape, mode="bilinear")[0]
    return stored.argmax(0).numpy().astype(np.uint8)


@pytest.mark.parametrize("window", ["slide", "whole"])
def test_masks_are_those_of_the_plain_computation(tmp_path, make_segmenter, window):
    segmenter = make_segmenter()
    sizes = [(32, 40), (64, 90), (32, 32), (50, 33), (20, 70)]
    paths = [write(tmp_path / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]
    found = segment_frames(segmenter, Frames(paths, 32), device=CPU, window=window, batch_size=1, workers=0)
    for frame, logits in found:
        np.testing.assert_array_equal(class_ids(logits).numpy(), masks_as_before(segmenter, frame.image, window))


def test_ids_are_those_of_argmax():
    """Where logits are equal the first class, and where they are no numbers, too."""
    logits = torch.randint(0, 3, (5, 40, 50)).float()
    logits[3, :5] = torch.nan
    logits[1, 3:8, 7:] = torch.nan
    logits[2, 20:] = torch.inf
    logits[:, 30:] = -torch.inf
    assert torch.equal(class_ids(logits), logits.argmax(0).byte())
    assert torch.equal(class_ids(logits[:1]), torch.zeros(40, 50, dtype=torch.uint8))


def test_auto_sees_whole_what_is_hardly_larger_than_the_crop(tmp_path, make_segmenter):
    """Each frame alone, among others: as whole frames up to the bound, and in windows beyond."""
    limit = int(WHOLE_UP_TO * 32)
    sizes = [(32, limit), (32, limit + 1), (32, 32), (32, 96)]
    paths = [write(tmp_path / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]
    segmenter = make_segmenter()
    settings = {"device": CPU, "batch_size": 1, "workers": 0}
    found = {
        window: [logits for _, logits in segment_frames(segmenter, Frames(paths, 32), window=window, **settings)]
        for window in ("auto", "slide", "whole")
    }
    for place, expected in enumerate(["whole", "slide", "whole", "slide"]):
        assert torch.equal(found["auto"][place], found[expected][place])
    assert not torch.allclose(found["slide"][0], found["whole"][0], atol=1e-3)
    assert [sees_whole(size, 32, "auto") for size in sizes] == [True, False, True, False]


def test_augmentation_averages_logits(tmp_path, make_segmenter):
    """Against views made by numpy and Pillow-free code: mirrored by slicing, scaled frames as Frames makes them."""
    segmenter = make_segmenter()
    paths = [write(tmp_path / f"{i}.png", 32, 48, seed=i) for i in range(3)]
    augmentation = Augmentation(flip=True, scales=(0.5, 1.0, 1.5))
    settings = {"device": CPU, "window": "whole", "workers": 0}
    found = segment_frames(segmenter, Frames(paths, 32), augmentation=augmentation, **settings)
    for frame, logits in found:
        total = np.zeros((3, 32, 48))
        for short in (16, 32, 48):
            for step in (1, -1):
                seen = fit_short_side(frame.image, short).numpy()[:, :, ::step].copy()
                with torch.no_grad():
                    answer = segmenter(rgb(torch.from_numpy(seen))[None])
                resized = torch.nn.functional.interpolate(answer, size=(32, 48), mode="bilinear")[0].double().numpy()
                total += resized[:, :, ::step]
        np.testing.assert_allclose(logits.numpy(), total / 6, atol=1e-4)
    plain, none = (
        [each for _, each in segment_frames(segmenter, Frames(paths, 32), augmentation=given, **settings)]
        for given in (Augmentation(), Augmentation(scales=(1.0,)))
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, none, strict=True))


def test_read_ahead_frames_are_the_same(tmp_path, make_segmenter):
    """On two cores, threads read ahead; a broken file stays a value."""
    paths = [write(tmp_path / f"{i:02}.png", 32, 40, seed=i) for i in range(20)]
    paths[7].write_bytes(b"no image")
    segmenter = make_segmenter()
    ahead, inline = (
        list(segment_frames(segmenter, Frames(paths, 32), device=CPU, workers=workers)) for workers in ("auto", 0)
    )
    assert [frame.index for frame, _ in ahead] == list(range(20))
    assert [frame.index for frame, _ in ahead if frame.problem] == [7]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ahead, inline, strict=True))


@pytest.mark.parametrize(
    ("side", "cores", "processes", "ahead"),
    [(32, 16, 8, [4, 4]), (32, 2, 0, []), (4000, 16, 5, [1]), (12000, 16, 0, [])],
)
def test_large_frames_are_read_ahead_by_fewer_processes(tmp_path, monkeypatch, side, cores, processes, ahead):
    """A frame of 4,000 pixels a side takes 96 MB; with the stored one, the resized one is counted."""
    made = []
    monkeypatch.setattr("unip.segmentation.inference.usable_cores", lambda: cores)
    monkeypatch.setattr("unip.segmentation.inference.DataLoader", lambda _, **given: made.append(given))
    monkeypatch.setattr("unip.segmentation.inference.load", lambda _: iter([]))
    monkeypatch.setattr("unip.segmentation.inference.map_ahead", lambda *_, **__: iter([]))
    monkeypatch.setattr("unip.data.labelled.outlines.look_at_picture", lambda path: StoredPicture((side, side)))
    found = decoded(Frames([tmp_path / f"{n}.png" for n in range(20)], 32), "auto")
    assert list(found) == [] and bool(made) == bool(processes)
    if made:
        batches = list(made[0]["batch_sampler"])
        assert (made[0]["num_workers"], made[0]["prefetch_factor"]) == (processes, len(ahead))
        assert all(len(batch) == size for batch, size in zip(batches, ahead, strict=False))
        assert [place for batch in batches for place, _ in batch] == list(range(20))


class Killing(Frames):
    """Frames, at the twelfth of which the process that reads it is killed."""

    def __getitem__(self, index):
        if index == 12 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_is_killed_is_told_of(tmp_path, workers):
    paths = [write(tmp_path / f"{i:02}.png", 32, 40, seed=i) for i in range(20)]
    with pytest.raises(UnipError, match=r"^[a-z ]*: a process ended: DataLoader worker") as caught:
        # here torch raises whatever this process does; what takes frames has both
        with lost_process_told("taking"):
            list(decoded(Killing(paths, 32), workers))
    assert "fewer --workers" in caught.value.fix
    assert not multiprocessing.active_children()


class Arrays(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return np.full(3, index)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("taken", [0, 1, 5, 40])
def test_shared_memory_goes_with_what_was_taken_however_it_ends(taken):
    """Without the garbage collector, which comes late where few objects are made; what was taken stays as it is."""
    arena = Arena(4096, 16)
    gone = weakref.ref(arena)
    found = decoded(Arrays(), 2, Sharing(arena, lambda array, slot: slot.put(array)))
    gc.collect()
    gc.disable()
    try:
        kept = [next(found) for _ in range(taken)]
        assert sum(slot_of(array) is not None for array in kept) == min(taken, 16)
        found.close()
        assert len(arena.free) == 16 - min(taken, 16) and not arena.lent
        del arena, found
        assert (gone() is None) == (taken == 0)
        np.testing.assert_array_equal(kept, [[index] * 3 for index in range(taken)])
        kept.clear()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared with forked processes")
def test_headers_are_not_read_again_where_memory_is_shared(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("unip.segmentation.inference.DataLoader", lambda _, **given: made.append(given))
    monkeypatch.setattr("unip.segmentation.inference.load", lambda _: iter([]))
    monkeypatch.setattr("unip.segmentation.inference.sizes_of_some", lambda paths: pytest.fail("read again"))
    sharing = Sharing(Arena(2**27, 2), lambda frame, slot: frame)
    assert list(decoded(Frames([tmp_path / f"{n}.png" for n in range(20)], 32), 2, sharing)) == []
    assert [len(batch) for batch in made[0]["batch_sampler"]] == [1] * 20  # 2 processes x 2 frames of 128 MiB


@pytest.mark.parametrize("compiled", [True, False])
def test_compiled_models_are_kept(make_segmenter, monkeypatch, compiled):
    called = []
    monkeypatch.setattr("unip.segmentation.inference.keep_kernels", lambda: called.append(1))
    monkeypatch.setattr(torch, "compile", lambda module: module)
    Inference(make_segmenter(), device=CPU, compiled=compiled)
    assert bool(called) == compiled
