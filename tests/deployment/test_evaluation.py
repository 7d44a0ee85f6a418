import json

import numpy as np
import pytest
from PIL import Image

from unip.deployment.verbs import evaluate
from unip.errors import UnipError
from unip.segmentation.metrics import class_iou
from unip.segmentation.storage import load_segmenter, save_segmenter


@pytest.fixture
def model(tmp_path, make_segmenter):
    save_segmenter(make_segmenter(), tmp_path / "run" / "model")
    return tmp_path / "run"


def test_scores_equal_a_plain_count(model, segmentation_folder):
    """Whole images that need no resizing, against the model called by hand and a loop over pixels."""
    import torch

    result = evaluate(model=model, data=segmentation_folder, window="whole", device="cpu", worst=2)
    segmenter = load_segmenter(model)
    matrix = np.zeros((3, 3), np.int64)
    for number in range(3):
        image = np.asarray(Image.open(segmentation_folder / "test" / "images" / f"{number}.png"))
        truth = np.asarray(Image.open(segmentation_folder / "test" / "masks" / f"{number}.png"))
        with torch.no_grad():
            prediction = segmenter(torch.from_numpy(image.copy()).expand(1, 3, -1, -1))[0].argmax(0).numpy()
        own = np.zeros((3, 3), np.int64)
        np.add.at(own, (truth[truth != 255], prediction[truth != 255]), 1)
        matrix += own
        name = str(segmentation_folder / "test" / "images" / f"{number}.png")
        assert result.frames[name] == pytest.approx(np.nanmean(class_iou(own)))
    np.testing.assert_array_equal(result.scores.matrix, matrix)
    assert matrix.sum() == 3 * 31 * 40  # the first row of each mask has no label


def test_files(model, segmentation_folder):
    result = evaluate(model=model, data=segmentation_folder, device="cpu", worst=2)
    assert result.out == model / "evaluation" / "test"
    record = json.loads((result.out / "metrics.json").read_text())
    assert record["images"] == 3 and record["window"] == "auto" and len(record["frames"]) == 3
    assert [c["name"] for c in record["classes"]] == ["background", "hot", "cold"]
    page = (result.out / "evaluation.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * 3
    worst = sorted(result.frames.items(), key=lambda item: item[1])[:2]
    places = [page.index(f"<b>{path.rsplit('/', 1)[-1]}</b>") for path, _ in worst]
    assert places == sorted(places)


def test_a_folder_without_splits_and_another_place(model, segmentation_folder, tmp_path):
    (segmentation_folder / "test" / "classes.json").write_bytes((segmentation_folder / "classes.json").read_bytes())
    flat = segmentation_folder / "test"
    result = evaluate(model=model / "model", data=flat, split=None, out=tmp_path / "o", worst=0, device="cpu")
    assert "worst frames" not in (tmp_path / "o" / "evaluation.html").read_text()
    assert result.out == tmp_path / "o"


def test_dry_run_writes_nothing(model, segmentation_folder, capsys):
    assert evaluate(model=model, data=segmentation_folder, dry_run=True) is None
    assert not (model / "evaluation").exists()
    printed = capsys.readouterr().out
    assert "3 images" in printed and "windows of 32 every 21 pixels" in printed and "nothing was written" in printed


def test_classes_in_another_order_give_the_same_scores(model, segmentation_folder, tmp_path):
    expected = evaluate(model=model, data=segmentation_folder, device="cpu", out=tmp_path / "a").scores
    (segmentation_folder / "classes.json").write_text(json.dumps({"names": ["Cold", "background", "hot"]}))
    for path in segmentation_folder.glob("*/masks/*.png"):
        stored = np.array([1, 2, 0, *range(3, 256)], np.uint8)[np.asarray(Image.open(path))]
        Image.fromarray(stored).save(path)
    found = evaluate(model=model, data=segmentation_folder, device="cpu", out=tmp_path / "b").scores
    assert found.names == ("background", "hot", "cold")
    np.testing.assert_array_equal(found.matrix, expected.matrix)


def test_other_classes(model, segmentation_folder):
    (segmentation_folder / "classes.json").write_text(json.dumps({"names": ["background", "cold", "warm"]}))
    with pytest.raises(UnipError, match=r"has warm, which .* does not know; .* knows hot, which"):
        evaluate(model=model, data=segmentation_folder)


def test_bad_pairs(model, segmentation_folder):
    mask = segmentation_folder / "test" / "masks" / "1.png"
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(mask)
    with pytest.raises(UnipError, match="40x30 but its image"):
        evaluate(model=model, data=segmentation_folder, device="cpu")
    Image.fromarray(np.full((32, 40), 9, np.uint8)).save(mask)
    with pytest.raises(UnipError, match="unknown id 9"):
        evaluate(model=model, data=segmentation_folder, device="cpu")
    assert not (model / "evaluation").exists()


def test_a_dry_run_checks_the_data(model, segmentation_folder):
    mask = segmentation_folder / "test" / "masks" / "1.png"
    Image.fromarray(np.full((32, 40), 9, np.uint8)).save(mask)
    with pytest.raises(UnipError, match="unknown id 9"):
        evaluate(model=model, data=segmentation_folder, dry_run=True)
    mask.write_bytes(mask.read_bytes()[:50])
    with pytest.raises(UnipError, match=r"1\.png is truncated"):
        evaluate(model=model, data=segmentation_folder, dry_run=True)


def test_nothing_there(model, segmentation_folder, tmp_path):
    with pytest.raises(UnipError, match="does not exist"):
        evaluate(model=tmp_path / "no", data=segmentation_folder)
    with pytest.raises(UnipError, match="no such folder"):
        evaluate(model=model, data=tmp_path / "no")
