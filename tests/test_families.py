"""The tool that makes docs/families.md: end to end with tiny models, and its formulas."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import families
import families_measuring
from families_drawing import GRID, colours, place_on, queries_of
from families_findings import Finding, find, hybrid_is_best, probed, ranges
from families_measuring import Family, Focus, ImageSet, Row, Settings, focus_of, neighbours
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone
from unip.vit.student import student_spec

MADE = (
    Family("one", "Model one", "#2f7fd0", "{weights}/one", "on nothing"),
    Family("two", "Model two", "#8f5fdb", "{weights}/two", "on nothing", exclude=(6,), because="made so"),
    Family("mae", "Lost model", "#d9541e", "{weights}/lost.safetensors", "on nothing"),
)
SETS = (
    ImageSet("seen", "labelled frames", "set/train/images", "made", "set", ("object",), side=64, outlines=True),
    ImageSet("plain", "frames alone", "plain", "made"),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(3):
            frame, mask = rng.integers(90, 120, (96, 128), dtype=np.uint8), np.zeros((96, 128), np.uint8)
            frame[20 + 9 * number : 60, 30:70], mask[20 + 9 * number : 60, 30:70] = 220, 1
            for name, pixels in (("images", frame), ("masks", mask)):
                (tmp_path / "set" / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / "set" / split / name / f"{number}.png")
    (tmp_path / "set/classes.json").write_text(json.dumps({"names": ["ground", "object"], "ignore_index": 255}))
    (tmp_path / "plain").mkdir()
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "plain/0.png")
    spec = student_spec("unip_micro")
    for name in ("one", "two"):
        torch.manual_seed(len(name))
        model = build_backbone(spec)
        folder = tmp_path / "weights" / name
        save_backbone(model, spec, folder, mean=[0.38] * 3, std=[0.19] * 3, input_size=224, info={})
    return Settings(tmp_path, tmp_path / "weights", tmp_path / "work", 3, (3, 3), "cpu")


def test_the_page_is_made_and_nothing_is_measured_twice(settings, tmp_path, monkeypatch):
    families.make_page(settings, tmp_path / "docs", MADE, SETS)
    page = (tmp_path / "docs/families.md").read_text(encoding="utf-8")
    assert "Model one" in page and "Model two" in page
    assert "Lost model" in page and "no `lost.safetensors`" in page
    assert "--weights FOLDER --images 3 --probe-images 3 3\n" in page and str(tmp_path) not in page
    pictures = sorted(path.name for path in (tmp_path / "docs/images").iterdir())
    assert all(f"images/{name}" in page for name in pictures)
    assert len(pictures) == 4 + len(SETS)
    row = families_measuring.read_json(tmp_path / "work/seen/one.json", Row)
    focus = families_measuring.read_json(tmp_path / "work/seen/one-focus.json", Focus)
    assert len(row.nmi) == len(row.miou) == len(focus.near) == len(focus.sinks) == len(focus.lift) == 6
    assert families_measuring.read_json(tmp_path / "work/plain/one.json", Row).miou == []
    assert families_measuring.read_json(tmp_path / "work/plain/one-focus.json", Focus).lift == []

    def refuse(config):
        raise AssertionError("measured again")

    monkeypatch.setattr(families_measuring, "analyze", refuse)
    assert families_measuring.measure(MADE[0], SETS[0], settings) == row
    weights = tmp_path / "weights/one/model.safetensors"
    weights.write_bytes((tmp_path / "weights/two/model.safetensors").read_bytes()[:-1] + b"\1")
    with pytest.raises(AssertionError, match="measured again"):
        families_measuring.measure(MADE[0], SETS[0], settings)


def found_in_the_run_of_the_text() -> dict[tuple[str, str], Finding]:
    found = {}
    for images in families.SETS:
        for family in families.FAMILIES:
            one = replace(
                row("lhg", [0.3] * 3, [20.0, 30.0, 9.0], 2), sha256=families.WRITTEN_FOR.weights.get(family.key)
            )
            found[images.key, family.key] = find(family, images, one, Focus({}, [0.5] * 3, [0.1] * 3, [1.0] * 3))
    return found


def written(page: Path, settings: Settings, found: dict[tuple[str, str], Finding]) -> str:
    there = [family for family in families.FAMILIES if any(key == family.key for _, key in found)]
    missing = [family for family in families.FAMILIES if family not in there]
    families.write_page(page, there, missing, families.SETS, found, settings)
    return page.read_text(encoding="utf-8")


BY_HAND = (
    "confirm it on every set",
    "does **not** become global",
    "At its own 518 pixels",
    "Half confirmed",
    "a third to three quarters",
    "not always the best one",
    "hardly tested",
    "CLIP has higher ones",
    "eight layers hardly change",
)
ASKED = {"images": families.IMAGES, "probe_images": families.PROBE_IMAGES}


def test_text_written_by_hand_is_on_the_page_of_its_run(tmp_path, settings, capsys):
    page = written(tmp_path / "page.md", replace(settings, **ASKED), found_in_the_run_of_the_text())
    assert [text for text in BY_HAND if text not in page] == []
    assert "for the run of 1 December 2026 with" in page and "left out here" not in page
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("asked", "change", "said"),
    [
        ({"images": 3}, lambda found: found, "3 frames of each set, not 64"),
        ({"probe_images": (3, 2)}, lambda found: found, "3 and 2 frames for probes, not 160 and 80"),
        (
            {},
            lambda found: {key: one for key, one in found.items() if key[1] != "clip"},
            "the model `clip` is not there",
        ),
        (
            {},
            lambda found: {key: replace(one, row=replace(one.row, sha256="9" * 64)) for key, one in found.items()},
            "DeiT-Tiny has other weights than 0af164d9dc50; CLIP ViT-B/16 has other weights than ed8bcd82954d",
        ),
    ],
)
def test_text_written_by_hand_is_left_out_of_other_pages(asked, change, said, tmp_path, settings, capsys):
    page = written(
        tmp_path / "page.md", replace(settings, **{**ASKED, **asked}), change(found_in_the_run_of_the_text())
    )
    assert [text for text in BY_HAND if text in page] == []
    assert said in page and "**Hybrid layers segment best.**\nOf " in page
    note = capsys.readouterr().err
    assert note.startswith("note: ") and said in note


def test_title_and_intro_follow_what_is_there(tmp_path, settings):
    found = found_in_the_run_of_the_text()
    public = {key: one for key, one in found.items() if key[1] not in ("mae", "student")}
    intro = written(tmp_path / "page.md", settings, public).partition("Made by")[0]
    assert "masked" not in intro and "whose weights are public:\nDeiT-Tiny (supervised),\n" in intro
    assert intro.endswith("untrained ViT-Tiny (random weights, as a control).\n\n")
    intro = written(tmp_path / "page.md", settings, found).partition("Made by")[0]
    assert "MAE-Tiny (ours) (masked)," in intro and "whose weights are public" not in intro


def test_the_checked_in_page_is_of_the_run_that_its_text_was_written_for():
    page = (families.DOCS / "families.md").read_text(encoding="utf-8")
    assert families.WRITTEN_FOR.date in page and [text for text in BY_HAND if text not in page] == []
    assert all(f"| {sha256[:12]} |" in page for sha256 in families.WRITTEN_FOR.weights.values())


def test_a_measurement_is_of_its_model(settings):
    other = replace(MADE[0], source="timm:other@{weights}/one")
    asked = families_measuring.made_of(other, SETS[1], settings)
    assert asked != families_measuring.made_of(MADE[0], SETS[1], settings)
    assert str(settings.weights) not in asked["model"]


def test_data_that_is_not_there(tmp_path, capsys):
    given = ["--data", str(tmp_path / "none"), "--weights", str(tmp_path), "--work", str(tmp_path / "work")]
    assert families.main([*given, "--docs", str(tmp_path / "docs")]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_where_attention_goes():
    rng = np.random.default_rng(1)
    attention, objects = rng.random((16, 16)), rng.random(16) * (rng.random(16) > 0.6)
    near, given, even, columns = [], [], [], np.zeros(16)
    for query in range(16):
        row = attention[query] / math.fsum(attention[query])
        close = [k for k in range(16) if max(abs(k // 4 - query // 4), abs(k % 4 - query % 4)) <= 1]
        far = [k for k in range(16) if k not in close]
        near.append(math.fsum(row[close]))
        columns += row / 16
        given.append(math.fsum(row[k] * objects[k] for k in far) / math.fsum(row[far]))
        even.append(math.fsum(objects[far]) / len(far))
    found = focus_of(attention, objects, neighbours(4))
    assert found == pytest.approx((np.mean(near), columns.max(), np.mean(given) / np.mean(even)))


def test_even_attention_lifts_no_object():
    objects = np.zeros(49)
    objects[[3, 11]] = 1
    near, sinks, lift = focus_of(np.ones((49, 49)), objects, neighbours(7))
    assert lift == pytest.approx(1) and sinks == pytest.approx(2 / 49)
    assert near == pytest.approx((5 * 5 * 9 + 4 * 5 * 6 + 4 * 4) / 49**2)


def test_queries_lie_on_an_object_and_far_from_all():
    objects = np.zeros((GRID, GRID))
    objects[2, 3], objects[2, 4] = 0.4, 0.9
    assert queries_of(objects) == {"object": (2, 4), "background": (11, 11)}
    assert [place_on(place, 16) for place in (0, 6, 7, 13)] == [0, 7, 8, 15]
    assert [place_on(place, GRID) for place in range(GRID)] == list(range(GRID))


def test_colours_are_even_in_logarithms():
    steps = colours(np.array([[1 / 8, 1 / 4, 2, 16, 99]]))[0].astype(int)
    assert (steps[0] == steps[1]).all() and (steps[3] == steps[4]).all()
    assert steps[1].sum() < steps[2].sum() < steps[3].sum()


def row(patterns: str, nmi: list[float], miou: list[float], layer: int | None) -> Row:
    names = {"l": "local", "h": "hybrid", "g": "global"}
    return Row({}, None, 1, 14, nmi, nmi, nmi, nmi, [names[p] for p in patterns], layer, None, None, (1, 1), 64, miou)


def test_what_is_found():
    measured = row("llhhg", [0.2, 0.4, 0.15, 0.1, 0.01], [10.0, 20.0, 33.0, 31.0, 32.0], 4)
    found = find(MADE[0], SETS[0], measured, Focus({}, [], [], []))
    assert found.order == "local → hybrid → global"
    assert found.layers == {"local": "1–2", "hybrid": "3–4", "global": "5"}
    assert found.probed == probed(measured)
    assert (found.probed.best, found.probed.pattern, found.probed.lost, found.probed.last) == (3, "hybrid", 2.0, 32.0)
    assert hybrid_is_best(found.probed) == "yes"


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ("llhhg", "does **not** agree: it has global layers (5)"),
        ("llhhh", "It never becomes global, as the paper says, but it does have hybrid layers (3–5)"),
        ("lllll", "That agrees: it stays local."),
    ],
)
def test_what_the_page_says_of_a_masked_model(patterns, said, tmp_path, settings):
    found = {}
    for images in families.SETS:
        for family in families.FAMILIES:
            masked = family.key == "mae"
            measured = row(
                patterns if masked else "llhhg", [0.3] * 5, [20.0, 30.0, 25.0 if masked else 31.5, 9.0, 9.0], 3
            )
            found[images.key, family.key] = find(family, images, measured, Focus({}, [0.5] * 5, [0.1] * 5, [1.0] * 5))
    families.write_page(tmp_path / "page.md", families.FAMILIES, (), families.SETS, found, settings)
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert said in page and "left out: " not in page
    assert "its best layer reaches 30.0 mIoU, -1.5 against student, from scratch" in page


@pytest.mark.parametrize(
    ("patterns", "miou", "said"),
    [
        ("lhg", [1.0, 5.0, 5.4], "a tie"),
        ("lhg", [1.0, 5.0, 5.6], "no"),
        ("lhg", [1.0, 5.6, 5.0], "yes"),
        ("llg", [1.0, 5.6, 5.0], "no hybrid layer"),
    ],
)
def test_whether_a_hybrid_layer_is_best(patterns, miou, said):
    assert hybrid_is_best(probed(row(patterns, [0.1] * 3, miou, None))) == said


def test_ranges():
    assert [ranges(numbers) for numbers in ([], [4], [1, 2, 3, 7], [1, 3, 4])] == ["–", "4", "1–3, 7", "1, 3–4"]
