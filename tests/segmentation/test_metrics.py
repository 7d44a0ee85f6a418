import json

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score

from unip.segmentation.metrics import class_accuracy, class_iou, confusion, score


@pytest.fixture
def labels():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, (30, 40))
    prediction = np.where(rng.random((30, 40)) < 0.6, truth, rng.integers(0, 4, (30, 40)))
    truth[:3] = 255
    return truth, prediction


def test_against_sklearn(labels):
    truth, prediction = labels
    matrix = confusion(torch.from_numpy(prediction).byte(), torch.from_numpy(truth).byte(), 4).numpy()
    there = truth != 255
    t, p = truth[there], prediction[there]
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, confusion_matrix(t, p))
    np.testing.assert_allclose(class_iou(matrix), jaccard_score(t, p, average=None))
    np.testing.assert_allclose(class_accuracy(matrix), recall_score(t, p, average=None))
    scores = score(matrix, ("background", "b", "c", "d"))
    assert scores.miou == pytest.approx(jaccard_score(t, p, average="macro"))
    assert scores.foreground_miou == pytest.approx(jaccard_score(t, p, average=None)[1:].mean())
    assert scores.mean_accuracy == pytest.approx(recall_score(t, p, average="macro"))
    assert scores.pixel_accuracy == pytest.approx((t == p).mean())


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("name", ["background", "Background", "_background_"])
def test_the_background_is_left_out_wherever_it_stands(labels, place, name):
    truth, prediction = (np.where(part == 255, 255, (part + place) % 4) for part in labels)
    matrix = confusion(torch.from_numpy(prediction).byte(), torch.from_numpy(truth).byte(), 4).numpy()
    names = [name if index == place else "abcd"[(index - place) % 4] for index in range(4)]
    scores = score(matrix, names)
    there = labels[0] != 255
    expected = jaccard_score(labels[0][there], labels[1][there], average=None)[1:].mean()
    assert scores.foreground_miou == pytest.approx(expected) and scores.has_foreground
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))
    console.print(scores.to_table())
    assert "mean without background" in console.export_text()
    alone = np.zeros((4, 4), np.int64)
    alone[place, place] = 7
    assert not score(alone, names).has_foreground


def test_absent_classes_are_left_out():
    matrix = np.array([[8, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 5, 5]])
    scores = score(matrix, ("a", "absent", "predicted only", "d"))
    np.testing.assert_allclose(scores.iou, [0.8, np.nan, 0.0, 0.5])
    np.testing.assert_allclose(scores.accuracy, [0.8, np.nan, np.nan, 0.5])
    assert scores.miou == pytest.approx(1.3 / 3)
    assert scores.mean_accuracy == pytest.approx(0.65)
    assert scores.foreground_miou == scores.miou  # no class is called background
    record = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert record["classes"][1] == {"name": "absent", "iou": None, "accuracy": None, "pixels": 0}
    assert record["confusion_matrix"] == matrix.tolist()


def test_nothing_labelled_has_no_scores():
    record = score(np.zeros((2, 2), np.int64), ("background", "b")).to_dict()
    assert [record[k] for k in ("miou", "foreground_miou", "mean_accuracy", "pixel_accuracy")] == [None] * 4


def test_table_shows_percent_and_a_dash():
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))
    console.print(score(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ("background", "b", "never")).to_table("title"))
    text = console.export_text()
    assert "75.0" in text and "80.0" in text and "mean without background" in text
    assert next(line for line in text.splitlines() if "never" in line).count("-") >= 2


def test_further_columns_are_errors():
    """Pixels of a class that were predicted as something without a row are missed, and no class is charged for them."""
    scores = score(np.array([[8, 1, 1], [2, 4, 2]]), ("background", "a"))
    assert scores.iou == pytest.approx([8 / 12, 4 / 9])
    assert scores.accuracy == pytest.approx([8 / 10, 4 / 8])
    assert scores.pixel_accuracy == pytest.approx(12 / 18)


@pytest.mark.parametrize(("truth", "predicted"), [(4, 0), (250, 1), (3, 4), (0, 4), (1, 255)])
def test_ids_of_no_class_are_not_counted_as_others(truth, predicted):
    """A prediction beyond the classes would be counted as one of the next true class; a truth beyond has no place."""
    masks = [torch.full((2, 3), value, dtype=torch.uint8) for value in (predicted, truth)]
    with pytest.raises(ValueError, match="none of the 4 classes"):
        confusion(*masks, 4)


def test_nothing_counts_where_all_is_left_out():
    ids = torch.zeros(2, 3, dtype=torch.uint8)
    assert confusion(ids, ids + 255, 3).tolist() == [[0] * 3] * 3
