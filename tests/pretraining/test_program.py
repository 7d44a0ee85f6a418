"""`unip pretrain` from images to a model folder, stopped and continued, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from unip.data.manifests.manifest import read_manifest, write_manifest
from unip.data.manifests.rows import SCHEMA
from unip.data.manifests.scan import open_images
from unip.data.verbs import pack
from unip.errors import UnipError
from unip.pretraining.config import PretrainConfig
from unip.pretraining.verbs import pretrain
from unip.runtime.seeds import seed_for
from unip.vit.architecture import BackboneSpec
from unip.vit.backbone import load_backbone
from unip.vit.spec import build_backbone, last_heads
from unip.vit.student import STUDENTS

HEADS = STUDENTS["unip_micro"].arguments["num_heads"]


def save_teacher(file: Path, heads: int) -> None:
    """Save a random ViT whose layers attend more and more alike, as a trained one's do after the peak."""
    torch.manual_seed(0)
    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 64 * heads, "depth": 4, "num_heads": heads}
    model = build_backbone(BackboneSpec(arguments=arguments))
    for number, block in enumerate(model.blocks):
        torch.nn.init.normal_(block.attn.qkv.weight, std=(0.02, 0.3, 0.15, 0.06)[number])
    torch.nn.init.normal_(model.pos_embed, std=1)
    save_file(model.state_dict(), file)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Six thermal and six colour frames, and two teachers: of one head, and of as many as the student has."""
    root = tmp_path_factory.mktemp("pretrain")
    rng = np.random.default_rng(0)
    for kind in ("thermal", "rgb"):
        folder = root / "mix" / "scene" / kind
        folder.mkdir(parents=True)
        for number in range(6):
            frame = rng.integers(90, 130, (40, 56), dtype=np.uint8)
            top, left = rng.integers(0, 24, 2)
            frame[top : top + 14, left : left + 14] = 240
            if kind == "rgb":
                frame = np.stack([frame, 255 - frame, frame // 2], axis=-1)
            Image.fromarray(frame).save(folder / f"{number}.png")
    save_teacher(root / "teacher.safetensors", 1)
    save_teacher(root / "equal_heads.safetensors", HEADS)
    return root


def settings(place: Path, out: Path, **changes):
    values = {
        "out": out,
        "teacher": str(place / "teacher.safetensors"),
        "data": (str(place / "mix"),),
        "student": "unip_micro",
        "size": 32,
        "steps": 4,
        "batch_size": 4,
        "lr": 1e-3,
        "log_every": 1,
        "workers": 0,
        "device": "cpu",
        "picture_every": 0,
        "tensorboard": False,
    }
    return {**values, **changes}


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same_model(run: Path, other: Path) -> bool:
    """Compare all bytes of two model folders."""
    ours, theirs = ({path.name: data for path, data in files(r / "model").items()} for r in (run, other))
    return len(ours) == 3 and ours == theirs


@pytest.fixture(scope="module")
def done(place, tmp_path_factory):
    """A run with all that is left at auto, pictures and TensorBoard."""
    run = tmp_path_factory.mktemp("runs") / "run"
    result = pretrain(
        **settings(place, run, steps=60, batch_size=8, lr=2e-3, checkpoint_every=20, picture_every=30, tensorboard=True)
    )
    return run, result


def test_run_folder(done):
    run, result = done
    assert sorted(path.name for path in run.iterdir() if path.name != "tensorboard") == [
        ".unip",
        "checkpoints",
        "config.yaml",
        "environment.json",
        "log.jsonl",
        "manifest.parquet",
        "model",
        "pictures",
        "teacher.json",
    ]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000040", "step-00000060"]
    assert sorted(path.name for path in (run / "model").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert read_manifest(run / "manifest.parquet").num_rows == 12
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 61))
    rates = {"samples_per_second", "feed_samples_per_second", "feed_wait"}
    assert records[-1].keys() == {"step", "loss", "lr", *rates}
    assert all(0 <= record["feed_wait"] < 1 for record in records)
    assert "torch" in json.loads((run / "environment.json").read_text())["packages"]
    assert result.model == run / "model"
    assert result.training.steps == 60
    assert result.loss == records[-1]["loss"]


def test_the_loss_falls(done):
    found = losses(done[0])
    assert np.mean(found[-10:]) < 0.7 * np.mean(found[:10])


def test_pictures(done):
    run, _ = done
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["step-00000030.png", "step-00000060.png"]
    with Image.open(run / "pictures" / "step-00000060.png") as picture:
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 10
    pytest.importorskip("tensorboard")
    assert list((run / "tensorboard").glob("events*"))


def test_the_automatic_layer_is_recorded_with_its_reason(done):
    run, result = done
    (measured,) = json.loads((run / "teacher.json").read_text())["teachers"]
    assert (measured["layer"], result.layers) == (result.layer, (result.layer,))
    assert measured["images"] == 6  # the infrared ones
    assert len(measured["nmi"]) == 4
    after_peak = range(measured["peak"] + 1, 5)
    assert result.layer == min(after_peak, key=lambda layer: abs(measured["nmi"][layer - 1] - 0.09))
    assert measured["reason"] in "\n".join(measured["lines"])
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved["teacher_layer"] == result.layer
    assert resolved["warmup"] == 3  # a twentieth of 60


def test_the_student_loads_with_its_head_count_and_says_how_it_was_made(done, place):
    run, result = done
    for source in (run, run / "model", run / "model" / "model.safetensors"):
        student = load_backbone(str(source))
        assert last_heads(student.model) == 1
        assert student.mean == pytest.approx((0.3801,) * 3)
        assert student.std == pytest.approx((0.1871,) * 3)
        assert student.input_size == 32
        assert student.report.matched == len(student.model.state_dict())
    info = json.loads((run / "model" / "config.json").read_text())["info"]
    (told,) = info["teachers"]
    assert (told["source"], told["layer"], told["weight"]) == (str(place / "teacher.safetensors"), result.layer, 1.0)
    assert len(told["sha256"]) == 64
    assert (info["objective"], info["init"], info["steps"]) == ("nmi_had", "random", 60)
    assert f"- teachers: source {place / 'teacher.safetensors'}" in (run / "model" / "README.md").read_text()
    with pytest.raises(RuntimeError, match=r"attn\.num_heads"):  # timm alone would cut the last block's heads wrongly
        timm.create_model(
            "vit_tiny_patch16_224",
            num_classes=0,
            **{k: v for k, v in STUDENTS["unip_micro"].arguments.items() if k != "img_size"},
            checkpoint_path=str(run / "model" / "model.safetensors"),
        )


def test_with_equal_heads_plain_timm_loads_the_student(place, tmp_path):
    teacher = str(place / "equal_heads.safetensors")
    pretrain(**settings(place, tmp_path / "run", teacher=teacher, teacher_layer=3, steps=2))
    arguments = STUDENTS["unip_micro"].arguments
    model = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=0,
        **arguments,
        checkpoint_path=str(tmp_path / "run" / "model" / "model.safetensors"),
    ).eval()
    ours = load_backbone(str(tmp_path / "run")).model.eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_features(image), ours.forward_features(image))
    (told,) = json.loads((tmp_path / "run" / "teacher.json").read_text())["teachers"]
    assert told["lines"] == ["layer 3, as given"]


def test_what_is_not_trained_stays_as_it_was_made(done):
    """The positions are fixed; the rest of the last block and the final norm get no gradient and no weight decay."""
    spec = STUDENTS["unip_micro"].model_copy(update={"last_heads": 1})
    torch.manual_seed(0)
    begun = build_backbone(spec, drop_path=0.1).state_dict()
    ended = load_backbone(str(done[0])).model.state_dict()
    depth = spec.arguments["depth"]
    still = {name for name in begun if torch.equal(begun[name], ended[name])}
    beyond = ("attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    frozen = {f"blocks.{depth - 1}.{part}.{kind}" for part in beyond for kind in ("weight", "bias")}
    assert still == {"pos_embed", "norm.weight", "norm.bias", *frozen}


def test_a_finished_run_called_again_measures_and_trains_nothing(done, place, monkeypatch):
    run, result = done

    def never(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("unip.pretraining.layers.measure_nmi", never)
    before = files(run / "checkpoints") | {run: (run / "teacher.json").read_bytes()}
    values = settings(place, run, steps=60, batch_size=8, lr=2e-3, checkpoint_every=20, picture_every=30)
    assert pretrain(**values, dry_run=True) is None
    again = pretrain(**values)
    assert (again.layer, again.loss, again.training.steps) == (result.layer, result.loss, 60)
    assert files(run / "checkpoints") | {run: (run / "teacher.json").read_bytes()} == before


def test_a_teacher_record_that_was_changed_is_named(place, tmp_path):
    values = settings(place, tmp_path / "run", steps=1)
    pretrain(**values)
    file = tmp_path / "run" / "teacher.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({"teachers": [{**record["teachers"][0], "layer": "first"}]}))
    with pytest.raises(
        UnipError, match=r"teacher\.json: teachers\[0\]\.layer: input should be a valid integer"
    ) as caught:
        pretrain(**values)
    assert "measured again" in caught.value.fix
    file.unlink()
    pretrain(**values)
    assert json.loads(file.read_text()) == record


def test_the_recorded_config_repeats_the_run(done, tmp_path):
    run, _ = done
    config = PretrainConfig.from_yaml(run / "config.yaml", out=tmp_path / "again", steps=60)
    pretrain(config.model_copy(update={"picture_every": 0, "tensorboard": False}))
    assert losses(tmp_path / "again") == losses(run)
    assert same_model(tmp_path / "again", run)


def test_a_dry_run_writes_nothing(place, tmp_path, capsys):
    before = files(place)
    assert pretrain(**settings(place, tmp_path / "run", dry_run=True)) is None
    assert list(tmp_path.iterdir()) == []
    assert files(place) == before
    said = capsys.readouterr().out
    for part in ("chosen on 6 infrared images: layer", "student unip_micro", "4 steps of 4", "dry run: would train in"):
        assert part in said


def test_a_run_after_its_dry_run_measures_nothing(place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert pretrain(**settings(place, tmp_path / "run", dry_run=True)) is None
    monkeypatch.delattr("unip.pretraining.layers.measure_nmi")
    assert pretrain(**settings(place, tmp_path / "run", steps=1)).layer


def test_epochs_instead_of_steps_and_the_learning_rate_of_a_batch(place, tmp_path, capsys):
    values = settings(place, tmp_path, epochs=3, lr="auto", batch_size=8, dry_run=True)
    pretrain(**{key: value for key, value in values.items() if key != "steps"})
    said = capsys.readouterr().out
    assert "5 steps of 8 crops of" in said and "lr 0.0005, warm-up 1" in said  # 3 x 12 / 8


def test_a_manifest_gives_the_same_run_as_its_folder(place, tmp_path):
    write_manifest(open_images([str(place / "mix")]), tmp_path / "mix.parquet")
    pretrain(**settings(place, tmp_path / "a", steps=2))
    pretrain(**settings(place, tmp_path / "b", steps=2, data=(str(tmp_path / "mix.parquet"),)))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_a_packed_set_gives_the_same_run_as_its_files(place, tmp_path):
    write_manifest(open_images([str(place / "mix")]), tmp_path / "mix.parquet")
    pack(manifest=tmp_path / "mix.parquet", out=tmp_path / "packed", seed=3, shard_mb=0.005)
    order = np.random.default_rng(seed_for(3, 12)).permutation(12)
    write_manifest(read_manifest(tmp_path / "mix.parquet").take(order), tmp_path / "shuffled.parquet")
    sources = {"a": "shuffled.parquet", "b": "packed", "c": "packed/packed.json"}
    for name, source in sources.items():
        pretrain(**settings(place, tmp_path / name, steps=2, data=(str(tmp_path / source),), cache="none"))
    assert losses(tmp_path / "a") == losses(tmp_path / "b") == losses(tmp_path / "c")
    kept = read_manifest(tmp_path / "b/manifest.parquet")  # a run can be started from what another one kept
    pretrain(**settings(place, tmp_path / "d", steps=2, data=(str(tmp_path / "b/manifest.parquet"),)))
    assert kept.num_rows == 12 and losses(tmp_path / "d") == losses(tmp_path / "a")


def test_activation_checkpointing_gives_the_same_run_and_may_be_turned_on_in_between(place, tmp_path):
    values = {"drop_path": 0.5, "steps": 4, "checkpoint_every": 2}
    pretrain(**settings(place, tmp_path / "a", **values))
    pretrain(**settings(place, tmp_path / "b", **values, checkpoint_activations=True))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    shutil.rmtree(tmp_path / "a/checkpoints/step-00000004")
    pretrain(**settings(place, tmp_path / "a", **values, checkpoint_activations=True))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert same_model(tmp_path / "a", tmp_path / "b")


def test_the_model_folder_holds_the_average(place, tmp_path):
    pretrain(**settings(place, tmp_path / "plain"))
    pretrain(**settings(place, tmp_path / "run", ema=0.9))
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")
    found = load_backbone(str(tmp_path / "run")).model.state_dict()
    last = tmp_path / "run/checkpoints/step-00000004"
    raw, average = (load_file(last / f"{name}.safetensors") for name in ("model", "ema"))
    for name, tensor in found.items():
        assert torch.equal(tensor, average.get(name, raw[name])), name
    assert not torch.equal(average["blocks.0.attn.qkv.weight"], raw["blocks.0.attn.qkv.weight"])
    pretrain(**settings(place, tmp_path / "run", ema=0.9))  # a finished run called again saves the same
    assert all(
        torch.equal(t, found[name]) for name, t in load_backbone(str(tmp_path / "run")).model.state_dict().items()
    )


def test_one_image_and_a_batch_larger_than_the_mix(place, tmp_path):
    image = place / "mix" / "scene" / "thermal" / "0.png"
    result = pretrain(**settings(place, tmp_path / "run", data=(f"infrared={image}",), batch_size=5, workers=2))
    assert result.training.steps == 4
    assert np.isfinite(losses(tmp_path / "run")).all()


# Stopping and continuing -----------------------------------------------------------------------------------------

STEPS = 90


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    pretrain(**settings(place, run, steps=STEPS, checkpoint_every=5))
    return run


# The command line in processes of its own; forked after the imports, which take longer than the runs.
LAUNCH = """
import os, sys
import unip.pretraining.program  # all that both need, once
from unip.cli import main

for recipe in sys.argv[1:]:
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr = open(recipe + ".said", "w", buffering=1)
        sys.argv = ["unip", "pretrain", "--config", recipe]
        sys.exit(main())
    print(child, flush=True)
for _ in sys.argv[1:]:
    child, status = os.wait()
    print(child, os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def stopped(place, tmp_path_factory) -> dict[signal.Signals, tuple[Path, int, str]]:
    """Run the command line twice, stop one with SIGTERM and the other with SIGKILL in mid-training."""
    numbers = (signal.SIGTERM, signal.SIGKILL)
    recipes = []
    for _ in numbers:
        recipe = tmp_path_factory.mktemp("cut") / "recipe.yaml"
        config = PretrainConfig.make(**settings(place, recipe.parent / "run", steps=STEPS, checkpoint_every=5))
        recipe.write_text(config.to_yaml())
        recipes.append(str(recipe))
    threads = str(torch.get_num_threads())  # sums over other numbers of threads differ in the last bit
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-c", LAUNCH, *recipes]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as launcher:
        children = [int(launcher.stdout.readline()) for _ in numbers]
        for number, recipe, child in zip(numbers, recipes, children, strict=True):
            log = Path(recipe).parent / "run" / "log.jsonl"
            deadline = time.monotonic() + 120
            while not log.exists() or log.read_text().count("\n") < 7:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.kill(child, number)
        codes = dict(map(int, line.split()) for line in launcher.stdout)
    return {
        number: (Path(recipe).parent / "run", codes[child], Path(f"{recipe}.said").read_text())
        for number, recipe, child in zip(numbers, recipes, children, strict=True)
    }


def test_sigterm_and_continued_is_bitwise_the_same(place, whole, stopped):
    run, code, message = stopped[signal.SIGTERM]
    assert code == 130
    assert "Traceback" not in message
    assert f"stopped at step {len(losses(run))} of {STEPS}; all of it is saved in {run}" in message
    assert 7 <= len(losses(run)) < STEPS
    assert (run / "checkpoints" / f"step-{len(losses(run)):08d}").is_dir()
    assert not (run / "model").exists()
    pretrain(**settings(place, run, steps=STEPS, checkpoint_every=5))
    assert losses(run) == losses(whole)
    assert same_model(run, whole)


def test_kill_9_and_continued_gives_the_same_losses(place, whole, stopped):
    run, code, _ = stopped[signal.SIGKILL]
    assert code == -signal.SIGKILL
    assert list((run / "checkpoints").glob("step-*"))
    assert not (run / "model").exists()
    pretrain(**settings(place, run, steps=STEPS, checkpoint_every=5))
    assert losses(run) == losses(whole)
    assert same_model(run, whole)


# What is refused --------------------------------------------------------------------------------------------------


def test_images_that_were_added_or_removed_are_named(place, tmp_path, capsys):
    mix, out = tmp_path / "mix", tmp_path / "run"
    shutil.copytree(place / "mix", mix)
    values = settings(place, out, data=(str(mix),), steps=2, checkpoint_every=1)
    pretrain(**values)
    shutil.rmtree(out / "checkpoints/step-00000002")
    pretrain(**values)
    assert "images are new" not in capsys.readouterr().out
    shutil.rmtree(out / "checkpoints/step-00000002")
    os.rename(mix / "scene/rgb/2.png", mix / "scene/rgb/20.png")
    (mix / "scene/thermal/4.png").unlink()
    pretrain(**values)
    words = f"1 images are new and 2 are gone since {out}/manifest.parquet was written, so that other crops are drawn "
    names = (f"{mix}/scene/{name}.png" for name in ("rgb/20", "rgb/2", "thermal/4"))
    assert "".join((words + "from now on:" + "".join(names)).split()) in "".join(capsys.readouterr().out.split())


def test_continuing_with_other_settings_is_refused(done, place):
    run, _ = done
    before = files(run)
    with pytest.raises(UnipError, match=r"holds a run with other settings \(.*lr: 0\.002 there, 0\.001 now"):
        pretrain(**settings(place, run, steps=60, batch_size=8))
    assert files(run) == before


def refused(place, tmp_path, match, **changes) -> UnipError:
    with pytest.raises(UnipError, match=match) as caught:
        pretrain(**settings(place, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
    return caught.value


@pytest.mark.parametrize("layer", [0, -1, 5])
def test_a_layer_out_of_range(place, tmp_path, layer):
    refused(place, tmp_path, f"layer {layer} is out of range: this model has layers 1 to 4", teacher_layer=layer)


def test_auto_without_infrared_images(place, tmp_path):
    rgb = (str(place / "mix" / "scene" / "rgb"),)
    error = refused(place, tmp_path, "teacher_layer auto needs infrared images, and the data has none", data=rgb)
    assert "Give the layer as a number" in error.fix
    result = pretrain(**settings(place, tmp_path / "run", data=rgb, teacher_layer=2, steps=1, picture_every=1))
    assert result.layer == 2
    assert "warmup: 0\n" in (tmp_path / "run" / "config.yaml").read_text()  # of one step
    assert (tmp_path / "run" / "pictures" / "step-00000001.png").exists()  # of colour frames, there are no others


def test_an_empty_manifest(place, tmp_path):
    pq.write_table(SCHEMA.empty_table(), tmp_path / "empty.parquet")
    refused(place, tmp_path, r"the manifest .*empty\.parquet is empty", data=(str(tmp_path / "empty.parquet"),))


def test_a_teacher_from_a_wrong_file(place, tmp_path):
    picture = place / "mix" / "scene" / "thermal" / "0.png"
    refused(place, tmp_path, r"0\.png is truncated or not a checkpoint", teacher=str(picture))
    save_file({"layer1.weight": torch.zeros(3)}, tmp_path / "resnet.safetensors")
    refused(place, tmp_path, r"resnet\.safetensors holds no ViT", teacher=str(tmp_path / "resnet.safetensors"))
    of_width_64 = f"timm:vit_tiny_patch16_224@{place / 'teacher.safetensors'}"
    refused(place, tmp_path, r"teacher\.safetensors is 64 wide, but the model is 192 wide", teacher=of_width_64)


def test_grids_that_cannot_match(place, tmp_path):
    error = refused(place, tmp_path, r"patch grids cannot match: crops of 40 px", size=40, teacher_layer=2)
    assert error.fix == "Choose --size as a multiple of 16."


def test_a_batch_that_cannot_be_shared_is_found_before_anything_is_written(place, tmp_path):
    refused(place, tmp_path, "batch_size 4 cannot be shared by 1 devices x 3 passes", accumulate=3)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scale": (0.9, 0.1)}, "scale must be two increasing numbers above 0 and at most 1"),
        ({"scale": (0.5, 1.5)}, "scale must be two increasing numbers above 0 and at most 1"),
        ({"lr": float("nan")}, "lr: .*finite number"),
        ({"lr": -1.0}, "lr: .*greater than 0"),
        ({"warmup": -1}, "warmup: .*greater than or equal to 0"),
        ({"warmup": 4}, "a warm-up of 4 steps must be shorter than the training of 4"),
        ({"warmup": 7, "steps": 0, "epochs": 2}, "a warm-up of 7 steps must be shorter than the training of 6"),
        ({"workers": -1}, "workers: .*greater than or equal to 0"),
        ({"teacher": None}, "objective nmi_had needs a teacher"),
        ({"teacher_layer": (2, 3)}, "teacher_layer has 2 values for 1 teachers"),
        ({"teacher_weight": 0}, "teacher_weight: .*greater than 0"),
        ({"decoder_width": 48}, "decoder_width: .*multiple of 32"),
        ({"student": "unip_tny"}, "unknown student 'unip_tny'\nDid you mean 'unip_tiny'"),
    ],
)
def test_settings_that_make_no_sense(place, tmp_path, changes, match):
    refused(place, tmp_path, match, **changes)


def test_a_loss_that_explodes_stops_with_advice(place, tmp_path):
    with pytest.raises(UnipError, match="the loss became nan") as caught:
        pretrain(**settings(place, tmp_path / "run", lr=1e30))
    assert "Lower --lr" in caught.value.fix
    assert not (tmp_path / "run" / "model").exists()
    result = pretrain(**settings(place, tmp_path / "run", lr=1e-3))  # nothing was saved: the same folder serves again
    assert np.isfinite(result.loss)
