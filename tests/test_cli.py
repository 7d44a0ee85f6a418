"""The command line as people use it: help, recipes, and one clear message for each kind of bad input."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import unip
from unip import cli
from unip.data.manifests.rows import SCHEMA
from unip.vit.architecture import BackboneSpec
from unip.vit.spec import build_backbone

VERBS = [
    "analyze",
    "pretrain",
    "finetune",
    "evaluate",
    "predict",
    "bench",
    "demo",
    "data build",
    "data scenes",
    "data thermal-sdk",
]
TINY = ["--batch-size", "2", "--device", "cpu", "--workers", "0", "--no-tensorboard"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch, capfd) -> Run:
    """Call the command line in this process; gives exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unip", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Frames, a labelled folder, a teacher, and a fine-tuned model."""
    root = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    (root / "frames").mkdir()
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 48), dtype=np.uint8)).save(root / "frames" / f"{number}.png")
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (root / "labelled" / split / kind).mkdir(parents=True)
        for number in range(2):
            frame, mask = rng.integers(0, 256, (32, 40), dtype=np.uint8), np.zeros((32, 40), np.uint8)
            mask[8:20, 8:20] = 1
            Image.fromarray(frame).save(root / "labelled" / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / "labelled" / split / "masks" / f"{number}.png")
    (root / "labelled" / "classes.json").write_text(json.dumps({"names": ["background", "hot"], "ignore_index": 255}))
    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 64, "depth": 3, "num_heads": 1}
    torch.manual_seed(0)
    save_file(build_backbone(BackboneSpec(arguments=arguments)).state_dict(), root / "teacher.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        words = ["unip", "finetune", "--model", "unip_micro", "--data", root / "labelled", "--out", root / "model"]
        words += ["--steps", 1, "--crop", 32, "--base", 40, 32, "--decoder", "light", "--channels", 8, *TINY]
        patch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main()
    return root


@pytest.fixture
def place(made, tmp_path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "place"))


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# Help and recipes -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")  # our main() reads sys.argv
@pytest.mark.parametrize("verb", ["", *VERBS, "data"])
def test_help(run, verb):
    code, out, err = run(*verb.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Usage: unip {verb}".strip() in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_in_the_help_has_a_description(run, verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    _, out, _ = run(*verb.split(), "--help")
    settings = [line.strip("│ ") for line in out.splitlines() if "--" in line and "Usage" not in line]
    assert any("--dry-run" in line for line in settings) or verb == "demo"
    for line in settings:
        described = re.sub(r"\[.*", "", re.split(r"\s{2,}", line, maxsplit=1)[-1])
        assert re.search(r"[a-z]{3}", described), line


def test_a_list_without_a_value(run):
    code, out, err = run("evaluate", "model", "data", "--corruption")
    assert (code, out) == (2, "")
    assert "--corruption requires at least 1 element" in err


def test_version(run):
    assert run("--version") == (0, f"{unip.__version__}\n", "")


def pretraining(place: Path, *more: object) -> list[object]:
    words = ["pretrain", "--teacher", place / "teacher.safetensors", "--data", place / "frames"]
    return [*words, "--student", "unip_micro", "--size", 32, "--teacher-layer", 2, "--steps", 1, *TINY, *more]


def test_a_recipe_gives_settings_and_options_win_over_it(run, place, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    values = {
        "teacher": str(place / "teacher.safetensors"),
        "data": [str(place / "frames")],
        "student": "unip_micro",
        "teacher_layer": 2,
        "size": 32,
        "steps": 5,
        "batch_size": 2,
        "seed": 7,
        "device": "cpu",
        "workers": 0,
        "tensorboard": False,
        "out": str(tmp_path / "from_recipe"),
    }
    recipe.write_text(yaml.safe_dump(values))
    code, _, err = run("pretrain", "--config", recipe, "--steps", 1, "--out", tmp_path / "run")
    assert code == 0, err
    used = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (used["steps"], used["seed"], used["batch_size"]) == (1, 7, 2)
    assert not (tmp_path / "from_recipe").exists()
    # the file that a run writes is a recipe itself
    code, _, err = run("--config", tmp_path / "run" / "config.yaml", "pretrain", "--out", tmp_path / "again")
    assert code == 0, err
    again = yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())
    assert {**again, "out": None} == {**used, "out": None}


def test_one_runs_recipe_does_not_reach_the_next_call(run, place, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 7\n")
    run("--config", recipe, *pretraining(place, "--out", tmp_path / "a", "--dry-run"))
    run(*pretraining(place, "--out", tmp_path / "b"))
    assert yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())["seed"] == 0


# Bad input --------------------------------------------------------------------------------------------------------


def without_progress(err: str) -> str:
    return "".join(line for line in err.splitlines(keepends=True) if not re.match(r".+: \d+/\d+ \w+, ETA ", line))


@pytest.fixture
def refused(run, place, tmp_path) -> Callable[..., str]:
    """Check that a call gives one message and exit code 2, and leaves every file as it was; gives the message."""

    def check(*words: object, names: object, advice: str) -> str:
        before = tree(tmp_path)
        code, _, err = run(*words)
        assert code == 2
        err = without_progress(err)
        assert "Traceback" not in err
        assert err.startswith("error: "), err
        assert err.count("error: ") == 1
        assert str(names) in err
        assert advice in err
        assert tree(tmp_path) == before
        return err

    return check


def test_unknown_key_in_a_recipe_names_the_nearest(refused, place, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("stepz: 3\n")
    message = refused(
        "--config", recipe, *pretraining(place, "--out", "x"), names=recipe, advice="Did you mean 'steps'?"
    )
    assert "unknown setting 'stepz'" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [("steps: [", "is not valid YAML"), ("- steps\n", "must hold `key: value` lines"), (None, "cannot read")],
)
def test_a_damaged_recipe(refused, place, tmp_path, text, words):
    recipe = tmp_path / "recipe.yaml"
    if text is not None:
        recipe.write_text(text)
    refused("--config", recipe, *pretraining(place, "--out", "x"), names=recipe, advice=words)


def test_a_recipe_with_a_value_that_does_not_fit(refused, place, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: many\n")
    refused("--config", recipe, *pretraining(place, "--out", "x"), names="seed", advice="many")


@pytest.mark.parametrize(
    ("words", "names", "advice"),
    [
        (["pretrain", "--stepz", "3"], "--", "See --help"),
        (["nothing"], 'Unknown command "nothing"', "pretrain"),
        (["predict"], "--", "See --help"),
        (["predict", "model", "images", "--alpha", "7"], "alpha", "less than or equal to 1"),
        (["predict", "model", "images", "--batch-size", "many"], "many", "See --help"),
    ],
)
def test_bad_options(refused, words, names, advice):
    refused(*words, names=names, advice=advice)


def test_an_unknown_option_names_the_nearest(refused, place):
    refused(*pretraining(place, "--out", "x", "--sed", 3), names="--sed", advice="--seed")


@pytest.mark.parametrize(
    "words",
    [
        ["analyze", "TEACHER", "--images", "MISSING", "--out", "OUT"],
        ["pretrain", "--teacher", "TEACHER", "--data", "MISSING", "--out", "OUT"],
        ["finetune", "--model", "unip_micro", "--data", "MISSING", "--out", "OUT"],
        ["evaluate", "MODEL", "MISSING", "--out", "OUT"],
        ["evaluate", "MISSING", "LABELLED", "--out", "OUT"],
        ["predict", "MODEL", "MISSING", "--out", "OUT"],
        ["predict", "MISSING", "FRAMES", "--out", "OUT"],
        ["data", "build", "MISSING", "--out", "OUT"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
@pytest.mark.parametrize("dry_run", [False, True], ids=["", "dry run"])
def test_a_missing_folder(refused, place, words, dry_run):
    known = {
        "TEACHER": place / "teacher.safetensors",
        "MODEL": place / "model",
        "FRAMES": place / "frames",
        "LABELLED": place / "labelled",
        "MISSING": place / "missing",
        "OUT": place / "out",
    }
    words = [known.get(word, word) for word in words] + ["--dry-run"] * dry_run
    refused(*words, names=place / "missing", advice="")


def truncate(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[:-300])
    return file


def test_a_truncated_image(refused, place):
    file = truncate(place / "frames" / "1.png")
    refused(*pretraining(place, "--out", place / "out"), names=file, advice="truncated")


def test_a_truncated_image_among_those_to_build(run, place):
    """The others are built, and it is listed."""
    file = truncate(place / "frames" / "1.png")
    code, out, _ = run("data", "build", place / "frames", "--out", place / "out")
    assert code == 0
    assert f"left out: {file} unreadable: image file is truncated" in out.replace("\n", "")
    assert (place / "out/manifest.parquet").is_file()


def test_a_truncated_image_among_those_to_analyze(run, place):
    """The others are measured, and it is listed."""
    file = truncate(place / "frames" / "1.png")
    teacher = place / "teacher.safetensors"
    code, out, _ = run("analyze", teacher, "--images", place / "frames", "--out", place / "out", "--no-report")
    assert code == 0
    assert f"skipped: image {file} is truncated" in out.replace("\n", "")
    assert (place / "out/measures.parquet").is_file()


def test_a_truncated_image_among_those_to_segment(run, place):
    """The others are segmented all the same, and the message says so."""
    file = truncate(place / "frames" / "1.png")
    code, _, err = run("predict", place / "model", place / "frames", "--out", place / "out", "--device", "cpu")
    err = without_progress(err)
    assert code == 2
    assert err.startswith(f"error: 1 of 3 images could not be read:\n  image {file} is truncated")
    assert err.endswith("All others were segmented.\n")
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert sorted(path.name for path in (place / "out" / "masks").iterdir()) == ["0.png", "2.png"]
    assert not list((place / "out").rglob(".unip/tmp"))


def finetuning(place: Path, *more: object) -> list[object]:
    words = ["finetune", "--model", "unip_micro", "--data", place / "labelled", "--out", place / "out"]
    return [*words, "--steps", 1, "--crop", 32, "--base", 40, 32, "--decoder", "light", *TINY, *more]


def evaluating(place: Path) -> list[object]:
    return ["evaluate", place / "model", place / "labelled", "--out", place / "out", "--device", "cpu"]


SPLITS = [(finetuning, "train"), (evaluating, "test")]


@pytest.mark.parametrize(("words", "split"), SPLITS, ids=["finetune", "evaluate"])
def test_a_truncated_labelled_image(refused, place, words, split):
    refused(*words(place), names=truncate(place / "labelled" / split / "images" / "1.png"), advice="truncated")


@pytest.mark.parametrize(("words", "split"), SPLITS, ids=["finetune", "evaluate"])
def test_a_mask_with_an_unknown_id(refused, place, words, split):
    file = place / "labelled" / split / "masks" / "1.png"
    Image.fromarray(np.full((32, 40), 9, np.uint8)).save(file)
    message = refused(*words(place), names=file, advice="classes.json")
    assert "9" in message


@pytest.mark.parametrize(("words", "split"), SPLITS, ids=["finetune", "evaluate"])
def test_a_mask_of_another_size(refused, place, words, split):
    file = place / "labelled" / split / "masks" / "1.png"
    Image.fromarray(np.zeros((16, 20), np.uint8)).save(file)
    message = refused(*words(place), names=file, advice="20x16")
    assert "40x32" in message


@pytest.mark.parametrize("verb", ["analyze", "pretrain", "finetune"])
def test_a_checkpoint_of_another_width(refused, place, verb):
    source = f"timm:vit_tiny_patch16_224@{place / 'teacher.safetensors'}"
    message = refused(*with_backbone(place, verb, source), names=place / "teacher.safetensors", advice="192")
    assert "64 wide, but the model is 192 wide" in message


def with_backbone(place: Path, verb: str, source: object) -> list[object]:
    if verb == "analyze":
        return ["analyze", source, "--images", place / "frames", "--out", place / "out"]
    if verb == "finetune":
        words = ["finetune", "--model", source, "--data", place / "labelled", "--out", place / "out"]
        return [*words, "--steps", 1, "--crop", 32, *TINY]
    return ["pretrain", "--teacher", source, "--data", place / "frames", "--out", place / "out", "--steps", 1, *TINY]


class Villain:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("verb", ["analyze", "pretrain", "finetune"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(refused, place, verb):
    proof = place / "it_ran"
    torch.save({"model": Villain(proof)}, place / "villain.pth")
    torch.load(place / "villain.pth", weights_only=False)
    assert proof.exists()  # it is dangerous: loaded without care, it does run
    proof.rmdir()
    message = refused(*with_backbone(place, verb, place / "villain.pth"), names=place / "villain.pth", advice="mkdir")
    assert "nothing was run" in message
    assert not proof.exists()


@pytest.mark.parametrize("verb", ["analyze", "pretrain", "finetune"])
def test_nan_in_a_checkpoint(refused, place, verb):
    state = load_file(place / "teacher.safetensors")
    state["blocks.1.attn.qkv.weight"][0, 0] = float("nan")
    file = place / "nan.safetensors"
    save_file(state, file)
    refused(*with_backbone(place, verb, file), names=file, advice="blocks.1.attn.qkv.weight holds NaN or infinity")


def test_a_teacher_layer_out_of_range(refused, place):
    words = [*with_backbone(place, "pretrain", place / "teacher.safetensors"), "--teacher-layer", 4]
    refused(*words, names="layer 4 is out of range", advice="this model has layers 1 to 3")


def test_a_patch_grid_that_cannot_match(refused, place):
    words = [*with_backbone(place, "pretrain", place / "teacher.safetensors"), "--teacher-layer", 2, "--size", 40]
    words += ["--student", "unip_micro"]
    refused(*words, names="patch grids cannot match", advice="Choose --size as a multiple of 16.")


@pytest.mark.parametrize("verb", ["analyze", "pretrain", "data build"])
def test_an_empty_manifest(refused, place, verb):
    file = place / "empty.parquet"
    pq.write_table(SCHEMA.empty_table(), file)
    words = {
        "analyze": ["analyze", place / "teacher.safetensors", "--images", file, "--out", place / "out"],
        "pretrain": ["pretrain", "--teacher", place / "teacher.safetensors", "--data", file, "--out", place / "out"],
        "data build": ["data", "build", file, "--out", place / "out"],
    }[verb]
    refused(*words, names=file, advice="Build it from a folder that holds images.")


def every_writing_verb(place: Path, out: Path) -> dict[str, list[object]]:
    at = ["--out", out]
    return {
        "analyze": ["analyze", place / "teacher.safetensors", "--images", place / "frames", *at],
        "pretrain": pretraining(place, *at),
        "finetune": [out if word == place / "out" else word for word in finetuning(place)],
        "evaluate": ["evaluate", place / "model", place / "labelled", *at, "--device", "cpu"],
        "predict": ["predict", place / "model", place / "frames", *at, "--device", "cpu"],
        "data build": ["data", "build", place / "frames", *at],
        "data scenes": ["data", "scenes", *at, "--count", 1, "--size", 64, 64],
    }


WRITING = ["analyze", "pretrain", "finetune", "evaluate", "predict", "data build", "data scenes"]


@pytest.mark.parametrize("verb", WRITING)
def test_an_output_that_cannot_be_written(run, place, tmp_path, verb):
    words = every_writing_verb(place, place / "teacher.safetensors" / "out")[verb]
    before = tree(tmp_path)
    code, _, err = run(*words)
    err = without_progress(err)
    assert code == 2
    assert "Traceback" not in err
    assert err.startswith("error: "), err
    assert err.count("error: ") == 1
    assert str(place / "teacher.safetensors" / "out") in err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "analyze"])
def test_a_full_disk(run, place, monkeypatch, verb):
    def no_space(self, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", no_space)
    monkeypatch.setattr(Path, "write_text", no_space)
    words = every_writing_verb(place, place / "out")[verb]
    code, _, err = run(*words)
    assert code == 2
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    assert f"error: cannot write {place / 'out'}" in err
    assert "No space left on device" in err
    assert "Free some space" in err
    assert not list(place.rglob(".unip/tmp/*"))  # nothing half-written is left


# Interrupts and exit codes ----------------------------------------------------------------------------------------


def test_ctrl_c(run, monkeypatch, place):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("unip.deployment.verbs.predict", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background start with it ignored
    try:
        code, _, err = run("predict", place / "model", place / "frames")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, err) == (130, "interrupted\n")


def test_sigterm_ends_like_ctrl_c():
    """Also where no training listens to it."""
    act = "import os, signal, types; from unip import cli; "
    act += "cli.app = types.SimpleNamespace(meta=lambda **k: os.kill(os.getpid(), signal.SIGTERM)); cli.main()"
    done = subprocess.run([sys.executable, "-c", act], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("command", [[str(Path(sys.executable).with_name("unip"))], [sys.executable, "-m", "unip"]])
def test_the_exit_code_of_the_process(tmp_path, command):
    if not Path(command[0]).exists():
        pytest.skip("the program is not installed")
    done = subprocess.run(
        [*command, "data", "build", str(tmp_path / "missing"), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: no such folder or image: {tmp_path / 'missing'}\nCheck the path.\n"
    assert list(tmp_path.iterdir()) == []


def test_epochs_on_the_command_line_win_over_a_recipes_steps(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr("unip.pretraining.verbs.pretrain", taken.append)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"teacher: a\ndata: [b]\nout: {tmp_path / 'run'}\nsteps: 1200\nbatch_size: 8\n")
    for options in ([], ["--epochs", "20"], ["--epochs", "20", "--steps", "7"]):
        cli.app.meta(["pretrain", "--config", str(recipe), *options], exit_on_error=False, result_action="return_value")
    assert [(config.steps, config.epochs) for config in taken] == [(1200, None), (0, 20), (7, 20)]
    assert [config.count_steps(16) for config in taken] == [1200, 40, 7]


@pytest.mark.parametrize("call", [0, 1])
def test_ctrl_c_in_a_destructor_stops_too(call):
    """Python only prints what a destructor raises, and would go on for hours."""
    script = (
        "import os, signal, sys, time, types, gc, weakref\n"
        "from unip import cli\n"
        "class Thing:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1)\n"
        "def work(**_):\n"
        "    thing = Thing()\n"
        "    if sys.argv[1] == '0': del thing\n"
        "    else: thing.loop = thing; del thing; gc.collect()\n"
        "    time.sleep(300)\n"
        "cli.app = types.SimpleNamespace(meta=work)\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(call)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130 and done.stderr.strip() == "interrupted"


def test_a_list_takes_several_values_whatever_was_listed_before(run):
    """Outside of a call, the settings are listed without the defaults of the command line."""
    (before,) = [one for one in cli.app["evaluate"].assemble_argument_collection() if "--corruption" in one.names]
    assert not before.parameter.consume_multiple
    assert "at least 1 element" in run("evaluate", "model", "data", "--corruption")[2]
    assert "no/model" in run("evaluate", "no/model", "data", "--corruption", "fog", "rain")[2]
