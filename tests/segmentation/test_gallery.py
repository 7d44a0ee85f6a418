import re
from pathlib import Path

import numpy as np

from unip.data.labelled.classes import Classes
from unip.pages import data_uri
from unip.segmentation.gallery import WorstFrame, render_evaluation
from unip.segmentation.metrics import score


def page(name="a<b>.png", count=1, size=(30, 40)):
    classes = Classes(("background", "<script>"))
    scores = score(np.array([[90, 5], [0, 5]]), classes.names)
    mask = np.zeros(size, np.uint8)
    mask[:5] = 255
    image = np.full((*size, 3), 90, np.uint8)
    frames = [WorstFrame(Path(name), 0.25, image, mask, mask * 0 + 1)] * count
    about = {"model": "run", "data": "folder", "split": "test", "images": 3}
    return render_evaluation(scores, classes, about, frames)


def test_page_needs_nothing_from_elsewhere():
    text = page()
    assert not re.search(r"https?://|src=\"(?!data:)|<link|<script", text)


def test_names_are_escaped():
    text = page()
    assert "&lt;script&gt;" in text and "a&lt;b&gt;.png" in text


def test_numbers_are_percent():
    text = page()
    assert "<b>72.4</b>mIoU" in text  # (90 / 95 + 5 / 10) / 2
    assert "<b>50.0</b>mIoU without background" in text
    assert "mIoU 25.0" in text


def test_large_frames_stay_small():
    noise = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), dtype=np.uint8)
    assert len(data_uri(noise)) < 250_000
    assert len(page(count=12, size=(1024, 1280))) < 2_000_000
