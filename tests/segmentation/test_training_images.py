"""A model says what it was trained on, and what it is given instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unip
from unip.data.images.orientation import save_options
from unip.data.images.palettes import known_palettes
from unip.data.labelled.statistics import PairFacts
from unip.errors import UnipError
from unip.segmentation.storage import load_segmenter
from unip.segmentation.training_images import TrainingImages

RNG = np.random.default_rng(0)


def frame(kind: str, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    if kind == "colour":
        return RNG.integers(0, 255, (*size, 3), dtype=np.uint8)
    return RNG.integers(2000, 9000, size).astype(np.uint16) if kind == "raw" else RNG.integers(0, 255, size, np.uint8)


def train(root: Path, kinds: tuple[str, ...]) -> Path:
    for folder in ("images", "masks"):
        (root / "data/train" / folder).mkdir(parents=True)
    for number, kind in enumerate(kinds):
        mask = np.zeros((64, 80), np.uint8)
        mask[:, 40:] = 1
        Image.fromarray(frame(kind)).save(root / f"data/train/images/{number}.png")
        Image.fromarray(mask).save(root / f"data/train/masks/{number}.png")
    (root / "data/classes.json").write_text(json.dumps({"names": ["background", "car"], "ignore_index": 255}))
    small = {"model": "unip_micro", "crop": 64, "base": (160, 64), "batch_size": 1, "steps": 1, "workers": 0}
    return unip.finetune(**small, data=root / "data", out=root / "run").run


def predict(run: Path, images: Path | list[Path], **more):
    return unip.predict(model=run, images=images, out=run.parent / "out", workers=0, overwrite=True, **more)


@pytest.mark.parametrize("trained", [("grey",), ("raw",), ("colour",), ("grey", "raw", "colour")])
@pytest.mark.parametrize("given", ["grey", "raw", "colour"])
def test_what_training_did_not_have_is_said_once(tmp_path, caplog, trained, given):
    run = train(tmp_path, trained)
    (tmp_path / "new").mkdir()
    for number in range(3):
        Image.fromarray(frame(given)).save(tmp_path / f"new/{number}.png")
    caplog.clear()
    predict(run, tmp_path / "new")
    notes = [record.message for record in caplog.records if record.message.startswith("note: ")]
    wanted = {
        ("grey", "raw"): ["more than 8 bits"],
        ("grey", "colour"): ["is in colour"],
        ("raw", "grey"): ["has 8 bits"],
        ("raw", "colour"): ["has 8 bits", "is in colour"],
        ("colour", "grey"): ["is grey"],
        ("colour", "raw"): ["more than 8 bits", "is grey"],
    }.get((trained[0], given) if len(trained) == 1 else (), [])
    assert len(notes) == len(wanted) and all(text in note for text, note in zip(wanted, notes, strict=True)), notes


def test_a_palette_is_named_and_can_be_turned_back(tmp_path, caplog):
    """A model that was trained on grey frames sees them again with the option that the note names."""
    run = train(tmp_path, ("grey",))
    levels = np.tile(np.linspace(20, 235, 160).astype(np.uint8), (128, 1))
    jet = next(palette for palette in known_palettes() if palette.name == "jet")
    Image.fromarray(levels).save(tmp_path / "grey.png")
    Image.fromarray(np.rint(jet.colours).astype(np.uint8)[levels]).save(tmp_path / "jet.png")
    caplog.clear()
    predict(run, [tmp_path / "jet.png"])
    assert caplog.text.count("is in colour (palette jet)") == 1 and "grey: --palette jet" in caplog.text
    caplog.clear()
    images = [tmp_path / "grey.png", tmp_path / "jet.png"]
    for choice in ("jet", "invert"):
        masks = predict(run, images, palette=choice).masks
        grey, back = (np.asarray(Image.open(masks[path])) for path in images)
        assert (grey == back).mean() > 0.97
    assert "(palette jet)" not in caplog.text
    with pytest.raises(unip.UnipError, match="not those of the palette lava"):
        predict(run, images, palette="lava")


def test_black_hot_frames_are_inverted_where_it_is_said(tmp_path):
    run = train(tmp_path, ("grey",))
    hot = np.tile(np.linspace(20, 235, 160).astype(np.uint8), (128, 1))
    for name, pixels in (("hot", hot), ("black", 255 - hot)):
        for folder, values in (("images", pixels), ("masks", (hot > 100).astype(np.uint8))):
            (tmp_path / name / folder).mkdir(parents=True)
            Image.fromarray(values).save(tmp_path / name / folder / "0.png")
        (tmp_path / name / "classes.json").write_text(json.dumps({"names": ["background", "car"]}))

    def score(name: str, **more: str) -> list:
        given = {"model": run, "data": tmp_path / name, "split": "", "out": tmp_path / "scores", "workers": 0}
        return unip.evaluate(**given, **more, overwrite=True).scores.matrix.tolist()

    def mask(name: str, **more: str) -> bytes:
        path = tmp_path / name / "images/0.png"
        return Path(predict(run, [path], **more).masks[path]).read_bytes()

    assert score("black", polarity="black-hot") == score("hot") != score("black")
    assert mask("black", polarity="black-hot") == mask("hot") != mask("black")


def test_evaluate_turns_a_palette_back_as_predict_does(tmp_path):
    run = train(tmp_path, ("grey",))
    jet = next(palette for palette in known_palettes() if palette.name == "jet")
    levels = np.tile(np.linspace(20, 235, 160).astype(np.uint8), (128, 1))
    mask = np.zeros((128, 160), np.uint8)
    mask[:, 80:] = 1
    frames = {"grey": levels, "jet": np.rint(jet.colours).astype(np.uint8)[levels]}
    for name, pixels in frames.items():
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "masks").mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "images/0.png")
        Image.fromarray(mask).save(tmp_path / name / "masks/0.png")
        (tmp_path / name / "classes.json").write_text(json.dumps({"names": ["background", "car"]}))

    def matrix(name: str, **more: str) -> np.ndarray:
        given = {"model": run, "data": tmp_path / name, "split": "", "out": tmp_path / "scores", "workers": 0}
        return unip.evaluate(**given, **more, overwrite=True).scores.matrix

    grey, back = matrix("grey"), matrix("jet", palette="jet")
    assert np.abs(grey - back).sum() < 0.03 * grey.sum()
    assert json.loads((tmp_path / "scores/metrics.json").read_text())["conversion"]["palette"] == "jet"


def test_another_size_by_far_is_said(tmp_path, caplog):
    run = train(tmp_path, ("grey",))
    sizes = {(64, 80): "", (96, 80): "", (200, 240): "and cut into 30 windows", (24, 30): "one short side"}
    fitted = {**sizes, (200, 240): "one short side"}
    for scale, wanted in (("auto", sizes), ("fit", fitted), ("native", dict.fromkeys(sizes, ""))):
        for size, text in wanted.items():
            Image.fromarray(frame("grey", size)).save(tmp_path / "a.png")
            caplog.clear()
            predict(run, [tmp_path / "a.png"], scale=scale)
            notes = [record.message for record in caplog.records if record.message.startswith("note: ")]
            assert [text in note for note in notes] == [True] * bool(text), (scale, size, notes)


def write_mfnet(root: Path) -> Path:
    """Four channels: a visible picture and, where opacity would be, a thermal one that shows the object."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name in ("00001D", "00002N"):
        mask = np.zeros((64, 80), np.uint8)
        mask[:, 40:] = 1
        pixels = np.dstack([frame("colour"), np.where(mask, 220, 30).astype(np.uint8)])
        Image.fromarray(pixels).save(root / f"images/{name}.png")
        Image.fromarray(mask).save(root / f"labels/{name}.png")
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text("00001D\n00002N\n")
    return root


@pytest.fixture
def mfnet_run(tmp_path):
    write_mfnet(tmp_path / "mfnet")
    small = {"model": "unip_micro", "crop": 64, "base": (160, 64), "batch_size": 1, "steps": 1, "workers": 0}
    return unip.finetune(**small, data=f"mfnet:{tmp_path / 'mfnet'}", out=tmp_path / "run").run  # shows one class of 8


def test_prediction_reads_the_channel_of_training(tmp_path, mfnet_run, caplog):
    caplog.set_level("INFO", "unip")
    pixels = np.array(Image.open(tmp_path / "mfnet/images/00001D.png"))
    (tmp_path / "new").mkdir()
    Image.fromarray(pixels).save(tmp_path / "new/both.png")
    Image.fromarray(pixels[..., 3]).save(tmp_path / "new/thermal.png")
    predict(mfnet_run, tmp_path / "new", dry_run=True)
    predict(mfnet_run, tmp_path / "new", probabilities=True)
    assert "channel 4 of image files is read" in caplog.text and "note: " not in caplog.text
    both, thermal = (np.load(next((tmp_path / "out").rglob(f"{n}.npz")))["probabilities"] for n in ("both", "thermal"))
    np.testing.assert_array_equal(both, thermal)


def test_a_file_of_one_channel_is_taken_for_it_and_of_three_refused(tmp_path, mfnet_run):
    pixels = np.array(Image.open(tmp_path / "mfnet/images/00001D.png"))
    (tmp_path / "new").mkdir()
    Image.fromarray(pixels[..., 3]).save(tmp_path / "new/thermal.png")
    predict(mfnet_run, tmp_path / "new")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "new/visible.png")
    for dry_run in (True, False):
        with pytest.raises(UnipError, match=r"visible.png has 3 channels.*channel 4 is to be read"):
            predict(mfnet_run, tmp_path / "new", dry_run=dry_run)


def test_a_model_of_before_says_nothing(tmp_path, caplog):
    run = train(tmp_path, ("grey",))
    file = run / "model/config.json"
    record = json.loads(file.read_text())
    assert record["spec"].pop("images") == {"channel": None, "depth": "8 bits", "colours": "grey", "size": [64, 80]}
    file.write_text(json.dumps(record))
    assert load_segmenter(run).spec.images is None
    Image.fromarray(frame("colour")).save(tmp_path / "a.png")
    predict(run, [tmp_path / "a.png"])
    assert "note: " not in caplog.text


def test_medians_and_mixtures():
    facts = [PairFacts((h, 10), 0, (1,), is_8_bit=h < 5, is_grey=h < 3) for h in (2, 4, 9)]
    found = TrainingImages.of(facts, 3)
    assert (found.channel, found.depth, found.colours, found.size) == (3, "both", "both", (4, 10))


def bordered(path: Path, value: int, seed: int = 0) -> Path:
    frame = np.random.default_rng(seed).integers(7000, 9000, (64, 80)).astype(np.uint16)
    frame[:6] = frame[:, :8] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path)
    return path


def test_borders_without_a_measurement_are_noticed_and_left_out(tmp_path, caplog):
    """Training, statistics, evaluation and prediction say it with a count and the option; the model keeps the value."""
    caplog.set_level("INFO", "unip")
    train(tmp_path, ("raw",) * 3)
    for number in range(2):
        bordered(tmp_path / f"data/train/images/{number}.png", 0, number)
    bordered(tmp_path / "new/a.png", 0)
    bordered(tmp_path / "new/b.png", 65535)
    small = {"model": "unip_micro", "crop": 64, "base": (160, 64), "batch_size": 1, "steps": 1, "workers": 0}

    def said(verb, *args, **settings) -> list[str]:
        caplog.clear()
        verb(*args, **settings)
        return [text for text in caplog.messages if "border or area of one value" in text]

    (note,) = said(unip.finetune, **small, data=tmp_path / "data", out=tmp_path / "plain")
    assert "2 of 3 images have" in note and note.endswith("--nodata 0")
    (note,) = said(unip.data.stats, data=tmp_path / "data")
    assert "2 of 3 images have" in note
    notes = said(predict, tmp_path / "plain", tmp_path / "new")
    assert "a.png has" in notes[0] and "2 of 2 images have" in notes[1] and "65535" in notes[1] and len(notes) == 2
    scored = {"data": tmp_path / "data", "split": "train", "workers": 0}
    notes = said(unip.evaluate, model=tmp_path / "plain", **scored)
    assert "2 of 3 images" in notes[-1] and "--nodata 0" in notes[-1]

    assert not said(unip.finetune, **small, data=tmp_path / "data", out=tmp_path / "given", nodata=0)
    assert load_segmenter(tmp_path / "given").spec.conversion.nodata == 0
    assert not said(unip.evaluate, model=tmp_path / "given", **scored)
    assert not said(predict, tmp_path / "given", tmp_path / "new/a.png")
    assert "samples of 0 left out" in caplog.text
    (note,) = said(predict, tmp_path / "given", tmp_path / "new/b.png")
    assert "unip predict --nodata 65535" in note
    assert not said(predict, tmp_path / "given", tmp_path / "new/b.png", nodata=65535)

    file = tmp_path / "data/classes.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "conversion": {"nodata": 0}}))
    assert not said(unip.data.stats, data=tmp_path / "data")


def test_the_scores_at_the_end_read_the_data_as_training_does(tmp_path):
    """Where images and masks lie, and how masks lie on images that viewers turn."""
    train(tmp_path, ("grey",) * 2)
    data = tmp_path / "data"
    (data / "train/images").rename(data / "train/thermal")
    (data / "train/masks").rename(data / "train/truth")
    for path in (data / "train/thermal").iterdir():
        Image.open(path).save(path, **save_options(3))
    small = {"model": "unip_micro", "crop": 64, "base": (160, 64), "batch_size": 1, "steps": 1, "workers": 0}
    places = {"images": "thermal", "masks": "truth", "mask_orientation": "shown"}
    result = unip.finetune(**small, **places, data=data, val="train", out=tmp_path / "scored")
    assert result.scores is not None
