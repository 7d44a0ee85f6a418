import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.data.images.orientation import as_shown, orientation_of, save_options
from unip.data.labelled.datasets import open_segmentation
from unip.deployment.loading import load
from unip.deployment.names import name_outputs
from unip.deployment.sharing import arena_for
from unip.deployment.verbs import evaluate, predict
from unip.deployment.writing import Writing, save_picture
from unip.errors import UnipError
from unip.runtime.shared import slot_of
from unip.segmentation.storage import save_segmenter


@pytest.fixture
def model(tmp_path, make_segmenter):
    save_segmenter(make_segmenter(), tmp_path / "model")
    return tmp_path / "model"


def write(path: Path, height=20, width=30, kind=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(len(str(path))).integers(0, np.iinfo(kind).max, (height, width), dtype=kind)
    Image.fromarray(image).save(path)
    return path


def test_everything_is_written(model, tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "night" / "b.tiff", 40, 24, np.uint16)
    out = tmp_path / "out"
    result = predict(model=model, images=(tmp_path / "in",), out=out, probabilities=True, device="cpu", alpha=0.3)
    for name, size in (("a", (20, 30)), ("night/b", (40, 24))):
        mask = Image.open(out / "masks" / f"{name}.png")
        ids = np.asarray(mask)
        assert mask.mode == "P" and ids.shape == size and ids.max() < 3
        overlay = Image.open(out / "overlays" / f"{name}.jpg")
        assert overlay.width == size[1] and overlay.height > size[0]
        with np.load(out / "probabilities" / f"{name}.npz") as file:
            shares = file["probabilities"]
        assert shares.dtype == np.float16 and shares.shape == (3, *size)
        np.testing.assert_allclose(shares.astype(np.float64).sum(0), 1, atol=5e-3)
        top = np.take_along_axis(shares, ids[None].astype(np.int64), 0)[0]
        assert (top >= shares.max(0) - 1e-3).all()
    record = json.loads((out / "predictions.json").read_text())
    assert record["classes"]["names"] == ["background", "hot", "cold"]
    assert (record["engine"], record["device"], record["scale"]) == ("torch", "cpu", "auto")
    assert record["precision"] in ("fp32", "bf16") and record["view"].startswith("whole images up to ")
    for entry in record["images"]:
        ids = np.asarray(Image.open(out / entry["mask"]))
        assert entry["shares"]["hot"] == pytest.approx((ids == 1).mean(), abs=1e-6)
    assert set(result.masks) == {tmp_path / "in" / "a.png", tmp_path / "in" / "night" / "b.tiff"}


def test_equal_names_do_not_meet(model, tmp_path):
    places = [write(tmp_path / "x" / "f.png"), write(tmp_path / "y" / "f.png"), write(tmp_path / "y" / "F.jpg")]
    names = name_outputs((places[0], tmp_path / "y", places[0]), tmp_path / "out")
    assert sorted(names.values()) == ["F-2", "f", "f-3"] or sorted(names.values()) == ["F-3", "f", "f-2"]
    result = predict(model=model, images=(places[0], tmp_path / "y"), out=tmp_path / "out", device="cpu")
    assert len(set(result.masks.values())) == 3 and all(path.is_file() for path in result.masks.values())


def test_earlier_results_are_no_input(model, tmp_path):
    write(tmp_path / "a.png")
    for _ in range(2):
        result = predict(model=model, images=(tmp_path,), out=tmp_path / "out", device="cpu")
        assert list(result.masks) == [tmp_path / "a.png"]
    with pytest.raises(UnipError, match="all images lie in the output folder"):
        predict(model=model, images=(tmp_path / "out" / "masks",), out=tmp_path / "out")


def test_damaged_images_are_skipped_and_named(model, tmp_path):
    for name in "abcd":
        write(tmp_path / "in" / f"{name}.png")
    for name in "bd":
        path = tmp_path / "in" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(UnipError, match=r"2 of 4 images could not be read:\n.*b\.png.*\n.*d\.png") as caught:
        predict(model=model, images=(tmp_path / "in",), out=tmp_path / "out", device="cpu")
    assert caught.value.exit_code == 2
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "c.png"]
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["unreadable"]) == 2


def test_it_is_said_if_nothing_was_segmented(model, tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello")
    with pytest.raises(UnipError, match="1 of 1 images could not be read") as caught:
        predict(model=model, images=(tmp_path,), out=tmp_path / "out", device="cpu")
    assert caught.value.fix.startswith("Nothing was segmented")


def test_dry_run_writes_nothing(model, tmp_path, capsys):
    write(tmp_path / "in" / "a.png")
    assert predict(model=model, images=(tmp_path / "in",), out=tmp_path / "out", dry_run=True) is None
    assert not (tmp_path / "out").exists()
    assert "would write 1 results" in capsys.readouterr().out


def test_a_dry_run_reads_the_images(model, tmp_path):
    for name in "abc":
        write(tmp_path / "in" / f"{name}.png")
    path = tmp_path / "in" / "b.png"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(UnipError, match=r"1 of 3 images could not be read:\n.*b\.png") as caught:
        predict(model=model, images=(tmp_path / "in",), out=tmp_path / "out", dry_run=True)
    assert "leave them out" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_nothing_there(model, tmp_path):
    with pytest.raises(UnipError, match="no such folder or image"):
        predict(model=model, images=(tmp_path / "none",))
    with pytest.raises(UnipError, match="does not exist"):
        predict(model=tmp_path / "none", images=(tmp_path,))
    with pytest.raises(UnipError, match=r"images"):
        predict(model=model, images=())


def test_output_that_cannot_be_written(model, tmp_path, monkeypatch):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("unip.deployment.prediction.load_with", None)
    with pytest.raises(UnipError, match=r"cannot write to .*file is a file"):
        predict(model=model, images=(tmp_path / "in",), out=tmp_path / "file", device="cpu")


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_results_of_turned_frames_lie_on_them(model, tmp_path, ending, orientation):
    """Masks fit the pixels as stored and are turned by viewers as the frame is; overlays look as the frame does."""
    stored = np.asarray(Image.open(write(tmp_path / "plain" / "f.png")))
    frame = tmp_path / "turned" / f"f.{ending}"
    frame.parent.mkdir()
    Image.fromarray(stored).save(frame, **save_options(orientation), **({"quality": 100} if ending == "jpg" else {}))
    if ending == "jpg":
        Image.fromarray(np.asarray(Image.open(frame))).save(tmp_path / "plain" / "f.png")
    masks, overlays = [], []
    for name in ("plain", "turned"):
        images, out = (tmp_path / name,), tmp_path / "out" / name
        predict(model=model, images=images, out=out, device="cpu", overlay_format="png")
        masks.append(Image.open(tmp_path / "out" / name / "masks/f.png"))
        overlays.append(np.asarray(Image.open(tmp_path / "out" / name / "overlays/f.png")))
    np.testing.assert_array_equal(np.asarray(masks[0]), np.asarray(masks[1]))
    assert [orientation_of(mask) for mask in masks] == [1, orientation]
    tinted = as_shown(overlays[0][: stored.shape[0]], orientation)
    np.testing.assert_array_equal(overlays[1][: len(tinted), : tinted.shape[1]], tinted)
    pairs = tmp_path / "pairs"
    shutil.copytree(frame.parent, pairs / "images")
    shutil.copytree(tmp_path / "out/turned/masks", pairs / "masks")
    (pairs / "classes.json").write_text('{"names": ["background", "hot", "cold"]}')
    np.testing.assert_array_equal(open_segmentation(pairs).read_mask(0), np.asarray(masks[0]))


def test_overlays_are_of_the_wanted_format_or_left_out(model, tmp_path):
    frame = write(tmp_path / "a.png")
    stored = np.asarray(Image.open(frame))
    for name, settings in (("jpeg", {}), ("png", {"overlay_format": "png"}), ("none", {"overlays": False})):
        predict(model=model, images=(frame,), out=tmp_path / name, device="cpu", **settings)
    assert not (tmp_path / "none/overlays").exists()
    assert "overlay" not in json.loads((tmp_path / "none/predictions.json").read_text())["images"][0]
    with Image.open(tmp_path / "jpeg/overlays/a.jpg") as jpeg, Image.open(tmp_path / "png/overlays/a.png") as png:
        assert (jpeg.format, png.format) == ("JPEG", "PNG") and jpeg.size == png.size
        exact, near = np.asarray(png)[: stored.shape[0]], np.asarray(jpeg)[: stored.shape[0]]
    mask = np.asarray(Image.open(tmp_path / "png/masks/a.png"))
    np.testing.assert_array_equal(exact[mask == 0], np.repeat(stored[mask == 0][:, None], 3, 1))
    assert np.abs(exact.astype(int) - near).mean() < 8


def test_a_picture_too_long_for_jpeg_becomes_smaller(tmp_path):
    save_picture(Image.new("RGB", (131_000, 4)), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as saved:
        assert saved.size == (65_500, 2)


@pytest.mark.parametrize("cores", [2, 8])
def test_threads_and_processes_write_the_same(model, tmp_path, monkeypatch, cores):
    """Also a list of files that a second call knows, and damaged frames among good ones."""
    for number in range(12):
        write(tmp_path / "in" / f"{number:02}.png", 20 + number)
    bad = tmp_path / "in" / "05.png"
    bad.write_bytes(bad.read_bytes()[:80])
    monkeypatch.setattr("unip.runtime.queues.usable_cores", lambda: cores)
    monkeypatch.setattr("unip.runtime.queues.MIN_ITEMS_FOR_PROCESSES", 10)
    for _ in range(2):
        with pytest.raises(UnipError, match=r"1 of 12 images could not be read:\n.*05\.png"):
            predict(model=model, images=(tmp_path / "in",), out=tmp_path / "out", device="cpu", probabilities=True)
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [Path(each["image"]).stem for each in record["images"]] == [f"{n:02}" for n in range(12) if n != 5]
    for each in record["images"]:
        ids = np.asarray(Image.open(tmp_path / "out" / each["mask"]))
        with np.load(tmp_path / "out" / each["probabilities"]) as file:
            assert file["probabilities"].shape[1:] == ids.shape == Image.open(each["image"]).size[::-1]
        assert each["shares"]["hot"] == pytest.approx((ids == 1).mean(), abs=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("verb", ["predict", "evaluate", "compare", "call"])
def test_a_reader_that_is_killed_is_told_of(model, segmentation_folder, tmp_path, monkeypatch, verb):
    """Whether torch says so while a frame is waited for, or while this process computes."""

    def killed(*_, **__):
        assert multiprocessing.parent_process() is not None
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("unip.deployment.inputs.Reader.read", killed)
    monkeypatch.setattr("unip.data.labelled.pairs.SegmentationData.read", killed)
    settings = {"device": "cpu", "workers": 1}
    evaluating = {**settings, "data": segmentation_folder, "split": "test", "out": tmp_path / "out"}
    with pytest.raises(UnipError, match=": a process ended: DataLoader worker") as caught:
        if verb == "predict":
            predict(**settings, model=model, images=(segmentation_folder / "test",), out=tmp_path / "out")
        elif verb == "call":
            load(model, device="cpu")([*(segmentation_folder / "test/images").iterdir()], workers=1)
        else:
            evaluate(**evaluating, model=model, **({"against": model} if verb == "compare" else {}))
    assert "fewer --workers" in caught.value.fix


@pytest.mark.skipif(sys.platform != "linux", reason="shares memory with processes that it forks")
@pytest.mark.parametrize("slots", [1, 3, 512])
def test_frames_in_shared_memory_give_the_same_files(model, tmp_path, monkeypatch, slots):
    """Grey and coloured frames of several sizes, some larger than a slot, a damaged one; also where slots run out."""
    rng = np.random.default_rng(0)
    sizes = [(32, 40), (48, 40), (20, 90), (64, 64, 3), (32, 40, 3)]
    for number in range(30):
        size = (150, 150, 3) if number == 17 else sizes[number % len(sizes)]
        image = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
        image.save(tmp_path / f"{number:02}.png")
    paths = tuple(sorted(tmp_path.glob("*.png")))
    paths[5].write_bytes(b"no image")
    arenas, shared = [], []

    def noted(*arguments):
        arenas.append(arena_for(*arguments))
        return arenas[-1]

    def added(writing, result, files):
        shared.append(slot_of(result.mask) is not None)
        return add(writing, result, files)

    add = Writing.add
    monkeypatch.setattr(Writing, "add", added)
    monkeypatch.setattr("unip.deployment.prediction.arena_for", noted)
    monkeypatch.setattr("unip.data.labelled.outlines.LOOKED_AT", 5)  # not the largest one
    monkeypatch.setattr("unip.runtime.shared.MAX_SLOTS", slots)
    monkeypatch.setattr("unip.runtime.queues.MIN_ITEMS_FOR_PROCESSES", 10)
    for cores in (2, 8):
        monkeypatch.setattr("unip.runtime.queues.usable_cores", lambda count=cores: count)
        monkeypatch.setattr("unip.segmentation.inference.usable_cores", lambda count=cores: count)
        with pytest.raises(UnipError, match="1 of 30 images could not be read"):
            predict(model=model, images=paths, out=tmp_path / str(cores), device="cpu", engine="torch")
    assert arenas[0] is None and len(arenas[1].free) == slots and not arenas[1].lent
    assert len(shared) == 58 and not any(shared[:29])
    if slots > 1:  # the only one may be that of the damaged frame, or in a reader's hands
        assert any(shared[29:])
    few, many = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.[pj][np]g")}
        for name in ("2", "8")
    )
    assert few == many and len(few) == 58
