"""`unip pretrain` end to end with every objective, several teachers and other models to start from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from unip.analysis.verbs import analyze
from unip.attention.capture import AttentionTrunk
from unip.cli import app
from unip.deployment.verbs import evaluate, predict
from unip.errors import Interrupted, UnipError
from unip.pretraining.config import PretrainConfig
from unip.pretraining.layers import short_name
from unip.pretraining.verbs import pretrain
from unip.segmentation.verbs import finetune
from unip.training import loop
from unip.training.config import TrainingConfig
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.export import save_backbone
from unip.vit.shape import heads_of
from unip.vit.spec import build_backbone, last_heads
from unip.vit.student import STUDENTS


def save_teacher(file: Path, heads: int, width: int, **more) -> str:
    torch.manual_seed(heads)
    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": width, "depth": 3, "num_heads": heads, **more}
    spec = BackboneSpec(arguments=arguments)
    model = build_backbone(spec)
    for number, block in enumerate(model.blocks):  # the first layer is local, the others attend more and more alike
        torch.nn.init.normal_(block.attn.qkv.weight, std=(0.3, 0.15, 0.06)[number])
    torch.nn.init.normal_(model.pos_embed, std=1)
    if width == 64 * heads:
        save_file(model.state_dict(), file)
        return str(file)
    folder = file.with_suffix("")
    save_backbone(model, spec, folder, mean=[0.5] * 3, std=[0.5] * 3, input_size=32, info={})
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """So small models run fastest on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Thermal frames, the same with masks, and teachers."""
    root = tmp_path_factory.mktemp("objectives")
    rng = np.random.default_rng(0)
    for folder in ("frames", "labelled/train/images", "labelled/train/masks"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        frame = rng.integers(90, 130, (40, 56), dtype=np.uint8)
        top, left = rng.integers(0, 24, 2)
        frame[top : top + 14, left : left + 14] = 240
        Image.fromarray(frame).save(root / "frames" / f"{number}.png")
        Image.fromarray(frame).save(root / "labelled/train/images" / f"{number}.png")
        Image.fromarray((frame > 200).astype(np.uint8)).save(root / "labelled/train/masks" / f"{number}.png")
    (root / "labelled/classes.json").write_text(json.dumps({"names": ["background", "hot"], "ignore_index": 255}))
    save_teacher(root / "one.safetensors", 1, 64)
    save_teacher(root / "two.safetensors", 2, 128)
    save_teacher(root / "thirteen", 13, 52)
    save_teacher(root / "twenty", 20, 80)
    save_teacher(root / "patch8", 1, 64, patch_size=8, reg_tokens=2, no_embed_class=True)
    save_teacher(root / "eight", 2, 32, patch_size=8, class_token=False, global_pool="")
    return root


def settings(place: Path, out: Path, **changes):
    values = {
        "out": out,
        "teacher": str(place / "one.safetensors"),
        "teacher_layer": 2,
        "data": (f"infrared={place / 'frames'}",),
        "student": "unip_micro",
        "size": 32,
        "steps": 6,
        "batch_size": 4,
        "lr": 1e-3,
        "log_every": 1,
        "checkpoint_every": 2,
        "workers": 0,
        "device": "cpu",
        "picture_every": 6,
        "tensorboard": False,
        "decoder_depth": 1,
        "decoder_width": 32,
    }
    return {**values, **changes}


def log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def tune(place: Path, model: Path, out: Path, **changes):
    values = {
        "model": str(model),
        "recipe": "fast",
        "data": str(place / "labelled"),
        "out": out,
        "steps": 1,
        "batch_size": 2,
        "crop": 32,
        "base": (64, 32),
        "decoder": "linear",
        "device": "cpu",
        "workers": 0,
        "tensorboard": False,
    }
    return finetune(**{**values, **changes})


OBJECTIVES = ["nmi_had", "nmi_had+values", "features", "mae"]


@pytest.fixture(scope="module", params=OBJECTIVES)
def run(request, place, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("runs") / "run"
    pretrain(**settings(place, out, objective=request.param))
    return request.param, out


def test_every_objective_trains_draws_and_says_what_it_was(run, place):
    objective, out = run
    assert all(np.isfinite(record["loss"]) for record in log(out))
    with Image.open(out / "pictures" / "step-00000006.png") as picture:
        assert np.asarray(picture).std() > 5
    info = json.loads((out / "model" / "config.json").read_text())["info"]
    assert (info["objective"], info["steps"]) == (objective, 6)
    assert f"- objective: {objective}" in (out / "model" / "README.md").read_text()
    assert ("teachers" in info) == (objective != "mae")
    if objective != "mae":
        assert [t["layer"] for t in info["teachers"]] == [2]
    told = json.loads((out / "teacher.json").read_text())
    assert (told["objective"], len(told["teachers"])) == (objective, int(objective != "mae"))
    assert ("values/one-2" in log(out)[0]) == (objective == "nmi_had+values")


def test_checkpoints_hold_all_that_is_trained_and_the_model_only_the_student(run):
    objective, out = run
    checkpoint = load_file(out / "checkpoints" / "step-00000006" / "model.safetensors")
    model = load_file(out / "model" / "model.safetensors")
    beside = {"features": "maps.0.weight", "mae": "decoder.mask_token"}
    if objective in beside:
        assert beside[objective] in checkpoint
        assert all(name.startswith(("student.", beside[objective].split(".")[0])) for name in checkpoint)
        assert torch.equal(checkpoint["student.cls_token"], model["cls_token"])
    assert {n for n in model if "num_heads" not in n} == set(build_backbone(STUDENTS["unip_micro"]).state_dict())
    heads = last_heads(load_backbone(str(out)).model)
    assert heads == (1 if objective.startswith("nmi_had") else 3)


def test_stopped_and_continued_is_bitwise_the_same(run, place, tmp_path, monkeypatch):
    objective, whole = run
    saving, saved = loop._Loop._save, []

    def interrupt(self):
        saving(self)
        saved.append(self.step)
        if self.step == 4:
            raise Interrupted("stopped", "")

    monkeypatch.setattr(loop._Loop, "_save", interrupt)
    with pytest.raises(Interrupted):
        pretrain(**settings(place, tmp_path / "run", objective=objective))
    monkeypatch.setattr(loop._Loop, "_save", saving)
    pretrain(**settings(place, tmp_path / "run", objective=objective))
    assert saved == [2, 4]
    assert [r["loss"] for r in log(tmp_path / "run")] == [r["loss"] for r in log(whole)]
    ours, theirs = (load_file(r / "model" / "model.safetensors") for r in (tmp_path / "run", whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_objectives_student_can_be_fine_tuned(run, place, tmp_path):
    assert tune(place, run[1], tmp_path / "tuned") is not None


def test_a_dry_run_of_every_objective_writes_nothing(place, tmp_path, capsys):
    for objective in OBJECTIVES:
        assert pretrain(**settings(place, tmp_path / "run", objective=objective, dry_run=True)) is None
        assert f"objective {objective}; student unip_micro" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_mae_needs_no_teacher_and_looks_at_none(place, tmp_path):
    pretrain(**settings(place, tmp_path / "a", objective="mae", teacher=None, teacher_layer="auto", steps=2))
    pretrain(**settings(place, tmp_path / "b", objective="mae", teacher="no/such/file", steps=2))
    assert [r["loss"] for r in log(tmp_path / "a")] == [r["loss"] for r in log(tmp_path / "b")]
    resolved = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert (resolved["teacher"], resolved["teacher_layer"], resolved["decoder_width"]) == ([], "auto", 32)
    again = PretrainConfig.from_yaml(tmp_path / "a" / "config.yaml")
    assert pretrain(again, dry_run=True) is None


def test_masks_do_not_depend_on_how_a_batch_is_cut(place, tmp_path):
    """Twice two samples give the losses of once four: masks and crops belong to positions."""
    values = settings(place, tmp_path / "a", objective="mae", drop_path=0.0, steps=3)
    pretrain(**values)
    pretrain(**{**values, "out": tmp_path / "b", "accumulate": 2})
    ours, theirs = ([r["loss"] for r in log(tmp_path / name)] for name in "ab")
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_the_auto_decoder_is_light_for_small_students(place, tmp_path):
    values = settings(place, tmp_path / "run", objective="mae", decoder_depth="auto", decoder_width="auto", steps=1)
    pretrain(**values)
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (resolved["decoder_depth"], resolved["decoder_width"]) == (4, 256)
    pretrain(**values)  # continues: auto is what it was


# Heads that do not divide the width --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "heads"), [("thirteen", 13), ("twenty", 20)])
def test_a_teacher_whose_heads_do_not_divide_the_students_width(place, tmp_path, name, heads):
    out = tmp_path / "run"
    teacher = str(place / name)
    result = pretrain(**settings(place, out, teacher=teacher, objective="nmi_had+values", teacher_layer="auto"))
    assert result.layers[0] in (1, 2, 3)
    for source in (out, out / "model", out / "model" / "model.safetensors"):
        student = load_backbone(str(source))
        assert (last_heads(student.model), student.spec.last_heads) == (heads, heads)
        assert student.report.matched == len(student.model.state_dict())
    with torch.no_grad():
        q, _ = AttentionTrunk(student.model, [6])(torch.randn(1, 3, 32, 32))[6]
    assert q.shape == (1, heads, 5, -(-96 // heads))
    tuned = tune(place, out, tmp_path / "tuned")
    assert tuned is not None
    evaluate(model=tmp_path / "tuned", data=place / "labelled", split="train", out=tmp_path / "eval", device="cpu")
    predict(model=tmp_path / "tuned", images=(place / "frames",), out=tmp_path / "masks", device="cpu")
    analyze(models=(str(out), str(tmp_path / "tuned")), images=(str(place / "frames"),), out=tmp_path / "look", size=32)
    uniform = tune(place, out, tmp_path / "uniform", last_heads="uniform")
    assert uniform is not None
    config = json.loads((tmp_path / "uniform" / "model" / "config.json").read_text())
    assert config["spec"]["backbone"]["last_heads"] is None


# Several teachers --------------------------------------------------------------------------------------------------


def test_several_teachers_layers_and_weights(place, tmp_path, monkeypatch):
    sources = [str(place / "two.safetensors"), str(place / "patch8"), str(place / "two.safetensors")]
    changes = {
        "teacher": sources,
        "teacher_layer": [2, "auto", 3],
        "teacher_weight": [1, 2, 0.5],
    }
    out = tmp_path / "run"
    result = pretrain(**settings(place, out, **changes))
    assert result.layers[0::2] == (2, 3)
    assert last_heads(load_backbone(str(out)).model) == 2  # the first teacher's
    names = ["kl/two-2", f"kl/patch8-{result.layers[1]}", "kl/two-3"]
    for record in log(out):
        parts = [record[name] for name in names]
        assert record["loss"] == pytest.approx((parts[0] + 2 * parts[1] + 0.5 * parts[2]) / 3.5, rel=1e-5)
    told = json.loads((out / "teacher.json").read_text())["teachers"]
    assert [(t["source"], t["layer"], t["weight"]) for t in told] == list(
        zip(sources, result.layers, [1.0, 2.0, 0.5], strict=True)
    )
    assert "nmi" in told[1] and "nmi" not in told[0]
    resolved = yaml.safe_load((out / "config.yaml").read_text())
    assert resolved["teacher_layer"] == list(result.layers)
    monkeypatch.setattr("unip.pretraining.layers.measure_nmi", None)  # continued: never measured again
    assert pretrain(**settings(place, out, **changes)).layers == result.layers
    assert PretrainConfig.from_yaml(out / "config.yaml").teacher_layer == result.layers


def test_features_of_several_teachers_without_class_tokens_and_with_other_patches(place, tmp_path):
    sources = [str(place / "eight"), str(place / "two.safetensors")]
    pretrain(**settings(place, tmp_path / "run", objective="features", teacher=sources, teacher_layer=(3, 1)))
    record = log(tmp_path / "run")[-1]
    assert record["loss"] == pytest.approx((record["cosine/eight-3"] + record["cosine/two-1"]) / 2, rel=1e-5)


def test_one_teacher_at_two_zooms_for_several_layers_of_a_student_that_sees_crops_distorted(place, tmp_path):
    teacher, out = str(place / "two.safetensors"), tmp_path / "run"
    changes = {"teacher": (teacher, teacher), "teacher_layer": 2, "teacher_zoom": (1, 2), "student_layers": (2, 3)}
    pretrain(**settings(place, out, objective="features", distort=0.5, **changes))
    record = log(out)[-1]
    assert record["loss"] == pytest.approx((record["cosine/two-2"] + record["cosine/two-2-x2"]) / 2, rel=1e-5)
    assert [t["zoom"] for t in json.loads((out / "teacher.json").read_text())["teachers"]] == [1, 2]


def test_layers_of_the_student_that_learn_attention(place, tmp_path):
    teachers, out = [str(place / "eight"), str(place / "two.safetensors")], tmp_path / "run"
    given = settings(place, out, teacher=teachers, teacher_layer=(2, 3), student_layers=(1, 2))
    with pytest.raises(UnipError, match="none of 1, 2 is the student's last layer"):
        pretrain(**given)
    assert not out.exists()
    depth = STUDENTS["unip_micro"].arguments["depth"]
    pretrain(**{**given, "student_layers": (depth, 2)})
    student = load_backbone(str(out))
    assert heads_of(student.model, depth) == heads_of(load_backbone(teachers[0]).model, 2)
    assert json.loads((out / "model" / "config.json").read_text())["info"]["student_layers"] == [depth, 2]


def test_the_same_layer_twice_is_refused(place, tmp_path):
    teacher = str(place / "one.safetensors")
    with pytest.raises(UnipError, match=r"layer 2 of .*one\.safetensors is distilled twice"):
        pretrain(**settings(place, tmp_path / "run", teacher=(teacher, teacher)))


def test_fewer_images_of_the_mix(place, tmp_path, capsys):
    changes = {"objective": "mae", "teacher": None, "max_images": 2, "dry_run": True}
    pretrain(**settings(place, tmp_path / "run", **changes))
    assert re.search(r"all\W+infrared\W+2\W", capsys.readouterr().out)


def test_settings_of_several_teachers():
    config = PretrainConfig.make(out="o", data=("d",), teacher=["a", "b"], teacher_layer=["auto", 3], teacher_weight=2)
    assert config.targets() == [("a", "auto", 2.0, 1), ("b", 3, 2.0, 1)]
    one = PretrainConfig.make(out="o", data=("d",), teacher="a", teacher_layer=3)
    assert one.targets() == [("a", 3, 1.0, 1)]
    for message, changes in {
        "teacher_zoom is for objective features": {"teacher": "a", "teacher_zoom": 2},
        "distort is for objectives with a teacher": {"objective": "mae", "distort": 0.5},
        "student_layers is for objectives with a teacher": {"objective": "mae", "student_layers": (1,)},
        "student_layers has 2 values for 1 teachers": {"teacher": "a", "student_layers": (1, 2)},
    }.items():
        with pytest.raises(UnipError, match=message):
            PretrainConfig.make(out="o", data=("d",), **changes)
    dumped = yaml.safe_load(one.to_yaml())
    assert (dumped["teacher"], dumped["teacher_layer"], dumped["teacher_weight"]) == ("a", 3, 1.0)


def test_the_command_line_takes_several_teachers(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(app, "config", ())
    values = {"data": [f"infrared={place / 'frames'}"], "teacher": "no/such/file", "teacher_layer": 1, "size": 32}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**values, "device": "cpu", "student": "unip_micro", "steps": 1, "batch_size": 2}))
    words = ["pretrain", "--config", str(recipe), "--out", str(tmp_path / "run"), "--dry-run"]
    words += ["--teacher", str(place / "one.safetensors"), str(place / "eight"), "--teacher-layer", "2", "auto"]
    words += ["--teacher-weight", "1", "0.5", "--objective", "nmi_had+values"]
    app.meta(words, exit_on_error=False, print_error=False, result_action="return_value")
    said = capsys.readouterr().out
    for part in ("eight, weight 0.5", "layer 2, as given", "chosen on 6 infrared images", "objective nmi_had+values"):
        assert part in said


def test_the_docs_list_every_setting():
    page = Path(__file__).parents[2] / "docs" / "pretrain.md"
    if not page.is_file():
        pytest.skip("docs/ is not beside the tests")
    rows = re.findall(r"^\| `--([a-z-]+)` \|.*\|.*\|$", page.read_text("utf-8").split("## Options")[1], re.M)
    own = [name for name in PretrainConfig.model_fields if name not in TrainingConfig.model_fields]
    assert [name.replace("-", "_") for name in rows] == ["batch_size", *own]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm:vit_large_patch16_224.mae@a/b.pth", "vit_large_patch16_224.mae"),
        ("hf:somebody/model", "model"),
        ("weights/dino.pth", "dino"),
        ("runs/distil.v2", "distil.v2"),
        ("runs/distil/model", "distil"),
    ],
)
def test_short_names(source, name):
    assert short_name(source) == name


# Starting from another model ---------------------------------------------------------------------------------------


def test_a_student_that_starts_from_another_model(place, tmp_path):
    start = str(place / "two.safetensors")
    values = settings(place, tmp_path / "run", init=start, teacher=str(place / "thirteen"), lr=1e-12, steps=1)
    pretrain(**values)
    before, after = load_backbone(start), load_backbone(str(tmp_path / "run"))
    assert after.spec == before.spec.model_copy(update={"last_heads": 13})
    assert not after.spec.fixed_positions
    ours, theirs = after.model.state_dict(), before.model.state_dict()
    for name in ours:
        if ours[name].shape == theirs[name].shape and not name.startswith("patch_embed"):
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-9)
    assert after.model.blocks[-1].attn.qkv.weight.shape == (3 * 130, 128)
    assert after.mean == pytest.approx((0.3801,) * 3)


def test_the_start_is_what_the_other_model_computes(place, tmp_path):
    start = str(place / "two.safetensors")
    pretrain(**settings(place, tmp_path / "run", init=start, objective="features", lr=1e-12, steps=1))
    before, after = load_backbone(start), load_backbone(str(tmp_path / "run"))
    grey = torch.rand(2, 1, 32, 32).expand(-1, 3, -1, -1)
    tokens = [each.model.eval().forward_features(normalised(grey, each)) for each in (before, after)]
    assert before.mean != after.mean
    torch.testing.assert_close(*tokens, rtol=1e-4, atol=1e-4)


def test_a_start_with_other_patches(place, tmp_path):
    start = str(place / "two.safetensors")
    before = load_backbone(start)
    patch = before.model.patch_embed.patch_size[0]
    pretrain(**settings(place, tmp_path / "run", init=start, lr=1e-12, steps=1, patch_size=2 * patch))
    after = load_backbone(str(tmp_path / "run"))
    assert after.spec.arguments["patch_size"] == 2 * patch
    assert after.model.patch_embed.proj.weight.shape[-2:] == (2 * patch, 2 * patch)
    torch.testing.assert_close(after.model.pos_embed, before.model.pos_embed, rtol=0, atol=1e-9)


def test_another_patch_size_needs_a_start(place, tmp_path):
    with pytest.raises(UnipError, match="patch_size resizes the patches of init"):
        pretrain(**settings(place, tmp_path / "run", patch_size=8))


def normalised(images, backbone):
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    return (images - mean) / deviation


@pytest.mark.parametrize("teacher", ["two.safetensors", "thirteen"])
def test_a_share_of_the_start_stays_in_the_student(teacher, place, tmp_path):
    values = {"init": str(place / "two.safetensors"), "teacher": str(place / teacher), "objective": "nmi_had+values"}
    for name, changes in {"start": {"lr": 1e-12, "steps": 1}, "all": {}, "mixed": {"init_share": 0.25}}.items():
        pretrain(**settings(place, tmp_path / name, **values, **changes))
    start, whole, mixed = (load_backbone(str(tmp_path / name)).model.state_dict() for name in ("start", "all", "mixed"))
    assert (whole["blocks.0.mlp.fc1.weight"] - start["blocks.0.mlp.fc1.weight"]).abs().max() > 1e-4
    for name, tensor in mixed.items():
        torch.testing.assert_close(tensor, 0.75 * whole[name] + 0.25 * start[name], rtol=1e-5, atol=1e-7)
    for share in (0.5, 0.25):  # of a run that is done: another share is of the same training, and none is taken twice
        again = pretrain(**settings(place, tmp_path / "mixed", **values, init_share=share))
        assert again.training.steps == 6
        found = load_backbone(str(tmp_path / "mixed")).model.state_dict()
        for name, tensor in found.items():
            wanted = mixed[name] if share == 0.25 else 0.5 * whole[name] + 0.5 * start[name]
            torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-7)
    assert json.loads((tmp_path / "mixed/model/config.json").read_text())["info"]["init_share"] == 0.25


def test_a_share_of_a_start_with_random_weights_is_the_same_when_continued(place, tmp_path):
    values = settings(place, tmp_path / "run", init="unip_micro", init_share=0.5, objective="mae", steps=1)
    pretrain(**values)
    before = load_backbone(str(tmp_path / "run")).model.state_dict()
    pretrain(**values)
    for name, tensor in load_backbone(str(tmp_path / "run")).model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_share_needs_a_start(place, tmp_path):
    with pytest.raises(UnipError, match="init_share needs init: random weights have nothing to keep"):
        pretrain(**settings(place, tmp_path / "run", init_share=0.5))


def test_learnt_positions_of_the_start_are_trained(place, tmp_path):
    start = str(place / "two.safetensors")
    pretrain(**settings(place, tmp_path / "run", init=start, objective="mae", steps=2, size=64))
    before, after = (load_backbone(source).model for source in (start, str(tmp_path / "run")))
    assert before.pos_embed.shape == after.pos_embed.shape  # of 32 pixels; resampled as the crops need it
    assert (before.pos_embed - after.pos_embed).abs().max() > 1e-5


def test_a_run_can_start_from_a_run(run, place, tmp_path):
    _, out = run
    result = pretrain(**settings(place, tmp_path / "run", init=str(out), teacher=str(place / "two.safetensors")))
    student = load_backbone(str(tmp_path / "run"))
    assert (last_heads(student.model), student.spec.fixed_positions) == (2, True)
    assert torch.equal(student.model.pos_embed, load_backbone(str(out)).model.pos_embed)
    assert result.training.steps == 6
