"""The demo on a few scenes, and the teacher that ships."""

from __future__ import annotations

import json
import re

import pytest
import torch

from tests.analysis.undrawn import leave_undrawn
from unip.demonstration import program
from unip.demonstration.teacher import TEACHER, export_teacher, start_teacher
from unip.demonstration.verbs import demo
from unip.errors import UnipError
from unip.vit.backbone import load_backbone

TINY = {"scenes": (10, 4), "distil_steps": 2, "finetune_steps": 2, "zoo_steps": 2, "label_budget": 8, "seeds": (0, 1)}


@pytest.fixture(scope="module")
def small_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "SIDE", 64)
        patch.setattr(program, "ZOO_SIDES", (64, 64))
        patch.setattr(program, "SCENE_SIZE", (64, 80))
        yield


@pytest.fixture(scope="module")
def shown(small_images, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, demo(out=out, **TINY)


def test_it_writes_the_page_and_the_numbers(shown):
    out, result = shown
    results = json.loads((out / "results.json").read_text())
    assert results["miou"] == result.miou
    assert {start: len(values) for start, values in result.miou.items()} == {"scratch": 2, "distilled": 2, "zoo": 2}
    page = (out / "demo.html").read_text()
    for start, values in result.miou.items():
        assert re.search(rf"<td>{start}</td>" + "".join(f"<td>{100 * value:.1f}</td>" for value in values), page)
    assert page.count("<img") == 4 * 6 + 3
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # self-contained


def test_it_says_which_layer_was_distilled(shown):
    out, _ = shown
    results = json.loads((out / "results.json").read_text())
    assert results["teacher_layer"] == json.loads((out / "distilled/teacher.json").read_text())["teachers"][0]["layer"]


def test_run_again_it_trains_nothing_anew(shown, monkeypatch):
    leave_undrawn(monkeypatch)
    out, result = shown
    before = {path: path.stat().st_mtime_ns for path in out.rglob("checkpoints/*/model.safetensors")}
    assert len(before) >= 5
    assert demo(out=out, **TINY).miou == result.miou
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_in_the_same_folder_are_refused(shown, monkeypatch):
    leave_undrawn(monkeypatch)
    out, _ = shown
    with pytest.raises(UnipError, match="other settings"):
        demo(out=out, **{**TINY, "distil_steps": 3})


@pytest.mark.parametrize("name", ["results.json", "demo.html"])
def test_a_file_that_it_did_not_write_stays(tmp_path, name):
    (tmp_path / name).write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UnipError, match=rf"{name} \(not written by unip\)"):
            demo(out=tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


def test_dry_run(tmp_path, capsys):
    assert demo(out=tmp_path / "demo", dry_run=True) is None
    assert not (tmp_path / "demo").exists()
    assert "then fine-tune 2 times for 120 steps and 1 times for 150" in capsys.readouterr().out


def test_the_shipped_teacher_loads_with_its_own_shape():
    from unip.demonstration.program import TEACHER_FILE

    assert TEACHER_FILE.stat().st_size < 12e6
    backbone = load_backbone(str(TEACHER_FILE))
    assert backbone.report is not None
    assert backbone.report.matched == len(backbone.model.state_dict())
    assert backbone.spec.arguments == TEACHER.arguments
    assert [block.attn.num_heads for block in backbone.model.blocks] == [4] * 8


def test_a_teacher_can_be_made_again(tmp_path):
    start_teacher(tmp_path / "start")
    export_teacher(tmp_path / "start", tmp_path / "teacher.safetensors")
    start, teacher = (load_backbone(str(tmp_path / name)).model for name in ("start", "teacher.safetensors"))
    for (name, weight), other in zip(start.state_dict().items(), teacher.state_dict().values(), strict=True):
        torch.testing.assert_close(weight, other, atol=1e-3, rtol=1e-3, msg=name)
