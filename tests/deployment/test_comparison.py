"""`unip evaluate OLD NEW DATA`: from the shell and Python to the files, and what is said or refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.forked import run_unip
from unip.data.labelled.classes import Classes
from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.segmentation.storage import save_segmenter

CPU = {"device": "cpu", "workers": 0}


@pytest.fixture
def models(tmp_path, make_segmenter):
    """Two runs of other weights."""
    for seed, name in enumerate(("old", "new")):
        torch.manual_seed(seed)
        save_segmenter(make_segmenter(), tmp_path / name / "model")
    return tmp_path / "old", tmp_path / "new"


def words(text: str) -> str:
    return " ".join(text.split())


def test_it_is_the_difference_of_two_evaluations(models, segmentation_folder, tmp_path, capsys):
    old, new = models
    result = evaluate(model=new, against=old, data=segmentation_folder, **CPU)
    assert result.out == new / "evaluation" / "against-old-test"
    each = [evaluate(model=model, data=segmentation_folder, **CPU) for model in models]
    found = result.comparison
    assert (found.miou.old, found.miou.new) == pytest.approx([one.scores.miou for one in each], abs=1e-12)
    assert [row.new for row in found.classes] == pytest.approx(each[1].scores.iou.tolist(), nan_ok=True)
    np.testing.assert_array_equal(result.scores.matrix, each[1].scores.matrix)
    assert result.frames == each[1].frames and result.interval == each[1].interval
    record = json.loads((result.out / "comparison.json").read_text())
    assert record["miou"]["difference"] == found.miou.change.mean
    assert record["sentence"] == found.sentence and record["images"] == 3
    assert record["old"]["model"] == str(old) and record["new"]["weights"] != record["old"]["weights"]
    differing = sum(a != b for a, b in zip(each[0].frames.values(), each[1].frames.values(), strict=True))
    assert (result.out / "comparison.html").read_text().count("data:image/jpeg;base64,") == 4 * differing > 0
    said = words(capsys.readouterr().out)
    assert f"{new} against {old}: {found.sentence}" in said and "is not known" in said
    back = evaluate(model=old, against=new, data=segmentation_folder, out=tmp_path / "back", **CPU).comparison
    assert back.miou.change.mean == -found.miou.change.mean


def test_a_model_against_a_copy_of_itself(models, segmentation_folder, tmp_path, capsys):
    old, _ = models
    shutil.copytree(old, tmp_path / "copy")
    for other in (tmp_path / "copy", old):
        result = evaluate(model=old, against=other, data=segmentation_folder, out=tmp_path / "out", **CPU)
        for row in result.comparison.rows:
            assert (row.change.mean, row.change.low, row.change.high) == (0, 0, 0)
        assert "the same weights" in words(capsys.readouterr().out)
        assert "data:image" not in (tmp_path / "out/comparison.html").read_text()


def test_three_words_in_the_shell(models, segmentation_folder, tmp_path):
    old, new = models
    options = ["--device", "cpu", "--workers", "0"]
    code, out, err = run_unip("evaluate", old, new, segmentation_folder, *options).finish()
    assert code == 0, err
    by_words = json.loads((new / "evaluation/against-old-test/comparison.json").read_text())
    assert by_words["old"]["model"] == str(old) and by_words["new"]["model"] == str(new)
    assert words(by_words["sentence"]) in words(out)
    named = ["--model", new, "--against", old, "--data", segmentation_folder, "--out", tmp_path / "named"]
    assert run_unip("evaluate", *named, *options).wait() == 0
    assert json.loads((tmp_path / "named/comparison.json").read_text()) == by_words
    mixed = [new, segmentation_folder, "--against", old, "--out", tmp_path / "mixed"]
    assert run_unip("evaluate", *mixed, *options).wait() == 0
    assert json.loads((tmp_path / "mixed/comparison.json").read_text()) == by_words


def test_other_words_are_refused(models, segmentation_folder, tmp_path):
    old, new = models
    data, missing = segmentation_folder, tmp_path / "missing"
    for given, said in (
        ((old, new, old), f"{old} is a model, {new} is a model, {old} is a model"),
        ((old, data, data), f"{data} is not a segmentation model, {data} is not"),
        ((data, old, data), f"{data} is not a segmentation model, {old} is a model, {data} is not"),
        ((data, data, data), f"{data} is not a segmentation model"),
        ((old, data, "val"), "val does not exist"),
        ((missing, new, data), f"{missing} does not exist"),
    ):
        model, second, third = given
        with pytest.raises(UnipError, match="a comparison needs two segmentation models and labelled data") as caught:
            evaluate(model=model, data=second, against=third)
        assert said in caught.value.what and "unip evaluate OLD NEW DATA" in caught.value.fix
    with pytest.raises(UnipError, match="is a model, and there is no labelled data") as caught:
        evaluate(model=old, data=new)
    assert "OLD NEW DATA" in caught.value.fix
    with pytest.raises(UnipError, match="no such folder"):
        evaluate(model=new, against=old, data=missing)
    with pytest.raises(UnipError, match="not on corrupted ones"):
        evaluate(model=new, against=old, data=data, corruption="fog")
    assert not (new / "evaluation").exists() and not (old / "evaluation").exists()


def test_a_dry_run_writes_nothing(models, segmentation_folder, capsys):
    old, new = models
    assert evaluate(model=new, against=old, data=segmentation_folder, dry_run=True, **CPU) is None
    said = words(capsys.readouterr().out)
    assert "would write comparison.json and comparison.html" in said and not (new / "evaluation").exists()


def test_groups_are_drawn(models, segmentation_folder, capsys):
    old, new = models
    given = {"model": new, "against": old, "data": segmentation_folder, "split": "train", **CPU}
    found = evaluate(**given, group=r"(\d)\.png").comparison
    assert (found.over, found.drawn) == ("groups", 6) and not found.caution
    evaluate(**given, group="train")
    assert "all images are of one group" in words(capsys.readouterr().out)


def test_classes_that_one_model_lacks_are_left_out(models, make_segmenter, segmentation_folder, tmp_path, capsys):
    """Against a count by hand: pixels of that class do not count, and predicting it elsewhere is an error."""
    _, new = models
    save_segmenter(make_segmenter(classes=Classes(("Hot", "background"))), tmp_path / "two/model")
    alone = evaluate(model=new, data=segmentation_folder, out=tmp_path / "alone", **CPU).scores.matrix
    result = evaluate(model=new, against=tmp_path / "two", data=segmentation_folder, **CPU)
    assert [row.name for row in result.comparison.classes] == ["background", "hot"]
    np.testing.assert_array_equal(result.scores.matrix, alone[:2])
    hits = np.diag(alone)[:2]
    expected = hits / (alone[:2].sum(1) + alone[:2, :2].sum(0) - hits)
    assert [row.new for row in result.comparison.classes] == pytest.approx(expected)
    said = words(capsys.readouterr().out)
    assert "the 2 classes that both know: background, hot. Left out: cold (only" in said
    record = json.loads((result.out / "comparison.json").read_text())
    assert record["classes_left_out"] == {"cold": [str(new)]}
    back = evaluate(model=tmp_path / "two", against=new, data=segmentation_folder, **CPU)
    assert [row.name for row in back.comparison.classes] == ["Hot", "background"]
    swapped = {row.name.lower(): row.change.mean for row in back.comparison.classes}
    assert swapped == {row.name: -row.change.mean for row in result.comparison.classes}


def test_models_and_data_that_do_not_fit(models, make_segmenter, segmentation_folder, tmp_path):
    old, new = models
    for name, classes in (("other", ("background", "warm")), ("none", ("x", "y"))):
        save_segmenter(make_segmenter(classes=Classes(classes)), tmp_path / name / "model")
        with pytest.raises(UnipError, match="share no class") as caught:
            evaluate(model=tmp_path / name, against=old, data=segmentation_folder)
        assert "hot" in caught.value.what and classes[1] in caught.value.what
    (segmentation_folder / "classes.json").write_text(json.dumps({"names": ["background", "hot", "tepid"]}))
    with pytest.raises(UnipError, match="tepid"):
        evaluate(model=new, against=old, data=segmentation_folder)
    assert not (new / "evaluation").exists()


def test_nothing_but_background(models, segmentation_folder):
    old, new = models
    for path in segmentation_folder.glob("test/masks/*.png"):
        Image.fromarray(np.zeros((32, 40), np.uint8)).save(path)
    with pytest.raises(UnipError, match="nothing to compare on"):
        evaluate(model=new, against=old, data=segmentation_folder, **CPU)


def test_images_that_were_trained_on_are_said(models, small_run, tmp_path, capsys):
    from unip.segmentation.verbs import finetune

    old, _ = models
    shape = {"decoder": "light", "steps": 1, "batch_size": 2, "crop": 32, "base": (128, 32), "compile": False}
    run = tmp_path / "trained"
    finetune(**{**small_run, **shape, "out": run})
    capsys.readouterr()
    for model, against, role in ((run, old, "new"), (old, run / "model", "old")):
        out = tmp_path / role
        evaluate(model=model, against=against, data=small_run["data"], split="train", out=out, **CPU)
        said = words(capsys.readouterr().out)
        assert f"({role}) was trained on 6 of these 6 images" in said
        assert json.loads((out / "comparison.json").read_text())[role]["trained_on"] == 6
        assert "was trained on 6 of these 6" in (out / "comparison.html").read_text()
        evaluate(model=model, against=against, data=small_run["data"], split="test", out=out, **CPU)
        assert "was trained on" not in words(capsys.readouterr().out).replace("was trained on these", "")
        assert json.loads((out / "comparison.json").read_text())[role]["trained_on"] == 0


def test_what_the_old_model_held_out(models, segmentation_folder, tmp_path, capsys):
    """Its record serves where the new one has none; the rest of that split was trained on."""
    old, new = models
    record = {"split": "test", "images": 3, "groups": 3, "how": "given", "held": {"test/images/1.png": "a"}}
    (old / "held_out.json").write_text(json.dumps(record))
    given = {"model": new, "against": old, "data": segmentation_folder, **CPU}
    result = evaluate(**given, split="held-out")
    assert [name.rsplit("/", 1)[-1] for name in result.frames] == ["1.png"]
    assert result.out.name == "against-old-held-out"
    assert "too few images to tell" in words(capsys.readouterr().out)
    evaluate(**given)
    said = words(capsys.readouterr().out)
    assert f"{old} (old) was trained on 2 of these 3 images" in said and said.count("were trained on") == 0
    evaluate(**{**given, "model": old, "against": new}, out=tmp_path / "out")
    said = words(capsys.readouterr().out)
    assert f"{old} (new) was trained on 2 of these 3 images" in said and said.count("were trained on") == 0


def test_results_that_are_not_ours_stay(models, segmentation_folder, tmp_path):
    old, new = models
    (tmp_path / "out").mkdir()
    (tmp_path / "out/comparison.html").write_text("mine")
    with pytest.raises(UnipError, match=r"comparison\.html \(not written by unip\)"):
        evaluate(model=new, against=old, data=segmentation_folder, out=tmp_path / "out", **CPU)
    assert (tmp_path / "out/comparison.html").read_text() == "mine"
