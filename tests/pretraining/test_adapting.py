"""`unip pretrain --recipe adapt`: what it chooses, what guards it, and what it writes."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from unip.errors import UnipError
from unip.pretraining import adapting, label_probe, program
from unip.pretraining.adapting import choose, scale_of, size_of_training
from unip.pretraining.config import PretrainConfig
from unip.pretraining.guard import judge
from unip.pretraining.preparing import FEWEST_TO_HOLD_OUT, PretrainPlan
from unip.pretraining.recipes import ADAPT, START, as_infrared
from unip.pretraining.timing import Costs, fit
from unip.pretraining.verbs import pretrain
from unip.recipes import find_recipe
from unip.suites.suite import read_suite
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.spec import build_backbone

ARGUMENTS = {"img_size": 32, "patch_size": 16, "embed_dim": 64, "depth": 3, "num_heads": 2}


def save_model(file: Path, seed: int) -> str:
    torch.manual_seed(seed)
    model = build_backbone(BackboneSpec(arguments=ARGUMENTS))
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.15)
    torch.nn.init.normal_(model.pos_embed, std=1)
    save_file(model.state_dict(), file)
    return str(file)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """24 frames without labels, of which the first 12 have masks elsewhere; a start and a teacher."""
    root = tmp_path_factory.mktemp("adapt")
    rng = np.random.default_rng(0)
    for folder in ("frames", "labelled/images", "labelled/masks"):
        (root / folder).mkdir(parents=True)
    (root / "labelled/classes.json").write_text(json.dumps({"names": ["ground", "car"]}))
    for number in range(24):
        frame = rng.integers(60, 120, (48, 64), dtype=np.uint8)
        top, left = rng.integers(0, 24, 2)
        frame[top : top + 20, left : left + 20] += 100
        Image.fromarray(frame).save(root / f"frames/{number:02}.png")
        if number < 12:
            mask = np.zeros_like(frame)
            mask[top : top + 20, left : left + 20] = 1
            Image.fromarray(frame).save(root / f"labelled/images/{number:02}.png")
            Image.fromarray(mask).save(root / f"labelled/masks/{number:02}.png")
    save_model(root / "start.safetensors", 0)
    save_model(root / "teacher.safetensors", 1)
    return root


def settings(place: Path, out: Path, **changes):
    values = {
        "recipe": "adapt",
        "data": str(place / "frames"),
        "init": str(place / "start.safetensors"),
        "out": out,
        "size": 32,
        "steps": 4,
        "batch_size": 4,
        "log_every": 1,
        "workers": 0,
        "device": "cpu",
        "picture_every": 0,
        "tensorboard": False,
    }
    return {**values, **changes}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    for name in ("TEACHER", "CPU_TEACHER"):
        monkeypatch.setattr(adapting, name, str(tmp_path / "gone.safetensors"))


def config(**given) -> PretrainConfig:
    return PretrainConfig.make(recipe="adapt", data="d", out="o", **{"init": START, **given})


def table(frames: int, size: tuple[int, int] = (512, 640)) -> pa.Table:
    return pa.table({"height": [size[0]] * frames, "width": [size[1]] * frames})


# What is chosen ---------------------------------------------------------------------------------------------------


def test_the_settings_are_those_that_were_measured(offline):
    own = PretrainConfig.make(**read_suite(find_recipe("scenes_first", "bench")).pretrain["both-own"], out="x")
    chosen, _ = choose(config(), table(10_000), on_gpu=True)
    for name in (*ADAPT, "steps", "batch_size", "scale"):
        assert getattr(chosen, name) == getattr(own, name), name


@pytest.mark.parametrize(
    ("frames", "on_gpu", "expected"),
    [
        (1, True, (128, 400)),
        (100, True, (128, 400)),
        (400, True, (512, 400)),
        (250, True, (256, 500)),
        (10_000, True, (512, 800)),
        (100, False, (32, 1600)),
        (10_000, False, (32, 1600)),
    ],
)
def test_crops_follow_the_number_of_frames(frames, on_gpu, expected):
    assert size_of_training(frames, on_gpu=on_gpu) == expected


def test_few_frames_get_fewer_crops_but_never_too_few():
    crops = [math.prod(size_of_training(frames, on_gpu=True)) for frames in (10, 100, 200, 400, 800, 10_000)]
    assert crops == sorted(crops) and crops[0] == 51_200 and crops[-1] == 409_600


@pytest.mark.parametrize("size", [(120, 160), (512, 640), (1080, 1920)])
def test_crops_show_regions_of_the_same_size(size):
    area = size[0] * size[1]
    low, high = scale_of(area)
    assert 0 < low <= 0.2 and low < high <= 1
    if area > 128**2 / 0.2:
        assert math.sqrt(low * area) == pytest.approx(128, rel=0.05)
    if area > 444**2:
        assert math.sqrt(high * area) == pytest.approx(444, rel=0.05)


def test_what_is_given_wins(offline):
    given = {"lr": 1e-4, "batch_size": 64, "teacher": ("x",), "teacher_layer": (3,), "init_share": 0.5}
    chosen, lines = choose(config(**given), table(100), on_gpu=True)
    for name, value in given.items():
        assert getattr(chosen, name) == value
    assert chosen.steps == 800 and not any(line.startswith("teacher") for line in lines)  # as many crops
    assert choose(config(epochs=3.0, batch_size=30), table(100), on_gpu=True)[0].count_steps(100) == 10


def test_without_a_teacher_the_start_teaches_itself(offline, place):
    chosen, lines = choose(config(init=str(place / "start.safetensors")), table(100), on_gpu=True)
    assert chosen.teacher == (chosen.init, chosen.init)
    assert chosen.teacher_layer == chosen.student_layers == (2, 3)
    assert any(line.startswith("teacher: the start itself (layers 2 and 3), since") for line in lines)


def test_with_a_teacher_the_start_is_the_second(monkeypatch, place):
    for name in ("TEACHER", "CPU_TEACHER"):
        monkeypatch.setattr(adapting, name, str(place / "teacher.safetensors"))
    chosen, _ = choose(config(init=str(place / "start.safetensors")), table(100), on_gpu=True)
    assert chosen.teacher == (str(place / "teacher.safetensors"), chosen.init)
    assert (chosen.teacher_layer, chosen.student_layers) == (("auto", 2), ())


def test_folders_are_infrared_unless_told(tmp_path):
    for name in ("mine", "scene/thermal", "scene/rgb", "visible"):
        (tmp_path / name).mkdir(parents=True)
    mine, scene, visible = (str(tmp_path / name) for name in ("mine", "scene", "visible"))
    assert as_infrared(mine) == f"infrared={mine}"
    told = [scene, visible, f"rgb={mine}", f"infrared={mine}", "infmix", str(tmp_path / "m.parquet")]
    assert [as_infrared(source) for source in told] == told


def test_a_slow_gpu_gets_fewer_steps_and_a_small_one_more_passes():
    chosen = config(teacher=("x",), steps=800, batch_size=512)
    open_ones = {"steps", "accumulate"}
    fast = fit(chosen, Costs(1e-4, 10**7, 10**11), may_change=open_ones)
    assert fast[0] == {} and "about 41 s for 800 steps" in fast[1]
    changes, line = fit(chosen, Costs(0.005, 4 * 10**7, 8 * 10**9), may_change=open_ones)
    assert changes == {"accumulate": 4, "steps": 234} and 234 * 512 * 0.005 <= 600
    assert "234 steps instead, to stay within 10 minutes" in line and "4 passes a step" in line
    assert fit(chosen, Costs(0.005, 4 * 10**7, 8 * 10**9), may_change=set())[0] == {}
    assert fit(chosen, Costs(1.0, 10**7, 10**11), may_change=open_ones)[0] == {"steps": 20}  # 10,000 crops at least
    changes, line = fit(chosen, Costs(0.1), may_change=open_ones)
    assert changes == {} and "11 h 23 min" in line and "measured on this CPU" in line


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"init": "random"}, "recipe adapt starts from a model, and init is random"),
        ({"objective": "mae"}, "recipe adapt learns from teachers, and objective mae has none"),
        ({"recipe": "paper", "teacher": "unip_micro", "probe_data": "x"}, "probe_data judges the start that recipe"),
        ({"probe_data": "gone"}, "no such folder: gone"),
    ],
)
def test_what_is_refused(place, tmp_path, given, message):
    with pytest.raises(UnipError, match=message):
        pretrain(**settings(place, tmp_path / "run", **given))


# What is done -----------------------------------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_a_better_start_comes_out_and_the_run_goes_on_as_it_began(place, tmp_path, offline, monkeypatch, caplog):
    run = tmp_path / "run"
    with caplog.at_level("INFO"):
        result = pretrain(**settings(place, run))
    assert result.training.steps == 4 and "Without labels that is all that is guarded" in caplog.text
    verdict = json.loads((run / "guard.json").read_text())
    assert (verdict["saved"], verdict["by"], verdict["images"], verdict["probes"]) == ("adapted", "collapse", 2, None)
    described = json.loads((run / "model" / "config.json").read_text())
    assert described["info"]["guard"] == verdict and described["info"]["init_share"] == 0.75
    assert {each["role"] for each in described["lineage"]["ancestors"]} == {"init", "teacher", "data"}
    assert load_backbone(str(run)).report is not None
    # the teacher can be loaded now, but the run keeps what it chose
    for name in ("TEACHER", "CPU_TEACHER"):
        monkeypatch.setattr(adapting, name, str(place / "teacher.safetensors"))
    before = weights(run)
    pretrain(**settings(place, run))
    assert weights(run).keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(run).items())
    again = tmp_path / "again"
    for name in ("TEACHER", "CPU_TEACHER"):
        monkeypatch.setattr(adapting, name, str(tmp_path / "gone.safetensors"))
    pretrain(**settings(place, again))
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(again).items())


def test_it_is_said_what_kind_of_frames_the_guard_looked_at(place):
    start = load_backbone(str(place / "start.safetensors"))
    frames = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert judge(start, start, frames, None).reason.startswith("no collapse on 3 held-out frames: ")
    trained = judge(start, start, frames, None, held_out=False).reason
    assert trained.startswith("no collapse on 3 frames, which were trained on: ")


@pytest.mark.parametrize("frames", [FEWEST_TO_HOLD_OUT - 1, FEWEST_TO_HOLD_OUT])
def test_of_few_frames_none_is_held_out(place, tmp_path, offline, frames, monkeypatch):
    (tmp_path / "frames").mkdir()
    for file in sorted((place / "frames").iterdir())[:frames]:
        shutil.copy(file, tmp_path / "frames")
    plans: list[PretrainPlan] = []
    describe = program.describe
    monkeypatch.setattr(program, "describe", lambda plan: plans.append(plan) or describe(plan))
    pretrain(**settings(place, tmp_path / "run", data=(str(tmp_path / "frames"),), dry_run=True))
    assert plans[0].holds_out == (frames == FEWEST_TO_HOLD_OUT)


def test_a_collapsed_start_is_not_saved(place, tmp_path, offline, caplog):
    run = tmp_path / "run"
    pretrain(**settings(place, run, lr=30.0, init_share=0.0, clip=1e9, warmup=0, steps=6))
    verdict = json.loads((run / "guard.json").read_text())
    assert verdict["saved"] == "start" and "collapse" in verdict["reason"] + verdict["by"]
    assert "the old start is kept" in caplog.text
    start, saved = load_file(place / "start.safetensors"), weights(run)
    assert all(torch.equal(saved[name], tensor) for name, tensor in start.items())
    described = json.loads((run / "model" / "config.json").read_text())
    assert described["info"]["guard"]["saved"] == "start"
    assert {each["role"] for each in described["lineage"]["ancestors"]} == {"init"}


@pytest.mark.parametrize("worse", [False, True])
def test_labels_decide_where_there_are_some(place, tmp_path, offline, monkeypatch, worse):
    if worse:  # a student that sees no more of the image than its mean; tokens keep their rank by their positions
        average = program.average_with_init

        def spoil(student, init, share):
            average(student, init, share)
            student.patch_embed.proj.weight.data.zero_()

        monkeypatch.setattr(program, "average_with_init", spoil)
    monkeypatch.setattr(label_probe, "SHORT_SIDE", 64)
    run = tmp_path / "run"
    pretrain(**settings(place, run, probe_data=str(place / "labelled")))
    verdict = json.loads((run / "guard.json").read_text())
    probes = verdict["probes"]
    assert (verdict["by"], verdict["saved"]) == ("labels", "start" if worse else "adapted"), verdict["reason"]
    assert probes["layers"] == [1, 2, 3] and probes["images"] == 6
    assert probes["low"] <= probes["difference"] <= probes["high"] and (probes["high"] < 0) == worse
    mean = [sum(probes[name]) / 3 for name in ("after", "before")]
    assert probes["difference"] == pytest.approx(mean[0] - mean[1])


@pytest.mark.parametrize("where", ["features", "scores"])
def test_a_start_that_is_not_finite_on_labelled_frames_is_not_saved(place, tmp_path, offline, monkeypatch, where):
    """It was finite on those without labels, so it did not look collapsed."""
    monkeypatch.setattr(label_probe, "SHORT_SIDE", 64)
    probe, calls = label_probe.probe, []

    def broken(backbone, *arguments):
        calls.append(backbone)
        if len(calls) == 2:  # the new one
            module = label_probe.ProbedBackbone
            if where == "features":
                features = module.features
                monkeypatch.setattr(
                    module, "features", lambda self, images: [m * torch.nan for m in features(self, images)]
                )
            else:
                fitted = label_probe.train_probes
                monkeypatch.setattr(
                    label_probe,
                    "train_probes",
                    lambda *given: [replace(each, bias=each.bias * torch.inf) for each in fitted(*given)],
                )
        return probe(backbone, *arguments)

    monkeypatch.setattr(label_probe, "probe", broken)
    run = tmp_path / "run"
    pretrain(**settings(place, run, probe_data=str(place / "labelled")))
    verdict = json.loads((run / "guard.json").read_text())
    assert (verdict["by"], verdict["saved"]) == ("labels", "start")
    assert "features or scores of the new weights are not finite" in verdict["reason"]
    assert verdict["probes"]["difference"] is verdict["probes"]["high"] is None
    start, saved = load_file(place / "start.safetensors"), weights(run)
    assert all(torch.equal(saved[name], tensor) for name, tensor in start.items())
