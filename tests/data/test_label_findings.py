"""Each finding of `unip data check` about labels, in a set that has this fault alone."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.data.labelled.test_alignment import moved, pair
from unip.data.verbs import check
from unip.errors import UnipError

NAMES = ["road", "tree", "car", "sky"]


@pytest.fixture
def labelled(tmp_path):
    """A clean set with two splits."""
    root = tmp_path / "street"
    for split, first in (("train", 0), ("val", 50)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for seed in range(first, first + 10):
            frame, mask = pair(seed)
            Image.fromarray(frame).save(root / split / f"images/{seed}.png")
            write_mask(root / split / f"masks/{seed}.png", mask)
    (root / "classes.json").write_text(json.dumps({"names": NAMES, "ignore_index": 255}))
    return root


def write_mask(path, mask):
    Image.fromarray(mask.astype(np.uint8)).save(path)


def found_in(root, tmp_path, **options):
    """Check a set; return its findings of labels by kind, slivers left out unless they are asked for."""
    options = options or {"sources": (f"infrared={root}",)}
    result = check(**options, out=tmp_path / "out", min_contrast=0)
    kinds = {}
    for finding in result.findings:
        if finding.kind != "slivers":
            kinds.setdefault(finding.kind, []).append(finding)
    return kinds


def test_a_clean_set_has_no_finding(labelled, tmp_path):
    assert found_in(labelled, tmp_path) == {}
    record = json.loads((tmp_path / "out/check.json").read_text())
    train, val = record["labels"]
    assert (train["title"], train["pairs"], train["used"], val["title"]) == ("street train", 10, 10, "street val")
    masks = np.stack([pair(seed)[1] for seed in range(10)])
    assert [each["pixels"] for each in train["classes"]] == np.bincount(masks.ravel(), minlength=4).tolist()
    assert sum(each["share"] for each in train["classes"]) == pytest.approx(1)


def test_the_same_set_as_data(labelled, tmp_path):
    (labelled / "train/masks/3.png").unlink()
    found = found_in(labelled, tmp_path, data=labelled)
    assert [finding.path for finding in found.pop("no mask")] == [bytes(labelled / "train/images/3.png")]
    assert not found
    assert check(data=labelled, splits="val", out=tmp_path / "val", min_contrast=0).images == 10
    assert check(data=labelled, sources=str(labelled), out=tmp_path / "both", min_contrast=0).images == 20


def test_a_folder_above_sets_is_looked_through(labelled, tmp_path):
    write_mask(labelled / "val/masks/lonely.png", pair(50)[1])
    assert [finding.source for finding in found_in(labelled.parent, tmp_path)["no image"]] == ["street"]


def test_frames_without_masks_and_masks_without_frames(labelled, tmp_path):
    (labelled / "val/masks/51.png").unlink()
    write_mask(labelled / "train/masks/lonely.png", pair(1)[1])
    found = found_in(labelled, tmp_path)
    assert [finding.path for finding in found["no mask"]] == [bytes(labelled / "val/images/51.png")]
    assert [finding.path for finding in found["no image"]] == [bytes(labelled / "train/masks/lonely.png")]
    assert len(found) == 2


def test_masks_that_cannot_be_used(labelled, tmp_path):
    masks = labelled / "train/masks"
    write_mask(masks / "1.png", pair(1)[1][:-3])
    wrong = pair(2)[1]
    wrong[:2, :3] = 9
    write_mask(masks / "2.png", wrong)
    (masks / "3.png").write_bytes((masks / "3.png").read_bytes()[:200])
    Image.fromarray(np.full((160, 200, 3), (250, 50, 50), np.uint8)).save(masks / "4.png")
    found = found_in(labelled, tmp_path)
    assert [f.path[-5:] for f in found["mask size"]] == [b"1.png"]
    assert "is 200x157 but its image" in found["mask size"][0].detail
    assert [f.path[-5:] for f in found["unknown id"]] == [b"2.png"]
    assert "unknown id 9 (6 pixels)" in found["unknown id"][0].detail
    assert [f.path[-5:] for f in found["bad mask"]] == [b"3.png", b"4.png"]
    assert "colour-coded masks are read as colours:PATH" in found["bad mask"][1].detail
    assert len(found) == 3
    assert json.loads((tmp_path / "out/check.json").read_text())["labels"][0]["used"] == 6


def test_classes_without_a_pixel(labelled, tmp_path):
    (labelled / "classes.json").write_text(json.dumps({"names": [*NAMES, "bus", "boat"]}))
    (finding, other) = found_in(labelled, tmp_path)["empty class"]
    assert finding.detail == "street train: bus, boat have no pixel in 10 masks" and finding.count == 2
    assert other.detail.startswith("street val")


def test_slivers_are_one_message_with_counts(labelled, tmp_path):
    for split in ("train", "val"):
        for path in (labelled / split / "masks").iterdir():
            write_mask(path, np.tile(np.repeat([0, 1, 2, 3], 50), (160, 1)))
    mask = np.tile(np.repeat([0, 1, 2, 3], 50), (160, 1))
    mask[10, 10] = mask[20:22, 20:24] = 2  # 1 and 8 pixels
    mask[40:43, 10:13] = 2  # 9 pixels: an object
    write_mask(labelled / "train/masks/5.png", mask)
    result = check(sources=f"infrared={labelled}", out=tmp_path / "out", min_contrast=0)
    (finding,) = (finding for finding in result.findings if finding.kind == "slivers")
    assert finding.count == 2 and finding.frames == (bytes(labelled / "train/images/5.png"),)
    expected = "2 of 43 connected pieces have fewer than 9 pixels, in 1 of 10 masks (car 2)"
    assert finding.detail == f"street train: {expected}"


def test_a_shifted_mask_and_a_shifted_set(labelled, tmp_path):
    write_mask(labelled / "train/masks/7.png", moved(pair(7)[1], 8, 0))
    for seed in range(50, 60):
        write_mask(labelled / f"val/masks/{seed}.png", moved(pair(seed)[1], 0, -6))
    whole, single = found_in(labelled, tmp_path)["shifted"]
    assert whole.path == bytes(labelled / "val") and whole.count == 10
    assert whole.detail == "street val: the 10 masks together fit better 6 px down"
    assert single.path == bytes(labelled / "train/images/7.png")
    assert single.detail == "its mask fits better 8 px left"


def test_frames_that_splits_share(labelled, tmp_path):
    with Image.open(labelled / "train/images/2.png") as image:
        image.save(labelled / "val/images/52.jpg", quality=60)
    (labelled / "val/images/52.png").unlink()
    (labelled / "val/images/53.png").write_bytes((labelled / "train/images/3.png").read_bytes())
    found = found_in(labelled, tmp_path)
    details = {finding.path[-6:]: finding.detail for finding in found["across splits"]}
    assert details.pop(b"53.png") == "val: the same file as train: 3.png"
    assert re.fullmatch(r"val: [0-4] of 64 bits of the hash differ from train: 2.png", details.pop(b"52.jpg"))
    assert not details and set(found) == {"across splits"}


def test_masks_of_doubtful_meaning(labelled, tmp_path):
    for split in ("train", "val"):
        for path in (labelled / split / "masks").iterdir():
            with Image.open(path) as image:
                mask = np.array(image)
            write_mask(path, np.where(mask == 1, 255, 0))
    (finding,) = found_in(labelled, tmp_path)["doubtful ids"]
    assert "--remap 255=tree" in finding.detail


def test_labels_that_cannot_be_opened_are_named(labelled, tmp_path):
    (labelled / "classes.json").unlink()
    found = found_in(labelled, tmp_path)
    assert [finding.detail[:15] for finding in found["labels"]] == ["no classes.json"] * 2
    with pytest.raises(UnipError, match=r"no classes\.json"):
        check(data=labelled, out=tmp_path / "data")


def test_outlines_of_another_layout(labelled, tmp_path):
    images = [{"id": 1, "file_name": "0.png", "width": 200, "height": 160}]
    outline = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[10, 10, 50, 10, 50, 50]], "iscrowd": 0}
    categories = [{"id": 1, "name": "car"}]
    coco = tmp_path / "coco"
    (coco / "images").mkdir(parents=True)
    (coco / "images/0.png").write_bytes((labelled / "train/images/0.png").read_bytes())
    values = {"images": images, "annotations": [outline], "categories": categories}
    (coco / "train.json").write_text(json.dumps(values))
    result = check(data=f"coco:{coco}", out=tmp_path / "out", min_contrast=0)
    assert result.images == 1 and not result.findings
    (summary,) = json.loads((tmp_path / "out/check.json").read_text())["labels"]
    assert [each["name"] for each in summary["classes"]] == ["background", "car"]


def test_colour_coded_masks_where_they_are_said_to_be(labelled, tmp_path):
    palette = [[0, 0, 0], [0, 200, 0], [200, 0, 0], [0, 0, 200]]
    (labelled / "classes.json").write_text(json.dumps({"names": NAMES, "palette": palette}))
    for path in (labelled / "train/masks").iterdir():
        with Image.open(path) as image:
            colours = np.array(palette, np.uint8)[np.array(image)]
        Image.fromarray(colours).save(path)
    (labelled / "train/masks").rename(labelled / "train/painted")
    options = {"data": f"colours:{labelled}", "splits": "train", "masks": "{split}/painted"}
    assert found_in(labelled, tmp_path, **options) == {}
    assert json.loads((tmp_path / "out/check.json").read_text())["labels"][0]["used"] == 10


def test_a_folder_that_cannot_be_opened_ends_nothing(labelled, tmp_path, monkeypatch):
    def refuse(root):
        raise PermissionError(13, "Permission denied", str(root))

    monkeypatch.setattr("unip.data.labelled_sets.list_splits", refuse)
    assert found_in(labelled, tmp_path) == {}


def test_nothing_to_check(tmp_path):
    with pytest.raises(UnipError, match="nothing to check"):
        check(out=tmp_path / "out")


def test_the_page_shows_labels_and_needs_nothing_from_elsewhere(labelled, tmp_path):
    write_mask(labelled / "train/masks/7.png", moved(pair(7)[1], 8, 0))
    for name in ("flight.mp4", "b.npy", "a.npy"):
        (labelled / name).touch()
    check(sources=f"infrared={labelled}", out=tmp_path / "out", min_contrast=0)
    page = (tmp_path / "out/check.html").read_text()
    assert not re.search(r"https?://|src=\"(?!data:)|<link|<script", page)
    for title in ("<h3>street train</h3>", "<h3>street val</h3>", "<h2>Shifted: 1</h2>", "Labels to look at first"):
        assert title in page
    for name in NAMES:
        assert page.count(f"</span>{name}<") >= 3  # in both splits and in the legend
    assert "2 .npy (save each frame as 16-bit PNG or TIFF)" in page and "such as a.npy, b.npy, flight.mp4" in page
    assert "grey levels of 20 frames" in page and page.count("<rect") == 64
    assert len(page) < 3_000_000


def test_a_second_call_finds_the_same(labelled, tmp_path):
    write_mask(labelled / "train/masks/7.png", moved(pair(7)[1], 8, 0))
    records = []
    for _ in range(2):
        check(sources=f"infrared={labelled}", out=tmp_path / "out", min_contrast=0)
        records.append((tmp_path / "out/check.json").read_text())
    assert records[0] == records[1]
