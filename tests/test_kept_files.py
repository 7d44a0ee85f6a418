"""Every verb that writes: what it did not write, or what was changed since, stays; links are not followed."""

from __future__ import annotations

import json
import os
import shutil
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

import unip
from tests.analysis.undrawn import leave_undrawn
from tests.deployment.export.cached import cache_graphs
from tests.forked import run_unip
from unip.data.splitting import split
from unip.data.statistics import stats
from unip.data.synthetic.files import write_scenes
from unip.data.verbs import build, check, pack
from unip.errors import UnipError
from unip.features.verbs import dedup
from unip.outputs import OutputFolder, output_folder
from unip.segmentation.config import FinetuneConfig
from unip.training.run_folder import run_folder
from unip.verbs import DATA_VERBS, VERBS
from unip.vit.architecture import BackboneSpec
from unip.vit.export import save_backbone
from unip.vit.spec import build_backbone
from unip.written import HIDDEN

VIT = BackboneSpec(arguments={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2})
TRAINING = {"steps": 2, "batch_size": 2, "checkpoint_every": 1, "device": "cpu", "workers": 0, "compile": False}
NOT_HERE = {"bench", "demo", "thermal_sdk"}  # these have such tests of their own
EXPORTS = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))  # the extra `onnx` is installed
WRITES_NOTHING = {"models"}


FUNCTIONS = {
    "doctor": unip.doctor,
    "analyze": unip.analyze,
    "pretrain": unip.pretrain,
    "finetune": unip.finetune,
    "evaluate": unip.evaluate,
    "predict": unip.predict,
    "build": build,
    "check": check,
    "dedup": dedup,
    "pack": pack,
    "stats": stats,
    "split": split,
    "scenes": write_scenes,
} | ({"export": unip.export} if EXPORTS else {})


@pytest.fixture(scope="module")
def things(undrawn, tmp_path_factory):
    """A backbone, labelled and unlabelled frames, and a fine-tuned run."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("things")
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for number in range(4):
            image, mask = rng.integers(100, 140, (32, 40), dtype=np.uint8), np.zeros((32, 40), np.uint8)
            top, left = rng.integers(0, 20), rng.integers(0, 28)
            image[top : top + 12, left : left + 12], mask[top : top + 12, left : left + 12] = 240, 1
            for kind, picture in (("images", image), ("masks", mask)):
                (root / "data" / part / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(root / "data" / part / kind / f"{part}{number}.png")
    (root / "data/classes.json").write_text(json.dumps({"names": ["background", "hot"]}))
    save_backbone(build_backbone(VIT), VIT, root / "vit", mean=[0.4] * 3, std=[0.2] * 3, input_size=32, info={})
    frames = root / "data/train/images"
    common = {"model": str(root / "vit"), "data": root / "data", "decoder": "linear", "mode": "full", "crop": 32}
    finetune = {**TRAINING, **common, "base": (128, 32), "val": "test", "recipe": "paper"}
    unip.finetune(**finetune, out=root / "run")
    manifest = build(sources=(f"infrared={frames}",), out=root / "built").manifest
    return {
        "doctor": {"folder": frames},
        "analyze": {"models": (str(root / "vit"),), "images": (str(frames),), "explorer": 1, "device": "cpu"},
        "pretrain": {
            **TRAINING,
            "teacher": str(root / "vit"),
            "teacher_layer": 2,
            "data": (f"infrared={frames}",),
            "student": "unip_micro",
            "size": 32,
            "picture_every": 1,
        },
        "finetune": finetune,
        "evaluate": {"model": root / "run", "data": root / "data", "corruption": ("dead_pixels",), "device": "cpu"},
        "export": {"model": root / "run"},
        "predict": {"model": root / "run", "images": (frames,), "probabilities": True, "device": "cpu"},
        "build": {"sources": (f"infrared={frames}",)},
        "check": {"sources": (f"infrared={frames}",)},
        "dedup": {"sources": (f"infrared={frames}",)},
        "pack": {"manifest": manifest},
        "split": {"data": root / "data"},
        "scenes": {"count": 3, "size": (64, 64), "splits": (1, 1, 1), "workers": 1},
        "stats": {"data": root / "data"},
    }


@pytest.fixture(scope="module")
def undrawn():
    with pytest.MonkeyPatch.context() as patch:
        leave_undrawn(patch)
        cache_graphs(patch)
        yield


@pytest.fixture(scope="module")
def done(things, tmp_path_factory):
    """Return a verb's finished output folder, made once."""
    made = {}

    def folder(verb):
        if verb not in made:
            made[verb] = tmp_path_factory.mktemp(verb) / "out"
            run(verb, things, made[verb])
        return made[verb]

    return folder


def run(verb, things, out, **more):
    torch.set_num_threads(1)
    return FUNCTIONS[verb](**things[verb], out=out / "stats.json" if verb == "stats" else out, **more)


def contents(folder):
    """Return what a user sees of a folder: bytes of files, targets of links."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if HIDDEN not in path.parts and (path.is_symlink() or path.is_file())
    }


def test_every_verb_that_writes_has_overwrite():
    every = {name: verb for name, verb in (VERBS | DATA_VERBS).items() if name not in WRITES_NOTHING}
    for name, verb in every.items():
        assert "overwrite" in verb.load_settings().model_fields, name
    assert set(every) - NOT_HERE == set(FUNCTIONS) | {"export"}


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_all_that_a_verb_writes_is_on_its_list(verb, done):
    out = done(verb)
    lists = {hidden.parent: OutputFolder(hidden.parent) for hidden in out.rglob(HIDDEN)}
    for name in contents(out):
        inner = next(folder for folder in (out / name).parents if folder in lists)
        assert lists[inner].state((out / name).relative_to(inner).as_posix()) == "ours", name


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("verb", FUNCTIONS)
def test_foreign_files_of_every_name_that_it_writes(verb, overwrite, done, things, tmp_path):
    out = tmp_path / "out"
    for name in contents(done(verb)):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(UnipError):
        run(verb, things, out, overwrite=overwrite)
    assert contents(out) == before


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_one_foreign_file_is_enough_to_stop(verb, done, things, tmp_path):
    """Each of the files in turn, alone in the folder; nothing that only lies beside it is ever lost."""
    names = sorted(contents(done(verb)))
    for number, name in enumerate(names[:: max(1, len(names) // 6)]):
        out = tmp_path / str(number)
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")
        for overwrite in (False, True):
            try:
                run(verb, things, out, overwrite=overwrite)
            except UnipError:
                pass
            assert (out / name).read_text() == "mine", (name, overwrite)


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_an_edited_file_of_ours(verb, done, things, tmp_path):
    shutil.copytree(done(verb), tmp_path / "out", symlinks=True)
    out = tmp_path / "out"
    names = [n for n in OutputFolder(out).known if not (out / n).is_symlink() and "checkpoints" not in n]
    name = next((n for n in names if n.endswith((".json", ".yaml", ".html"))), names[0])
    (out / name).write_bytes((out / name).read_bytes() + b"\n# mine\n")
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(UnipError) as caught:
        run(verb, things, out)
    assert contents(out) == before
    assert "--overwrite" in caught.value.fix or verb in ("build", "dedup")
    run(verb, things, out, overwrite=True)
    after = contents(out)
    assert after.pop("notes.txt") == b"mine"
    assert b"# mine" not in after[name]
    assert after.keys() == {key for key in before if key != "notes.txt"} or verb in ("pretrain", "finetune")


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_links_to_elsewhere_are_not_followed(verb, done, things, tmp_path):
    """Files and folders of ours that someone moved away, and linked."""
    for number, top in enumerate(sorted({name.split("/")[0] for name in contents(done(verb))})):
        out, elsewhere = tmp_path / str(number), tmp_path / f"{number}-moved"
        shutil.copytree(done(verb), out, symlinks=True)
        elsewhere.mkdir()
        shutil.move(out / top, elsewhere / top)
        (out / top).symlink_to(elsewhere / top)
        for hidden in list((elsewhere / top).rglob(HIDDEN)):
            shutil.rmtree(hidden)
        before = contents(elsewhere)
        for overwrite in (False, True):
            try:
                run(verb, things, out, overwrite=overwrite)
            except UnipError:
                assert (out / top).is_symlink()
            now = contents(elsewhere)
            assert {name: now.get(name) for name in before} == before, (top, overwrite)


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_the_same_call_again(verb, done, things, tmp_path):
    """It is done, or does it again; or, where that was so, asks for --overwrite."""
    shutil.copytree(done(verb), tmp_path / "out", symlinks=True)
    before = contents(tmp_path / "out")
    if verb in ("build", "dedup", "split"):
        with pytest.raises(UnipError, match="exists"):
            run(verb, things, tmp_path / "out")
        run(verb, things, tmp_path / "out", overwrite=True)
    else:
        run(verb, things, tmp_path / "out")
    after = contents(tmp_path / "out")
    assert before.keys() <= after.keys()  # training adds a log of TensorBoard


def test_prediction_does_not_touch_the_truth(things, tmp_path):
    """Into the folder of a split, directly and through the links that splitting makes."""
    split(**things["split"], out=tmp_path / "split")
    settings = {**things["predict"], "images": (tmp_path / "split/test/images",)}
    before, truth = contents(tmp_path / "split"), contents(things["split"]["data"])
    for out in (tmp_path / "split/test", tmp_path / "split", things["split"]["data"] / "train"):
        for overwrite in (False, True):
            try:
                unip.predict(**settings, out=out, overwrite=overwrite)
            except UnipError as error:
                assert "masks/" in error.what or "lie in the output folder" in error.what
            now = contents(tmp_path / "split")
            assert {name: now[name] for name in before} == before
    now = contents(things["split"]["data"])
    assert {name: now[name] for name in truth} == truth


def test_a_recipe_in_the_output_folder_stays(things, tmp_path):
    (tmp_path / "mix").mkdir()
    text = f"sources:\n  - folder: {things['predict']['images'][0]}\n    modality: infrared\n"
    (tmp_path / "mix/recipe.yaml").write_text(text)
    for overwrite in (False, True):
        with pytest.raises(UnipError, match=r"recipe\.yaml \(not written by unip\)"):
            build(sources=(str(tmp_path / "mix/recipe.yaml"),), out=tmp_path / "mix", overwrite=overwrite)
    assert contents(tmp_path / "mix") == {"recipe.yaml": text.encode()}


TRAINED = {"finetune": {"lr": 3e-4}, "pretrain": {"lr": 3e-4}}


@pytest.mark.parametrize("verb", TRAINED)
def test_a_finished_run_without_its_checkpoints(verb, done, things, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(done(verb), out)
    shutil.rmtree(out / "checkpoints")
    before = contents(out)
    other = {**things, verb: {**things[verb], **TRAINED[verb]}}
    with pytest.raises(UnipError, match="a finished run without checkpoints, of other settings") as caught:
        run(verb, other, out)
    assert "--overwrite" in caught.value.fix and contents(out) == before
    result = run(verb, things, out)  # the same: it is done
    assert result.training.steps == 2 and result.training.last["step"] == 2
    after = contents(out)
    kept = [name for name in before if name.startswith("model/") or name == "log.jsonl"]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert "is finished" in capsys.readouterr().out
    run(verb, other, out, overwrite=True)
    assert contents(out)["model/model.safetensors"] != before["model/model.safetensors"]


@pytest.mark.parametrize("log", [None, "", "{", "[1]\n{\n", '{"step": "x"}', "\udcff"])
@pytest.mark.parametrize("verb", TRAINED)
def test_a_finished_run_without_checkpoints_and_a_whole_log(verb, log, done, things, tmp_path):
    """Nothing but the model says that it is finished; it is neither lost nor trained again."""
    out = tmp_path / "out"
    shutil.copytree(done(verb), out)
    shutil.rmtree(out / "checkpoints")
    (out / "log.jsonl").unlink()
    if log is not None:
        (out / "log.jsonl").write_text(log, errors="surrogateescape")
    before = contents(out)
    with pytest.raises(UnipError, match="of other settings"):
        run(verb, {**things, verb: {**things[verb], **TRAINED[verb]}}, out)
    assert contents(out) == before
    if log == "\udcff":
        with pytest.raises(UnipError, match="Delete it"):
            run(verb, things, out)
    else:
        assert run(verb, things, out).training.steps == 2
    after = contents(out)
    assert all(after[name] == before[name] for name in before if name.startswith("model/") or name == "log.jsonl")


@pytest.mark.parametrize("verb", TRAINED)
def test_a_foreign_folder_with_any_config_is_no_run(verb, things, tmp_path):
    out = tmp_path / "out"
    for name in ("config.yaml", "model/weights.bin", "evaluation/mine.txt", "pictures/a.png", "log.jsonl", "mine.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("steps: 3\n")
    before = contents(out)
    with pytest.raises(UnipError, match=r"holds a config\.yaml, but no list of the files that unip wrote"):
        run(verb, things, out)
    with pytest.raises(UnipError, match=r"config\.yaml \(not written by unip\)"):
        run(verb, things, out, overwrite=True)
    assert contents(out) == before


@pytest.mark.parametrize("verb", TRAINED)
def test_starting_anew_keeps_what_is_not_ours_and_clears_evaluations(verb, done, things, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(done(verb), out)
    for name in ("notes.txt", "model/notes.txt", "evaluation/notes.txt"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    if verb == "finetune":
        unip.evaluate(model=out, data=things["finetune"]["data"], split="train", device="cpu")
        assert (out / "evaluation/train/metrics.json").exists()
    run(verb, {**things, verb: {**things[verb], **TRAINED[verb]}}, out, overwrite=True)
    after = contents(out)
    assert {after[name] for name in ("notes.txt", "model/notes.txt", "evaluation/notes.txt")} == {b"mine"}
    assert "evaluation/train/metrics.json" not in after
    assert "notes.txt" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [verb for verb in FUNCTIONS if verb != "stats"])  # it writes one file beside others
def test_a_folder_in_use_is_refused_and_the_process_named(verb, things, tmp_path):
    with output_folder(tmp_path / "out"):
        with pytest.raises(UnipError, match=f"out is in use by process {os.getpid()} on "):
            run(verb, things, tmp_path / "out")
        assert contents(tmp_path / "out") == {}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "below a file", "link to nowhere", "hidden file"])
@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_dry_run_refuses_a_place_that_cannot_be_written(verb, kind, things, tmp_path):
    out = tmp_path / "out"
    if kind == "link to nowhere":
        out.symlink_to("nowhere")
    elif kind == "hidden file":
        out.mkdir()
        (out / HIDDEN).touch()
    else:
        out.touch()
    for dry_run in (True, False):
        with pytest.raises(UnipError):
            run(verb, things, out / "below" if kind == "below a file" else out, dry_run=dry_run)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", *([HIDDEN] if kind == "hidden file" else [])]


def test_two_programs_at_once(things, tmp_path):
    """The second one stops at once; the first one's log is its own."""
    settings = {name: str(value) for name, value in things["finetune"].items() if name in ("model", "data")}
    words = ["finetune", "--out", tmp_path / "out", "--steps", 400, "--model", settings["model"]]
    words += ["--data", settings["data"], "--device", "cpu", "--workers", 0, "--no-tensorboard", "--log-every", 1]
    first = run_unip(*words, "--batch-size", 2)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out/log.jsonl").exists():
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        code, _, said = run_unip(*words, "--batch-size", 2).finish()
        assert code == 2 and f"in use by process {first.pid} on " in said
        assert "Traceback" not in said and first.poll() is None
    finally:
        first.kill()
        first.wait()
    steps = [json.loads(line)["step"] for line in (tmp_path / "out/log.jsonl").read_text().splitlines()[:-1]]
    assert steps == sorted(set(steps))
    with output_folder(tmp_path / "out") as outputs:  # the lock of a killed process holds nobody up
        assert outputs.state("log.jsonl") == "ours"


def test_a_split_is_not_made_over_its_own_source(things, tmp_path):
    """Its images are links to elsewhere, but its masks are its own."""
    split(**things["split"], out=tmp_path / "split")
    before = contents(tmp_path / "split")
    for data, out in (("split", "split"), ("split/../split", "split"), ("split", ".")):
        with pytest.raises(UnipError, match=r"holds the images that are to be divided|in the way"):
            split(data=tmp_path / data, out=tmp_path / out, overwrite=True)
        assert contents(tmp_path / "split") == before


def test_a_split_that_fails_leaves_the_one_before(things, tmp_path, monkeypatch):
    split(**things["split"], out=tmp_path / "split")
    before = contents(tmp_path / "split")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UnipError, match="No space left on device"):
        split(**things["split"], out=tmp_path / "split", overwrite=True)
    assert contents(tmp_path / "split") == before


def test_a_new_split_leaves_no_image_in_two_parts(things, tmp_path):
    """Not even where another call has written into one of the parts."""
    split(**things["split"], out=tmp_path / "split")
    stats(data=things["split"]["data"], out=tmp_path / "split/test/stats.json")
    split(**things["split"], out=tmp_path / "split", overwrite=True, shares=(0.6, 0.2, 0.2), seed=7)
    names = [name.split("/")[-1] for name in contents(tmp_path / "split") if "/images/" in name]
    assert len(names) == len(set(names)) == 8
    assert (tmp_path / "split/test/stats.json").exists()


@pytest.mark.parametrize("verb", TRAINED)
def test_results_in_the_folder_of_the_model_do_not_keep_an_old_model(verb, done, things, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done(verb), out)
    before = contents(out)["model/model.safetensors"]
    stats(data=things["split"]["data"], out=out / "model/stats.json")
    run(verb, {**things, verb: {**things[verb], **TRAINED[verb]}}, out, overwrite=True)
    after = contents(out)
    assert after["model/model.safetensors"] != before and "model/stats.json" in after


def test_starting_anew_follows_no_link_and_spares_other_runs(done, things, tmp_path):
    for name in ("out", "a", "out/ft-1"):
        shutil.copytree(done("finetune"), tmp_path / name)
    shutil.rmtree(tmp_path / "out/evaluation")
    (tmp_path / "out/evaluation").symlink_to(tmp_path / "a/evaluation")
    before, inner = contents(tmp_path / "a"), contents(tmp_path / "out/ft-1")
    settings = {**things["finetune"], "val": None, **TRAINED["finetune"]}
    unip.finetune(**settings, out=tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "a") == before and contents(tmp_path / "out/ft-1") == inner


@pytest.mark.parametrize("name", ["checkpoints", "pictures", "tensorboard"])
def test_a_linked_folder_of_a_run_is_told_before_any_step(name, done, things, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done("pretrain"), out)
    shutil.move(out / name, tmp_path / "disk")
    (out / name).symlink_to(tmp_path / "disk")
    before = contents(tmp_path / "disk")
    with pytest.raises(UnipError, match=rf"out/{name} is a link"):
        run("pretrain", {**things, "pretrain": {**things["pretrain"], "overwrite": False}}, out)
    assert contents(tmp_path / "disk") == before


@pytest.mark.parametrize("other", [verb for verb in FUNCTIONS if verb not in TRAINED])
@pytest.mark.parametrize("verb", TRAINED)
def test_training_does_not_start_in_what_another_command_wrote(verb, other, done, things, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done(other), out, symlinks=True)
    before = contents(out)
    for overwrite in (False, True):
        with pytest.raises(UnipError, match="holds no run"):
            run(verb, things, out, overwrite=overwrite)
        assert contents(out) == before


@pytest.mark.parametrize("verb", TRAINED)
def test_a_run_killed_while_it_is_cleared_is_still_a_run(verb, done, things, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(done(verb), out)
    shutil.rmtree(out / "checkpoints")
    shutil.rmtree(out / "model")  # as if it had ended before its first checkpoint
    remove, removed = OutputFolder._remove, []

    def killed(self, names):
        for name in names:
            removed.append(name)
            if name == "log.jsonl":
                raise KeyboardInterrupt
            remove(self, (name,))
        return []

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(OutputFolder, "_remove", killed)
        run(verb, things, out)
    assert removed and (out / "log.jsonl").exists()
    run(verb, things, out)
    assert (out / "model/model.safetensors").exists()


@pytest.mark.parametrize("environment", [{"RANK": ""}, {"RANK": "x"}, {"RANK": "1"}, {"RANK": "1", "WORLD_SIZE": "1"}])
def test_a_rank_left_in_the_environment_is_none(environment, things, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with run_folder(FinetuneConfig.make(**things["finetune"], out=tmp_path / "out")) as folder:
        assert folder.outputs.lock is not None
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with run_folder(FinetuneConfig.make(**things["finetune"], out=tmp_path / "out")) as folder:
        assert folder.outputs.lock is None


def test_a_finished_run_whose_model_card_was_edited_is_still_done(done, things, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done("finetune"), out)
    shutil.rmtree(out / "checkpoints")
    (out / "model/README.md").write_text("mine")
    run("finetune", things, out)
    assert (out / "model/README.md").read_text() == "mine"
