"""Labelled images that are held out where there is no validation split: which, and that everyone knows them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.outputs import output_folder, write_text
from unip.segmentation.config import FinetuneConfig
from unip.segmentation.holding_out import choose_groups
from unip.segmentation.verbs import finetune

SHAPE = {"decoder": "light", "steps": 2, "batch_size": 2, "crop": 32, "base": (128, 32), "compile": False}


def make_data(root: Path, names: list[str]) -> Path:
    """Frames with two squares, in a folder without splits."""
    rng = np.random.default_rng(0)
    for name in names:
        image, mask = rng.integers(110, 130, (32, 40), dtype=np.uint8), np.zeros((32, 40), np.uint8)
        image[4:16, 4:16], mask[4:16, 4:16] = 250, 1
        image[18:30, 20:32], mask[18:30, 20:32] = 5, 2
        for folder, pixels in (("images", image), ("masks", mask)):
            path = root / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (root / "classes.json").write_text(json.dumps({"names": ["background", "hot", "cold"]}))
    return root


@pytest.fixture
def settings(small_run, tmp_path):
    names = [f"{video}_{frame:02d}" for video in range(10) for frame in range(2)]
    return {**small_run, **SHAPE, "data": make_data(tmp_path / "own", names), "split": ""}


def held_out(run: Path) -> dict[str, str]:
    return json.loads((run / "held_out.json").read_text())["held"]


def trained_on(run: Path) -> int:
    return json.loads((run / "model/config.json").read_text())["info"]["labelled_images"]


def test_whole_videos_are_held_out_and_evaluated(settings, capsys):
    result = finetune(**settings)
    held, run = held_out(settings["out"]), settings["out"]
    assert len(held) == 2 and len(set(held.values())) == 1  # a tenth of 20 frames: one video
    (video,) = set(held.values())
    assert held == {f"images/{video[0]}_{frame:02d}.png": video for frame in range(2)}
    assert trained_on(run) == 18
    said = " ".join(capsys.readouterr().out.split())
    assert f"2 of 20 labelled images are held out to evaluate the model on, 1 of 10 groups: {video}" in said
    assert "guessed from numbers in file names" in said and "--val SPLIT" in said
    metrics = json.loads((run / "evaluation/held-out/metrics.json").read_text())
    assert metrics["images"] == 2 and metrics["miou"] == result.scores.miou
    assert metrics["miou_interval"]["low"] == result.interval.low
    assert metrics["miou_interval"]["over"] == "images"
    assert "95 % interval" in said and "all are of one group" in said
    assert "95 % interval over images" in (run / "evaluation/held-out/evaluation.html").read_text()


def test_evaluate_knows_what_was_held_out(settings, capsys, tmp_path):
    run, data = settings["out"], settings["data"]
    scores = finetune(**settings).scores
    for model in (run, run / "model"):
        again = evaluate(model=model, data=data, split="held-out", device="cpu", workers=0, out=tmp_path / model.name)
        assert again.scores.miou == scores.miou and len(again.frames) == 2
    capsys.readouterr()
    evaluate(model=run, data=data, split="", device="cpu", workers=0)
    assert "18 of these 20 images were trained on" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UnipError, match="--split held-out takes the 2 images that the fine-tuning held out"):
        evaluate(model=run, data=data, device="cpu", workers=0)
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    assert len(evaluate(model=run, data=moved, split="held-out", device="cpu", workers=0).frames) == 2
    other = make_data(tmp_path / "other", ["x", "y"])
    with pytest.raises(UnipError, match="has none of the 2 images"):
        evaluate(model=run, data=other, split="held-out", device="cpu", workers=0)


def test_a_continued_run_keeps_what_it_held_out(settings, capsys):
    run = settings["out"]
    finetune(**settings, checkpoint_every=1, eval_every=1)
    held, log = held_out(run), (run / "log.jsonl").read_text()
    assert "val_miou" in log
    shutil.rmtree(run / "checkpoints/step-00000002")
    for number in (7, 8, 9):  # with these frames, the choice would be another one
        make_data(settings["data"], [f"new{number}_{frame}" for frame in range(9)])
    assert finetune(**settings, checkpoint_every=1, eval_every=1).scores is not None
    assert held_out(run) == held
    with pytest.raises(UnipError, match=r"val_share: 0\.1 there, 0\.3 now"):
        finetune(**settings, checkpoint_every=1, eval_every=1, val_share=0.3)
    with pytest.raises(UnipError, match="leave val out"):
        finetune(**settings, checkpoint_every=1, val="other")
    (run / "held_out.json").unlink()
    with pytest.raises(UnipError, match="says what is not trained on"):
        finetune(**settings, checkpoint_every=1, eval_every=1)


def test_the_config_of_a_run_repeats_it(settings, tmp_path):
    finetune(**settings)
    again = FinetuneConfig.from_yaml(settings["out"] / "config.yaml", out=tmp_path / "again")
    assert again.val == "held-out" and again.val_share == 0.1
    finetune(again)
    assert held_out(again.out) == held_out(settings["out"])


def test_a_dry_run_shows_it_and_writes_nothing(settings, capsys):
    finetune(**settings, dry_run=True)
    assert "2 of 20 labelled images are held out" in " ".join(capsys.readouterr().out.split())
    assert not settings["out"].exists()


def test_the_seed_and_the_pattern_choose(settings, tmp_path):
    chosen = {}
    for seed in range(4):
        chosen[seed] = set()
        for name in ("a", "b"):
            run = tmp_path / f"{seed}{name}"
            finetune(**{**settings, "out": run, "seed": seed})
            chosen[seed].add(tuple(held_out(run)))
        assert len(chosen[seed]) == 1
    assert len(set.union(*chosen.values())) > 1
    run = tmp_path / "pattern"
    finetune(**{**settings, "out": run, "group": r"/(\d)_"}, val_share=0.3)
    assert len(held_out(run)) == 6 and len(set(held_out(run).values())) == 3
    with pytest.raises(UnipError, match="all 20 labelled images are of one group, images"):
        finetune(**{**settings, "out": tmp_path / "one"}, group="images")


def test_neighbours_stay_together_where_names_show_no_videos(settings, tmp_path, capsys):
    data = make_data(tmp_path / "numbers", [f"{number}" for number in range(40)])
    finetune(**{**settings, "data": data})
    numbers = sorted(int(Path(name).stem) for name in held_out(settings["out"]))
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert "like some in training" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label_budget": 12}, "a label budget is all trained on"),
        ({"recipe": "paper", "decoder": "light"}, "the paper's"),
        ({"val_share": 0}, "as it is given"),
    ],
)
def test_nothing_is_held_out_and_that_is_said(settings, capsys, change, said):
    result = finetune(**{**settings, **change})
    assert result.scores is None and not (settings["out"] / "held_out.json").exists()
    assert f"val share 0: {said}" in " ".join(capsys.readouterr().out.split())


def test_few_images_and_other_splits_hold_nothing_out(settings, segmentation_folder, tmp_path, capsys):
    few = make_data(tmp_path / "few", [f"{number}" for number in range(9)])
    for name, change, said in (
        ("few", {"data": few}, "9 labelled images are too few"),
        (
            "splits",
            {"data": segmentation_folder, "split": "train"},
            "the data has test to evaluate on, which --val test",
        ),
    ):
        given = {**settings, **change, "out": tmp_path / "run" / name}
        assert finetune(**given).scores is None
        assert said in " ".join(capsys.readouterr().out.split())
        with pytest.raises(UnipError, match="no labelled images are held out to evaluate on"):
            finetune(**given, overwrite=True, eval_every=1)
        assert finetune(**given).scores is None  # it goes on as it was
        with pytest.raises(UnipError, match="no labelled images are held out"):
            finetune(**{**given, "out": tmp_path / "run" / f"{name}-named"}, val="held-out")


def test_a_run_that_was_started_before_goes_on_with_all(settings):
    run, given = settings["out"], {**settings, "val_share": 0, "checkpoint_every": 1}
    finetune(**given)
    text = (run / "config.yaml").read_text()
    shutil.rmtree(run / "checkpoints/step-00000002")
    with output_folder(run):
        kept = [line for line in text.splitlines() if not line.startswith(("val_share:", "group:"))]
        write_text(run / "config.yaml", "\n".join(kept) + "\n")
    assert finetune(**{**given, "val_share": "auto"}).scores is None
    assert trained_on(run) == 20


def test_every_class_stays_in_training():
    rng = np.random.default_rng(0)
    for seed in range(30):
        groups = [f"g{number}" for number in rng.integers(0, 8, 40)]
        pixels = rng.integers(0, 2, (40, 6)) * (rng.random((40, 6)) < 0.1) * 50
        chosen = choose_groups(groups, pixels, 0.1, seed)
        if chosen is None:
            continue
        assert chosen.any() and not chosen.all()
        assert not {g for g, out in zip(groups, chosen, strict=True) if out} & {
            g for g, out in zip(groups, chosen, strict=True) if not out
        }
        assert ((pixels.sum(0) > 0) == (pixels[~chosen].sum(0) > 0)).all()


def test_nothing_can_be_held_out_where_every_group_has_its_own_class():
    pixels = np.eye(4, dtype=np.int64).repeat(3, axis=0)
    groups = [str(number // 3) for number in range(12)]
    assert choose_groups(groups, pixels, 0.1, 0) is None
    assert choose_groups(["a"] * 12, pixels, 0.1, 0) is None


def test_a_plain_folder_with_places_is_evaluated_at_the_end(settings, tmp_path):
    data = settings["data"]
    (data / "images").rename(data / "pictures")
    (data / "masks").rename(data / "truth")
    result = finetune(**settings, images="pictures", masks="truth")
    assert result.scores is not None
